"""Which tokens are listed, when they end, and one in full: what is known and found, what it can be asked, and another
in its place."""

from __future__ import annotations

import threading
from datetime import datetime

import streamlit as st

from core import clock
from core.desk import diagnosis, frames, queries, volume
from core.desk import frames_recovery as shown
from core.desk.explain import explain
from core.desk.explain_tokens import FINDINGS
from core.desk.operators import Operator
from core.desk.steps import case_step
from core.doors import charts, console, console_drawers, console_paste, wiring
from core.doors import console_tables as tables
from core.doors import console_times as times
from core.errors import CoreError, NotFound
from core.services.policy import Policy
from core.store.health import Health

_ONE_AT_A_TIME = threading.Lock()
# What the calendar's bars show → whether they are weighed by events, and what the chart is called
_BARS = {
    "apps": (False, "Apps by the day their token ends, by health"),
    "events a day": (True, "Events of a day by the day on which the token that they hang on ends, by health"),
}


def filters() -> queries.TokenFilters:
    """Which apps are listed, as it stands in the page's address."""
    hint = "Shop, app, e-mail, app id, pixel or fingerprint"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        search = st.text_input("Search", key="token", bind="query-params", type="search", placeholder=hint, width=520)
        left = st.selectbox(
            "Days left", ["", *queries.LEFT], key="left", bind="query-params", format_func=_left, width=190
        )
    words = [str(word) for word in Health]
    health = st.pills("Health", words, selection_mode="multi", key="health", bind="query-params")
    return queries.TokenFilters(search or None, tuple(health or ()), left or None)


def _left(word: str) -> str:
    return word.capitalize() or "Any"


def ends(now: datetime) -> None:
    """When tokens end in the next 60 days, how much hangs on them, and how many days all of them have left."""
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _calendar(now)
    with right:
        with console.looking() as conn:
            counts = queries.days_left(conn, now=now)
        st.caption("All apps by the days that their token has left")
        st.plotly_chart(charts.days_left(counts), alt="Apps by days left", config=charts.PLAIN)


def _calendar(now: datetime) -> None:
    chosen = st.segmented_control(
        "Bars show", list(_BARS), default="apps", required=True, key="bars", bind="query-params"
    )
    unit = chosen or "apps"
    weigh, alt = _BARS[unit]
    with console.looking() as conn:
        days = queries.expiries_by_day(conn, now=now, days=60, weigh=weigh, **console.horizon())
    start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    st.plotly_chart(charts.expiry_calendar(days, start=start, unit=unit), alt=alt, config=charts.PLAIN)
    if weigh:
        st.caption("Events that reached Meta in the last 24 hours, and those that wait for the token.")


def drawer(row: queries.TokenRow, operator: Operator) -> None:
    with st.container(border=True, key="drawer"):
        if row.fingerprint is None:
            st.subheader("This app has no token yet")
            st.caption("Connect Facebook on the platform, or paste a token below.")
        else:
            _known(row, row.fingerprint)
        _diagnose(row, operator)
        console_paste.form(row, operator)


def _known(row: queries.TokenRow, fingerprint: str) -> None:
    with console.looking() as conn:
        try:
            policy = Policy.of(console.settings())
            seen = queries.token_detail(conn, fingerprint, policy=policy, now=clock.now())
            pixels = {one.pixel_id for one in seen.holders if one.pixel_id}
            carries = volume.per_hour(conn, pixels, now=clock.now())
        except NotFound as error:
            st.info(str(error), icon=":material/info:")
            return
    st.subheader(str(row.health))
    st.caption(f"Next step: {row.next_step}")
    console_drawers.find(row.public_id)
    left, right = st.columns(2, gap="large")
    with left:
        st.code("\n".join(_facts(seen, carries)), language=None, wrap_lines=True)
        times.table(_times(seen))
    with right:
        _broken(seen)
        _found(seen)
        _case(seen)
    st.caption("Apps and pixels that hang on it")
    look = tables.holders(len(seen.holders), alt="Apps that hold this token")
    st.dataframe(shown.holders(seen.holders), hide_index=True, **look)
    if seen.refreshes:
        st.caption("Its last refreshes")
        look = tables.last_refreshes(len(seen.refreshes), alt="The token's last refreshes")
        st.dataframe(shown.last_refreshes(seen.refreshes), hide_index=True, **look)


def _facts(seen: queries.TokenDetail, carries: float) -> list[str]:
    kind = f"{seen.kind or 'not known yet'}{', of another Meta app' if seen.foreign_app else ''}"
    lines = [
        f"Token         {seen.fingerprint}",
        f"Owner         {seen.email or '–'}",
        f"User id       {seen.user_id}",
        f"Kind          {kind}",
        f"Meta user     {seen.meta_user_id or '–'}",
        f"Meta app      {seen.meta_app_id or '–'}",
        f"Permissions   {', '.join((seen.scopes or '–').split())}",
        f"Waiting       {seen.waiting:,} events",
        f"Carries       {carries:,.1f} events an hour (of the last 24 hours)",
    ]
    return [*lines, "Ends          never"] if seen.never_expires else lines


