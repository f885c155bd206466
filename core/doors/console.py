"""What all pages share: who is there, the database, choosing rows, confirming, following jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha1
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import streamlit as st
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from core import clock, logs
from core.desk import frames, queries
from core.desk.operators import Operator
from core.doors.console_server import serve
from core.errors import CoreError, SettingsError, StoreError
from core.services.policy import Policy
from core.settings import Settings, load
from core.store import database, migrate

PAGE_ROWS = 200
_LIVE, _CALM = 1.0, 10.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the menu; the empty `url_path` is where people arrive."""

    file: str
    title: str
    icon: str
    url_path: str


MENU: dict[str, tuple[Entry, ...]] = {
    "Watch": (
        Entry("overview.py", "Overview", ":material/monitoring:", ""),
        Entry("tokens.py", "Token health", ":material/key:", "tokens"),
        Entry("refresh_history.py", "Refresh history", ":material/history:", "refresh-history"),
    ),
    "Act": (
        Entry("failed_events.py", "Failed events", ":material/outbox:", "failed-events"),
        Entry("jobs.py", "Jobs", ":material/checklist:", "jobs"),
    ),
}

_STYLE = """<style>
[data-testid="stMetricLabel"] p { font-size: .8rem; opacity: .8 }
[data-testid="stMetric"] { padding: .7rem .9rem }
.stMainBlockContainer h1 { padding-bottom: .2rem }
.st-key-rescue { border-left: 4px solid #c0392b; padding-left: 1rem }
.st-key-calm { border-left: 4px solid #2f9568; padding-left: 1rem }
</style>"""


def run(settings: Settings) -> None:
    """Serve the console until it is stopped; SettingsError when its address cannot be used."""
    logs.keep_out(settings.secrets())
    serve(settings)


def operator() -> Operator:
    """Who is there; nobody passes while the database cannot be used. Loopback needs no sign-in."""
    try:
        engine()
    except CoreError as error:
        _stop_with(error)
    return Operator("local", "admin")


@st.cache_resource(show_spinner=False)
def settings() -> Settings:
    found = load()
    logs.keep_out(found.secrets())
    logs.setup(found.log_level)
    logs.adopt_foreign_handlers()
    return found


def engine() -> Engine:
    """The database, migrated or checked once a process; StoreError says what to do."""
    return _engine(settings().database_url)


@st.cache_resource(show_spinner=False)
def _engine(database_url: str) -> Engine:
    opened = database.open_engine(database_url)
    migrate.prepare(opened)
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


def _stop_with(error: CoreError) -> None:
    st.title("The console cannot see its database" if not isinstance(error, SettingsError) else "A setting is wrong")
    st.error("Nothing can be shown until this is put right. Nothing is lost meanwhile.", icon=":material/database:")
    st.code(logs.redact(str(error)), language=None, wrap_lines=True)
    st.caption("Check DATABASE_URL and that the database runs; a new version needs `capi-console migrate` first.")
    st.button("Look again", type="primary")
    st.stop()


def style() -> None:
    st.html(_STYLE)


def frame() -> None:
    """What stands beside every page: the clock, in the reader's zone and in UTC."""
    now = clock.now()
    with st.sidebar:
        st.caption(f"Times are local ({zone_name()}).  \n{local(now):%H:%M} here is {now:%H:%M} UTC.")


def zone_name() -> str:
    return st.context.timezone or "UTC"


def local(moment: datetime) -> datetime:
    """A moment on the reader's clock."""
    try:
        return moment.astimezone(ZoneInfo(zone_name()))
    except (KeyError, ValueError):
        return moment


def both(moment: datetime | None) -> str:
    """`23 Nov 14:05 (13:05 UTC)`; a dash without one."""
    if moment is None:
        return "–"
    return f"{local(moment):%d %b %H:%M} ({moment:%d %b %H:%M} UTC)"


