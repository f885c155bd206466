"""Which tokens can only their owner mend, and who has been asked to?"""

from __future__ import annotations

import streamlit as st

from core import clock
from core.desk import cases, frames_recovery
from core.doors import console, console_cases
from core.doors import console_orders as orders
from core.doors import console_rows as paging
from core.doors import console_tables as tables

operator = console.operator()
now = clock.now()
st.title("Reconnect")
orders.live_jobs()

with console.looking() as conn:
    counts = cases.case_counts(conn)
if not sum(counts.values()):
    st.info(
        "No token needs its owner. When one can be mended only by its owner's login, a case opens here by itself: "
        "make its link, send it, and waiting events go out after the login.",
        icon=":material/check_circle:",
    )
    st.stop()
st.caption(" · ".join(f"{word} {count:,}" for word, count in counts.items() if count))

with st.container(horizontal=True, vertical_alignment="bottom"):
    search = st.text_input(
        "Search",
        key="case",
        bind="query-params",
        type="search",
        placeholder="E-mail, shop, app or fingerprint",
        width=420,
    )
    view = st.segmented_control("Show", ["open", "all"], default="open", required=True, key="show", bind="query-params")
with console.looking() as conn:
    rows = cases.cases(conn, now=now, open_only=view != "all", search=search or None, limit=paging.PAGE_ROWS)
if not rows:
    words = "No case fits. Clear the search, or look at all of them."
    st.info(words if search else "Every owner has connected again. Look at all cases to see when.")
chosen = paging.select_rows(
    "cases",
    frames_recovery.cases(rows, now),
    [row.id for row in rows],
    mode="single-row",
    **tables.cases(len(rows), alt="Reconnect cases"),
)
if len(rows) == paging.PAGE_ROWS:
    st.caption(f"The first {paging.PAGE_ROWS:,}: search for the others.")
elif rows and not chosen:
    st.caption("Choose a case to see its link and what happened to it.")
for case in (row for row in rows if row.id in chosen):
    console_cases.drawer(case, operator)
