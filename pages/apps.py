"""Which apps are connected, and how are their events taken?"""

from __future__ import annotations

import streamlit as st

from core.desk import app_list, frames_setup
from core.desk.alert_lines import plural
from core.doors import console, console_apps
from core.doors import console_orders as orders
from core.doors import console_rows as paging
from core.doors import console_tables as tables

operator = console.operator()
st.title("Apps")
orders.live_jobs()
console_apps.connect(operator)

with st.container(horizontal=True, vertical_alignment="bottom"):
    search = st.text_input(
        "Search", key="app", bind="query-params", type="search", placeholder="Shop, app, e-mail, app id or pixel"
    )
    show = st.segmented_control(
        "Show", list(app_list.SHOWS), default="all", required=True, key="show", bind="query-params"
    )
filters = {"search": search, "show": show or "all"}
with console.looking() as conn:
    total = app_list.app_total(conn, **filters)
page = paging.pages(total, key="page")
with console.looking() as conn:
    rows = app_list.app_rows(conn, limit=paging.PAGE_ROWS, offset=(page - 1) * paging.PAGE_ROWS, **filters)
if not rows:
    st.info(
        "No app fits: clear the search or show all."
        if search or show != "all"
        else "No app is connected yet. Connect one above, and its storefront can report at once.",
        icon=":material/storefront:",
    )
    st.stop()
chosen = paging.select_rows(
    "apps",
    frames_setup.apps(rows),
    [row.app_id for row in rows],
    mode="single-row",
    **tables.apps(len(rows), alt="Apps"),
)
st.caption(plural(total, "app"))
for row in (row for row in rows if row.app_id in chosen):
    console_apps.drawer(row, operator)