def span(length: timedelta) -> str:
    """`5 h 10 min`, `2 d 4 h`; `now` for what is over."""
    minutes = int(length.total_seconds() // 60)
    if minutes < 1:
        return "now" if minutes < 0 else "less than a minute"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (0 if days else minutes, "min")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def at(label: str, *, relative: bool = False, help: str | None = None) -> Any:
    """A column of moments on the reader's clock."""
    form = "distance" if relative else "D MMM YYYY, HH:mm"
    return st.column_config.DatetimeColumn(label, format=form, timezone=zone_name(), help=help)


def badges(label: str, colours: dict[str, str], *, help: str | None = None) -> Any:
    """A column of one-word badges."""
    return st.column_config.MultiselectColumn(label, options=list(colours), color=list(colours.values()), help=help)


def select_rows(name: str, frame: Any, ids: Sequence[Any], *, mode: str = "multi-row", **kwargs: Any) -> list[Any]:
    """The ids of the rows a person has chosen.

    Streamlit keeps positions, which point at other rows once the data changes
    (https://github.com/streamlit/streamlit/issues/17026): so the widget is a new one for each list of ids, and what
    was chosen is remembered by id.
    """
    remembered = st.session_state.setdefault(f"{name}.chosen", [])
    generation = st.session_state.setdefault(f"{name}.generation", 0)
    digest = sha1("\n".join(map(str, ids)).encode(), usedforsecurity=False).hexdigest()[:12]
    places = {id_: place for place, id_ in enumerate(ids)}
    chosen = st.dataframe(
        frame,
        key=f"{name}.{generation}.{digest}",
        on_select="rerun",
        selection_mode=mode,  # type: ignore[arg-type]
        selection_default={"selection": {"rows": [places[id_] for id_ in remembered if id_ in places]}},
        hide_index=True,
        **kwargs,
    )
    rows = [ids[place] for place in chosen["selection"]["rows"] if place < len(ids)]
    st.session_state[f"{name}.chosen"] = rows
    return rows


def clear_rows(name: str) -> None:
    """Untick everything, after an order was given."""
    st.session_state[f"{name}.chosen"] = []
    st.session_state[f"{name}.generation"] = st.session_state.get(f"{name}.generation", 0) + 1


def confirm(
    title: str, lines: Sequence[str], order: Callable[[str], int | None], *, clears: str = "", done: str = ""
) -> None:
    """Ask once more, with the exact count and a box for the reason; then order and close.

    The order is given in the button's callback, so that it is given once however often the script runs.
    """

    def give() -> None:
        try:
            job_id = order(st.session_state.get("reason", ""))
        except CoreError as error:
            st.session_state["notice"] = ("refused", str(error))
        else:
            words = done or f"Job {job_id} is ordered: its progress shows below the title"
            st.session_state["notice"] = ("ordered", words)
            if clears:
                clear_rows(clears)
        st.session_state["answered"] = True

    @st.dialog(title, icon=":material/help:")
    def ask() -> None:
        if st.session_state.pop("answered", False):
            st.rerun()
        for line in lines:
            st.write(line)
        st.text_input("Reason", key="reason", placeholder="Stands in the audit trail", max_chars=200)
        st.button("Yes, order it", type="primary", key="yes", on_click=give, icon=":material/check:")

    st.session_state.pop("answered", None)
    ask()


def page(url_path: str) -> Path:
    """The file of a page, for links to it."""
    return next(
        ROOT / "pages" / entry.file for entries in MENU.values() for entry in entries if entry.url_path == url_path
    )


def pages(total: int, *, key: str) -> int:
    """Which page of `total` rows is looked at, from 1; kept in the address."""
    last = max(1, -(-total // PAGE_ROWS))
    if st.session_state.get(key, 1) > last:
        st.session_state[key] = 1
    return st.pagination(last, key=key, bind="query-params") if last > 1 else 1


def cursor(name: str, filters: Mapping[str, Any]) -> Any:
    """Where this page of a table that is paged by key begins; None at its start, and whenever a filter changes."""
    shape = repr(sorted((key, str(value)) for key, value in filters.items() if key != "since"))
    if st.session_state.get(f"{name}.filters") != shape:
        st.session_state[f"{name}.filters"], st.session_state[f"{name}.cursors"] = shape, []
    cursors: list[Any] = st.session_state[f"{name}.cursors"]
    return cursors[-1] if cursors else None


def pager(name: str, *, after: Any) -> None:
    """Back and on; `after` is the key of this page's last row, None on the last page."""
    cursors: list[Any] = st.session_state[f"{name}.cursors"]
    if not cursors and after is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        st.button("Back", key=f"{name}.back", disabled=not cursors, on_click=_back, args=(cursors,))
        st.caption(f"Page {len(cursors) + 1}")
        st.button("On", key=f"{name}.on", disabled=after is None, on_click=cursors.append, args=(after,))


def _back(cursors: list[Any]) -> None:
    cursors.pop()


def download(label: str, name: str, lines: Callable[[Connection], Iterator[str]]) -> None:
    """A CSV file that is made when it is asked for."""

    def make() -> bytes:
        with looking() as conn:
            return "".join(lines(conn)).encode()

    st.download_button(
        f"{label} (CSV)", make, file_name=name, mime="text/csv", on_click="ignore", icon=":material/download:"
    )


def notices() -> None:
    """What became of the last order, once."""
    kind, words = st.session_state.pop("notice", (None, ""))
    if kind == "ordered":
        st.toast(words, icon=":material/check_circle:")
    elif kind == "refused":
        st.error("This was not ordered:", icon=":material/block:")
        st.text(words)


def live_jobs() -> None:
    """Progress of open jobs by itself; when the last one ends the page is drawn anew, selections stay."""
    notices()
    with looking() as conn:
        running = queries.open_jobs(conn)
    st.session_state["jobs.running"] = len(running)
    st.fragment(_progress, run_every=_LIVE if running else _CALM)()


def _progress() -> None:
    with looking() as conn:
        running = queries.open_jobs(conn)
        silent = not any(worker.alive for worker in queries.workers(conn, now=clock.now())) if running else False
    for job in running:
        words = f"Job {job.id}: {frames.said(job.kind).lower()}, {job.done:,} of {job.total:,}"
        st.progress(job.done / job.total if job.total else 1.0, text=words)
    if silent:
        st.warning("No worker is alive: orders wait. Start one with `capi-console worker`.", icon=":material/warning:")
    before = st.session_state.get("jobs.running", 0)
    st.session_state["jobs.running"] = len(running)
    if before != len(running):
        st.rerun()
