"""The console's own pages outside of Streamlit: the form to sign in, and why nobody is let in. No script."""

from __future__ import annotations

import re
from html import escape
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from core.doors.plain_page import page

LOGIN: Final = "/login"
LOGOUT: Final = "/logout"

# The colours are the console's own, as `.streamlit/config.toml` has them.
_STYLE: Final = """
:root{color-scheme:light dark;--paper:#f3f5f4;--card:#fff;--ink:#1b2530;--soft:#4a5763;--line:#8b9892;
--act:#0f6b5c;--on-act:#fff;--bad:#a32018;--bad-paper:#fbecea}
@media(prefers-color-scheme:dark){:root{--paper:#0d1116;--card:#12171d;--ink:#e4e9ee;--soft:#a9b5c1;--line:#5b6874;
--act:#5fcdb4;--on-act:#08201b;--bad:#ff9d94;--bad-paper:#2f1a19}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;min-height:100vh;display:flex;align-items:center;justify-content:center;padding:1rem}
main{background:var(--card);border:1px solid var(--line);border-radius:.6rem;max-width:26rem;width:100%;padding:1.75rem}
h1{font-size:1.35rem;line-height:1.25;margin:0 0 1rem}
p{margin:0 0 1rem;overflow-wrap:anywhere}main>:last-child{margin-bottom:0}
label{display:block;font-weight:600;margin:0 0 .25rem}
input{display:block;width:100%;font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);
border-radius:.4rem;padding:.55rem .7rem;margin:0 0 1rem}
button,.other{display:block;width:100%;font:inherit;font-weight:600;border-radius:.4rem;padding:.65rem 1rem;
cursor:pointer}
button{background:var(--act);color:var(--on-act);border:0}
a{color:var(--act)}
.other{border:1px solid var(--act);text-align:center;text-decoration:none;margin:1rem 0 0;overflow-wrap:anywhere}
input:focus-visible,button:focus-visible,a:focus-visible{outline:.1875rem solid var(--act);outline-offset:.125rem}
.bad{color:var(--bad);background:var(--bad-paper);border-left:.25rem solid var(--bad);padding:.6rem .8rem}
.soft{color:var(--soft);font-size:.9rem;margin:1rem 0 0}
code{overflow-wrap:anywhere}
"""


class Other(NamedTuple):
    """Another way in than by password: whose accounts, and the address that leads there."""

    name: str
    address: str


def local_path(text: str | None) -> str:
    """Where to go after signing in: a path of this console as it was asked for, else its first page."""
    path = text or "/"
    odd = not path.startswith("/") or path[1:2] in ("/", "\\") or len(path) > 2_000
    if odd or "\\" in path or not path.isprintable():
        return "/"
    first = urlsplit(path).path
    return "/" if first in (LOGIN, LOGOUT) or first.startswith(f"{LOGIN}/") else path


def login_at(path: str) -> str:
    """The form's address, from which it leads to `path`."""
    to = local_path(path)
    return LOGIN if to == "/" else f"{LOGIN}?next={quote(to, safe='/')}"


def form(*, to: str, name: str = "", wrong: str = "", other: Other | None = None) -> str:
    """The form; `to` is where it leads, `wrong` what was wrong with the last try."""
    said = f'<p class="bad" role="alert">{escape(wrong)}</p>' if wrong else ""
    # A link: what follows a form is held against `form-action`, and the provider is elsewhere.
    way = f'<a class="other" href="{escape(other.address)}">Sign in with {escape(other.name)}</a>' if other else ""
    first, second = ("", " autofocus") if name else (" autofocus", "")
    return _page(
        "Sign in",
        f"""
<h1>Sign in to the CAPI console</h1>
{said}
<form method="post" action="{LOGIN}">
<input type="hidden" name="next" value="{escape(to)}">
<label for="name">Name</label>
<input id="name" name="name" value="{escape(name)}" autocomplete="username" autocapitalize="none" spellcheck="false"
 maxlength="64" required{first}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" maxlength="1000" required{second}>
<button type="submit">Sign in</button>
</form>
{way}
<p class="soft">Forgotten it? An admin gives you another password.</p>
""",
    )


def not_signed_in(what: str, do: str) -> str:
    """Signing in elsewhere came to nothing: what happened, and what to do."""
    return _page(
        "You are not signed in",
        f"""
<h1>You are not signed in</h1>
<p>{_prose(what)}.</p>
<p>{_prose(do)}.</p>
<p><a href="{LOGIN}">Back to the form</a></p>
""",
    )


def nobody_yet() -> str:
    """Reached from elsewhere while there are no operators."""
    return _page(
        "Nobody can sign in yet",
        """
<h1>Nobody can sign in yet</h1>
<p>This console has no operators and therefore answers its own machine only. Make the first one there:</p>
<p><code>capi-console operator add NAME --role admin</code></p>
""",
    )


def away() -> str:
    return _page(
        "Not available right now",
        """
<h1>Nobody can be let in right now</h1>
<p>The console cannot ask its database who you are. Nothing is lost meanwhile; try again in a minute.</p>
<p class="soft">On the server, <code>capi-console doctor</code> says what is wrong.</p>
""",
    )


def from_elsewhere() -> str:
    return _page(
        "This did not come from the console",
        f"""
<h1>This did not come from the console</h1>
<p>The form was sent by another page, so nothing was done. <a href="{LOGIN}">Sign in here</a>.</p>
""",
    )


def _prose(words: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words))


def _page(title: str, body: str) -> str:
    # A browser that is told of no icon asks for one, as a stranger.
    return page(f"{title} · CAPI console", body, style=_STYLE, more='<link rel="icon" href="data:,">')
