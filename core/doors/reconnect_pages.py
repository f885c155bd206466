"""What a merchant sees: small pages without script, picture or anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from html import escape
from typing import Final

from core.desk import case_words
from core.doors.plain_page import page
from core.services.reconnect import View

_STYLE: Final = """
:root{color-scheme:light dark;--paper:#f4f5f7;--card:#fff;--ink:#1c2430;--soft:#566072;--line:#d9dee6;
--act:#0b57d0;--on-act:#fff;--note:#fdf0e3;--note-line:#c8690b}
@media(prefers-color-scheme:dark){:root{--paper:#12161c;--card:#1b212a;--ink:#e9edf3;--soft:#a7b1c0;--line:#333c49;
--act:#8ab4f8;--on-act:#0c1a30;--note:#33271a;--note-line:#e59a4b}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:1.0625rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;min-height:100vh;display:flex;align-items:center;justify-content:center;padding:1rem}
main{background:var(--card);border:1px solid var(--line);border-radius:.75rem;max-width:34rem;width:100%;
padding:1.75rem}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .75rem;overflow-wrap:anywhere}
p{margin:0 0 1rem;overflow-wrap:anywhere}main>:last-child{margin-bottom:0}
.note{background:var(--note);border-left:.25rem solid var(--note-line);padding:.75rem 1rem;border-radius:.25rem}
.soft{color:var(--soft);font-size:.9375rem}
button,.button{display:block;width:100%;font:inherit;font-weight:600;text-align:center;text-decoration:none;
background:var(--act);color:var(--on-act);border:0;border-radius:.5rem;padding:.85rem 1rem;margin:0 0 1rem;
cursor:pointer}
button:focus-visible,.button:focus-visible{outline:.1875rem solid var(--ink);outline-offset:.1875rem}
button:hover,.button:hover{filter:brightness(1.08)}
@media(max-width:30rem){main{padding:1.25rem}h1{font-size:1.3125rem}}
"""
STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def invitation(view: View, *, action: str) -> str:
    """The one page of a link that works: what was lost, and the button."""
    note = f'<p class="note" role="status">{escape(_refusal(view))}</p>' if view.refused else ""
    button = "Try again with Facebook" if view.refused else "Continue with Facebook"
    body = f"""
<h1>Connect Facebook again</h1>
{note}
<p>{_shops(view)} can no longer report visits and orders to Facebook: {escape(case_words.why(view.failure))}.</p>
<p>What your customers do is kept for seven days and sent as soon as you are connected again.</p>
<form method="post" action="{escape(action)}"><button type="submit">{button}</button></form>
<p class="soft">You log in at facebook.com; we never see your password. Please use the same Facebook account as before
and leave all permissions switched on. This link works once, until {escape(_day(view.ends_at))}.</p>
"""
    return _page("Connect Facebook again", body)


def connected(view: View) -> str:
    """The thanks page, and what a link says that was used."""
    which = f"<p>{_shops(view)} can report visits and orders to Facebook.</p>" if view.shops else ""
    body = f"""
<h1>Thank you: Facebook is connected</h1>
{which}
<p>What had to wait is being sent now. There is nothing left to do here; you can close this page.</p>
<p class="soft">This link has done its work and cannot be used again.</p>
"""
    return _page("Facebook is connected", body)


def unusable() -> str:
    """For every link that cannot be used, whatever the reason."""
    body = """
<h1>This link cannot be used</h1>
<p>It may be too old (a link works for seven days), a newer one may have taken its place, or a part of it may have got
lost on its way.</p>
<p>Please open the link of the newest message from us once more, or ask us for a new one.</p>
"""
    return _page("This link cannot be used", body)


def no_login(action: str | None) -> str:
    """Facebook sent somebody back whose login is not waited for."""
    way = f'<p><a class="button" href="{escape(action)}">Back to the connection</a></p>' if action else ""
    body = f"""
<h1>This login could not be finished here</h1>
<p>It took longer than a quarter of an hour, it was used already, or it was begun in another browser. Nothing is
lost.</p>
<p>Please open the link from our message again, and log in with the same browser.</p>
{way}
"""
    return _page("This login could not be finished", body)


def too_often() -> str:
    body = "<h1>One moment, please</h1><p>This link was used very often just now. Please try again in a minute.</p>"
    return _page("One moment, please", body)


def unavailable() -> str:
    body = """
<h1>We cannot do this right now</h1>
<p>This is a trouble on our side. Please open the link from our message again in a few minutes.</p>
"""
    return _page("Not available right now", body)


def _page(title: str, body: str) -> str:
    return page(title, body, style=_STYLE)


def _shops(view: View) -> str:
    return f"<strong>{escape(case_words.listed(view.shops))}</strong>"


def _refusal(view: View) -> str:
    return case_words.refused(view.refused or "", view.refused_words)


def _day(moment: datetime) -> str:
    return case_words.day(moment)
