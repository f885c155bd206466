"""What was refreshed, by what, and what did it come to?"""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from core import clock
from core.desk import exports, frames, queries
from core.desk.explain import OUTCOMES
from core.doors import charts, console
from core.doors import console_drawers as drawers
from core.doors import console_orders as orders
from core.doors import console_rows as paging
from core.doors import console_tables as tables

operator = console.operator()
now = clock.now()
st.title("Refresh history")
orders.live_jobs()

PERIODS = {"24 hours": 1, "7 days": 7, "30 days": 30, "400 days": 400}
with st.container(horizontal=True, vertical_alignment="bottom"):
    search = st.text_input(
        "Search",
        key="search",
        bind="query-params",
        type="search",
        placeholder="Shop, app, e-mail, trace id or fingerprint",
    )
    period = st.segmented_control(
        "Period", list(PERIODS), default="30 days", required=True, key="period", bind="query-params"
    )
    bars = st.segmented_control(
        "Bars by", list(charts.REFRESHES), default="outcome", required=True, key="bars_by", bind="query-params"
    )
outcomes = st.pills(
    "Outcome", list(OUTCOMES), selection_mode="multi", key="outcome", bind="query-params", format_func=frames.said
)
since = now - timedelta(days=PERIODS[period or "30 days"])
filters = {"search": search, "outcomes": outcomes, "since": since}
with console.looking() as conn:
    days = queries.refreshes_per_day(conn, since=since, by=bars or "outcome")
    before = paging.cursor("refreshes", {**filters, "period": period})
    rows = queries.refresh_history(conn, before=before, limit=paging.PAGE_ROWS + 1, **filters)

if not days:
    st.info("Nothing was refreshed in this time. Tokens are refreshed by themselves 30 days before their end.")
    st.stop()
figure = charts.refreshes(days, charts.REFRESHES[bars or "outcome"])
st.plotly_chart(figure, alt=f"Refreshes per day by {bars}", config=charts.PLAIN)
if not rows:
    st.info("No refresh fits. Clear the search or choose another outcome.", icon=":material/search_off:")
shown, more = rows[: paging.PAGE_ROWS], len(rows) > paging.PAGE_ROWS
chosen = paging.select_rows(
    "refreshes",
    frames.refreshes(shown),
    [row.id for row in shown],
    mode="single-row",
    **tables.refreshes(len(shown), alt="Refreshes, newest first"),
)
with st.container(horizontal=True, vertical_alignment="center"):
    paging.pager("refreshes", after=shown[-1].id if more else None)
    paging.download(
        "Refresh history",
        exports.file_name("refresh-history", now=now, filters=[period, *(outcomes or []), search]),
        lambda conn, zone: exports.refresh_report(conn, zone=zone, **filters),
    )
for row in (row for row in shown if row.id in chosen):
    drawers.refresh(row)