def _times(seen: queries.TokenDetail) -> list[tuple[str, datetime | None, str]]:
    rows = [
        ("Ends", seen.expires_at, ""),
        ("Data access ends", seen.data_access_expires_at, ""),
        ("Issued", seen.issued_at, ""),
        ("Here since", seen.first_seen_at, ", by our refresh" if seen.obtained_at else ""),
        ("Checked", seen.checked_at, ""),
        ("Next refresh", seen.next_refresh_at, f", {seen.failures} in vain" if seen.failures else ""),
        ("Rests until", seen.wait_until, f", {frames.said(seen.wait_failure)}"),
        ("Tried again", seen.probe_at, ""),
    ]
    rare = {"Rests until", "Tried again"} | ({"Ends"} if seen.never_expires else set())
    return [row for row in rows if row[1] is not None or row[0] not in rare]


def _broken(seen: queries.TokenDetail) -> None:
    if seen.broken_since is None:
        return
    said = explain(seen.broken_failure)
    step = explain("needs_reconnect") if seen.needs_reconnect else said
    st.error(said.what, icon=":material/link_off:")
    times.caption(f"Since {times.when(seen.broken_since)}. {step.whose}: {step.do}.")
    if seen.broken_words:
        st.code(seen.broken_words, language=None, wrap_lines=True)


def _found(seen: queries.TokenDetail) -> None:
    """What is wrong with a token that still works, the most pressing first, with Meta's words beside."""
    for one in seen.findings:
        said = FINDINGS[one.word]
        show = st.info if one.warning else st.warning
        show(said.what, icon=":material/troubleshoot:")
        times.caption(f"Since {times.when(one.since)}. {said.whose}: {said.do}.")
        code = "/".join(str(number) for number in (one.code, one.subcode) if number is not None)
        notes = (one.pixel_id and f"Pixel {one.pixel_id}", code and f"code {code}", one.trace_id)
        if lines := [*filter(None, (one.words, ", ".join(filter(None, notes))))]:
            st.code("\n".join(lines), language=None, wrap_lines=True)


def _case(seen: queries.TokenDetail) -> None:
    if seen.case is None:
        return
    st.info(f"Reconnect case {seen.case.id}: {case_step(seen.case, clock.now())}.", icon=":material/link:")
    st.page_link(
        console.page("reconnect"),
        label="See the case",
        icon=":material/arrow_forward:",
        query_params={"case": seen.fingerprint},
    )


def _diagnose(row: queries.TokenRow, operator: Operator) -> None:
    """The checks run while the page waits: a few calls, each with its own end, one diagnosis at a time."""
    st.divider()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        code = st.text_input(
            "Test event code (optional)",
            key="test_code",
            placeholder="TEST12345",
            max_chars=40,
            width=220,
            help="From Meta's Events Manager, Test events. Meta counts a test event like a real one.",
        )
        asked = st.button(
            "Diagnose", key="diagnose", icon=":material/stethoscope:", disabled=not operator.may("diagnose")
        )
    if code:
        st.caption(
            "With a code one made-up event is sent to the pixel. Meta does not drop test events: it counts them."
        )
    results = st.session_state.setdefault("diagnosed", {})
    if asked:
        with st.spinner("Asking Meta…"):
            _run(row, code.strip() or None, operator, results)
    if row.app_id in results:
        at, checks = results[row.app_id]
        failed = [check for check in checks if check.ok is False]
        result = f"{len(failed)} of {len(checks)} checks failed" if failed else f"{len(checks)} checks, no fault"
        times.caption(f"Diagnosed {times.when(at)}: {result}")
        if failed:
            lines = (f"{check.name}: {check.words}\n  → {check.do or 'read the words'}" for check in failed)
            st.code("\n".join(lines), language=None, wrap_lines=True)
        look = tables.checks(len(checks), alt="Checks and their results")
        st.dataframe(shown.checks(checks), hide_index=True, **look)


def _run(row: queries.TokenRow, code: str | None, operator: Operator, results: dict[str, object]) -> None:
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        st.warning("Another diagnosis runs just now; try again in a moment.", icon=":material/hourglass_empty:")
        return
    graph = wiring.make_graph(console.settings())
    try:
        now = clock.now()
        checks = diagnosis.diagnose(
            console.engine(),
            console.settings(),
            graph,
            app=row.public_id,
            test_event_code=code,
            by=operator,
            now=now,
        )
        results[row.app_id] = (now, checks)
    except CoreError as error:
        st.error("The diagnosis was not carried out:", icon=":material/block:")
        st.text(str(error))
    finally:
        graph.close()
        _ONE_AT_A_TIME.release()
