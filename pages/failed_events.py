"""What did not arrive, why, and can it still be sent?"""

from __future__ import annotations

from dataclasses import asdict

import streamlit as st

from core import clock
from core.desk import exports, frames, queries, zones
from core.doors import console, console_retry
from core.doors import console_drawers as drawers
from core.doors import console_orders as orders
from core.doors import console_rows as paging
from core.doors import console_tables as tables

operator = console.operator()
now = clock.now()
st.title("Failed events")
orders.live_jobs()

with console.looking() as conn:
    causes = queries.causes(conn, now=now)
if not causes:
    st.info("Every event has arrived or is on its way. Nothing is to be done here.", icon=":material/check_circle:")
    st.stop()
st.header("By cause")
st.dataframe(frames.causes(causes), hide_index=True, **tables.causes(len(causes), alt="Failed events by cause"))

st.header("Events")
words = sorted({cause.failure for cause in causes if cause.failure})
with st.container(horizontal=True, vertical_alignment="bottom"):
    search = st.text_input(
        "Search", key="event", bind="query-params", type="search", placeholder="Shop, app, order, event id or pixel"
    )
    failure = st.selectbox(
        "Cause", ["", *words], key="cause", bind="query-params", format_func=lambda word: frames.said(word) or "Any"
    )
    received = st.segmented_control(
        "Received", list(zones.PERIODS), default="Any time", required=True, key="received", bind="query-params"
    )
    view = st.segmented_control(
        "Show", list(queries.VIEWS), default="still in time", required=True, key="show", bind="query-params"
    )
span = zones.period(received or "Any time", now=now, zone=console.zone())
filters = queries.Filters(view or "still in time", failure or None, search, **span)
with console.looking() as conn:
    total = queries.failed_total(conn, filters, now=now)
    after = paging.cursor("events", {**asdict(filters), "received": received})
    rows = queries.failed_events(conn, filters, now=now, after=after, limit=paging.PAGE_ROWS + 1)
shown, more = rows[: paging.PAGE_ROWS], len(rows) > paging.PAGE_ROWS
actions = st.container(horizontal=True, vertical_alignment="center")
if not shown:
    st.info("No event fits. Clear the search, choose another cause, time or view.", icon=":material/search_off:")
chosen = paging.select_rows(
    "events", frames.failed(shown), [row.id for row in shown], **tables.failed(len(shown), alt="Failed events")
)
paging.pager("events", after=(shown[-1].deadline_at, shown[-1].id) if more else None)

days = f"{received} {console.local(span['since']):%Y-%m-%d}" if span["since"] else None
with actions:
    console_retry.buttons(operator, chosen, filters=filters, total=total, shown=shown, now=now)
    paging.download(
        "Failed events",
        exports.file_name("failed-events", now=now, filters=[view, failure, days, search]),
        lambda conn, zone: exports.failed_report(conn, filters, now=now, zone=zone),
    )
    st.caption("1 event in this view" if total == 1 else f"{frames.count(total)} events in this view")
if len(chosen) == 1:
    drawers.event(chosen[0])
