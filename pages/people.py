"""Who may do what here, and who did what, on how many, and why?"""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from core import clock
from core.desk import audit_trail, exports, frames, frames_people, people
from core.doors import console
from core.doors import console_orders as orders
from core.doors import console_people as dialogs
from core.doors import console_rows as paging

operator = console.operator()
now = clock.now()
st.title("People & audit")
orders.live_jobs()

st.header("Operators")
with console.looking() as conn:
    rows = people.operator_rows(conn, now=now)
if rows:
    chosen = paging.select_rows(
        "operators",
        frames_people.operators(rows),
        [row.name for row in rows],
        mode="single-row",
        **dialogs.operator_table(len(rows), alt="Operators"),
    )
    for row in (row for row in rows if row.name in chosen):
        dialogs.drawer(row, operator)
    dialogs.add(operator)
    dialogs.own(operator)
else:
    st.info("Nobody signs in here: the console answers its own machine only. Make the first operator at the shell:")
    st.code("capi-console operator add NAME --role admin", language=None)

st.header("Audit trail")
dialogs.verdict()
PERIODS = {"24 hours": 1, "7 days": 7, "30 days": 30, "400 days": 400}
with console.looking() as conn:
    actions = audit_trail.actions(conn)
with st.container(horizontal=True, vertical_alignment="bottom"):
    who = st.text_input("Who", key="who", bind="query-params", placeholder="Name", width=160)
    action = dialogs.action_choice(actions, frames.said)
    about = st.text_input("Object", key="about", bind="query-params", placeholder="Job, app, name")
    period = st.segmented_control(
        "Period", list(PERIODS), default="30 days", required=True, key="period", bind="query-params"
    )
filters = {"who": who, "action": action, "about": about, "since": now - timedelta(days=PERIODS[period or "30 days"])}
with console.looking() as conn:
    before = paging.cursor("trail", {**filters, "period": period})
    lines = audit_trail.audit_trail(conn, before=before, limit=paging.PAGE_ROWS + 1, **filters)
if not lines:
    st.info("No line fits: whatever is ordered here or at the shell is written down.", icon=":material/info:")
    st.stop()
shown, more = lines[: paging.PAGE_ROWS], len(lines) > paging.PAGE_ROWS
table = dialogs.trail_table(len(shown), alt="Audit trail, newest first")
st.dataframe(frames_people.trail(shown), hide_index=True, **table)
with st.container(horizontal=True, vertical_alignment="center"):
    paging.pager("trail", after=shown[-1].id if more else None)
    paging.download(
        "Audit trail",
        exports.file_name("audit", now=now, filters=[period, who, action, about]),
        lambda conn, zone: audit_trail.audit_report(conn, zone=zone, **filters),
    )
