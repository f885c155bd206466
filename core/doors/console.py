"""What all pages share: who is there, the database, the menu, the reader's clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import NoReturn

import streamlit as st
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from core import clock, logs
from core.desk import zones
from core.desk.operators import Operator
from core.doors import console_answers, console_reach
from core.doors.console_login_page import LOGIN, LOGOUT
from core.doors.console_server import ROOT, hush, serve
from core.errors import BadInput, CoreError, Forbidden, SettingsError, StoreError
from core.services import sign_in
from core.services.policy import Policy
from core.settings import Settings, load
from core.store import database, migrate


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the menu; the empty `url_path` is where people arrive. `sandbox`: not beside Meta itself."""

    file: str
    title: str
    icon: str
    url_path: str
    sandbox: bool = False


MENU: dict[str, tuple[Entry, ...]] = {
    "Watch": (
        Entry("overview.py", "Overview", ":material/monitoring:", ""),
        Entry("find.py", "Find", ":material/search:", "find"),
        Entry("tokens.py", "Token health", ":material/key:", "tokens"),
        Entry("refresh_history.py", "Refresh history", ":material/history:", "refresh-history"),
    ),
    "Act": (
        Entry("failed_events.py", "Failed events", ":material/outbox:", "failed-events"),
        Entry("reconnect.py", "Reconnect", ":material/link:", "reconnect"),
        Entry("jobs.py", "Jobs", ":material/checklist:", "jobs"),
    ),
    "Set up": (
        Entry("apps.py", "Apps", ":material/storefront:", "apps"),
        Entry("system.py", "System", ":material/settings:", "system"),
        Entry("people.py", "People & audit", ":material/group:", "people"),
    ),
    "Sandbox": (Entry("sandbox.py", "Sandbox", ":material/hearing:", "sandbox", sandbox=True),),
}

_STYLE = """<style>
.stMainBlockContainer { padding: 1.6rem 2.6rem 3rem }
.stMainBlockContainer h1 { padding: .2rem 0 }
[data-testid="stHeader"] { background: transparent; pointer-events: none }
[data-testid="stHeader"] > * { pointer-events: auto }
[data-testid="stSidebarHeader"]::before { content: "CAPI console"; font-weight: 650; font-size: 1.05rem }
[data-testid="stMetric"] { padding: .8rem 1rem .6rem }
.st-key-rescue, .st-key-calm { border-left: 4px solid #2f9568; padding-left: 1rem; margin-bottom: .4rem }
.st-key-rescue { border-color: #c0392b }
[class*="st-key-incident-"] { border: 1px solid #c0392b; border-left-width: 4px; border-radius: .4rem;
  background: rgba(192, 57, 43, .07); padding: .8rem 1rem; margin-bottom: .4rem }
.sign-out button { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor;
  border-radius: .4rem; padding: .2rem .7rem; cursor: pointer; font-size: .875rem }
.sign-out button:focus-visible { outline: 2px solid currentColor; outline-offset: 2px }
time { cursor: help; border-bottom: 1px dotted currentColor }
time:focus::after { content: " (" attr(title) ")" }
.times { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums }
.times th { text-align: left; font-weight: 400; opacity: .8; padding: .1rem 1.2rem .1rem 0 }
</style>"""
# Beside the buttons that are closed to somebody, once for all pages.
_WHY_CLOSED = {
    "viewer": "You may look. Orders are for support, settings for admins: their buttons are closed to you.",
    "support": "Tokens, apps and operators are for admins: those buttons are closed to you.",
}
# A form of its own: the cookie is taken back by an answer to the browser, which no button of Streamlit's gets.
_SIGN_OUT = f'<form class="sign-out" method="post" action="{LOGOUT}"><button type="submit">Sign out</button></form>'


def run(settings: Settings) -> None:
    """Serve the console until it is stopped; SettingsError when its address cannot be used."""
    logs.keep_out(settings.secrets())
    serve(settings)


def operator() -> Operator:
    """Who is there, asked of the database in every run; nobody passes while it cannot be used."""
    with looking() as conn:
        found = sign_in.who(conn, _cookie(), now=clock.now())
    if found is None:
        _stop_signed_out()
    return found if found is sign_in.LOCAL else SignedIn(found.name, found.role)


class SignedIn(Operator):
    """Who was there when the page was drawn. A button keeps them until it is pressed: then the database is asked
    who is there now, and what their role is."""

    __slots__ = ()

    def must(self, order: str) -> None:
        with looking() as conn:
            found = sign_in.who(conn, _cookie(), now=clock.now())
        if found is None or found.name != self.name:
            raise Forbidden(f"{self.name} is not signed in any more")
        found.must(order)


def _cookie() -> str | None:
    """The session of the browser behind this run; a page that is run without one (AppTest) has none."""
    host = console_reach.plain_name(str(st.context.headers.get("host") or ""))
    found: object = st.context.cookies.get(console_answers.cookie_name(host, settings()))
    return found if isinstance(found, str) else None


@st.cache_resource(show_spinner=False)
def settings() -> Settings:
    found = load()
    logs.keep_out(found.secrets())
    logs.setup(found.log_level)
    logs.adopt_foreign_handlers()
    hush()
    return found


def engine() -> Engine:
    """The database, migrated or checked once a process; StoreError says what to do."""
    return _engine(settings().database_url)


@st.cache_resource(show_spinner=False)
def _engine(database_url: str) -> Engine:
    opened = database.open_engine(database_url)
    migrate.prepare(opened, settings().encryption_keys)
    return opened


@contextmanager
def looking() -> Iterator[Connection]:
    """A consistent view of the database; when it goes away meanwhile the page says so instead of failing."""
    try:
        with database.reading(engine()) as conn:
            yield conn
    except DBAPIError as error:
        words = str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__
        _stop_with(StoreError(f"the database does not answer as it should ({words})"))
    except CoreError as error:
        _stop_with(error)


def horizon() -> dict[str, timedelta]:
    """How far ahead `Expiring soon` and `Renewing` reach, as the queries take it."""
    policy = Policy.of(settings())
    return {"soon": policy.soon, "window": policy.window}


def _stop_with(error: CoreError) -> NoReturn:
    st.title("The console cannot see its database" if not isinstance(error, SettingsError) else "A setting is wrong")
    st.error("Nothing can be shown until this is put right. Nothing is lost meanwhile.", icon=":material/database:")
    st.code(logs.redact(str(error)), language=None, wrap_lines=True)
    st.caption("Check DATABASE_URL and that the database runs; a new version needs `capi-console migrate` first.")
    st.button("Look again", type="primary")
    st.stop()


def _stop_signed_out() -> NoReturn:
    """The door lets no such page through; this is for a session that ends while the script runs."""
    st.title("You are signed out")
    st.html(f'<a href="{LOGIN}" target="_self">Sign in again</a>')
    st.stop()


def style() -> None:
    st.html(_STYLE)


def frame() -> None:
    """What stands beside every page: who is signed in, and the clock, in the reader's zone and in UTC."""
    now = clock.now()
    who = operator()
    with st.sidebar:
        if who is not sign_in.LOCAL:
            st.text(f"{who.name}, {who.role}")
            if words := _WHY_CLOSED.get(who.role):
                st.caption(words)
            st.html(_SIGN_OUT)
        st.caption(f"Times are local ({zone_name()}).  \n{local(now):%H:%M} here is {now:%H:%M} UTC.")


def zone() -> tzinfo:
    """The reader's time zone, as their browser names it; UTC where it names none that is known here."""
    try:
        return zones.zone_of(st.context.timezone or "UTC")
    except BadInput:
        return UTC


def zone_name() -> str:
    return str(zone())


def local(moment: datetime) -> datetime:
    """A moment on the reader's clock."""
    return moment.astimezone(zone())


def span(length: timedelta) -> str:
    """`5 h 10 min`, `2 d 4 h`; `now` for what is over."""
    minutes = int(length.total_seconds() // 60)
    if minutes < 1:
        return "now" if minutes < 0 else "less than a minute"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (0 if days else minutes, "min")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def page(url_path: str) -> Path:
    """The file of a page, for links to it."""
    entries = (entry for group in MENU.values() for entry in group)
    return next(ROOT / "pages" / entry.file for entry in entries if entry.url_path == url_path)
