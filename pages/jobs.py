"""What was ordered, how far is it, what came of it?"""

from __future__ import annotations

import streamlit as st

from core import clock
from core.desk import exports, exports_work, frames, queries
from core.doors import console
from core.doors import console_orders as orders
from core.doors import console_rows as paging
from core.doors import console_tables as tables

operator = console.operator()
st.title("Jobs")
orders.live_jobs()

with console.looking() as conn:
    rows = queries.jobs(conn, before=paging.cursor("jobs", {}), limit=paging.PAGE_ROWS + 1)
if not rows:
    st.info("Nothing was ordered yet. Refresh tokens or retry events, and follow them here.", icon=":material/info:")
    st.stop()
shown, more = rows[: paging.PAGE_ROWS], len(rows) > paging.PAGE_ROWS
chosen = paging.select_rows(
    "jobs", frames.jobs(shown), [row.id for row in shown], mode="single-row", **tables.jobs(len(shown), alt="Jobs")
)
paging.pager("jobs", after=shown[-1].id if more else None)
for job in (row for row in shown if row.id in chosen):
    with console.looking() as conn:
        items = queries.job_items(conn, job.id)
    st.header(f"Job {job.id}: {frames.said(job.kind).lower()}")
    if job.is_open:
        orders.job_buttons(job, operator)
    st.dataframe(frames.items(items), hide_index=True, **tables.items(len(items), alt="Results of this job"))
    paging.download(
        "Result",
        exports.file_name(f"job-{job.id}", now=clock.now(), filters=[job.kind]),
        lambda conn, zone, job=job: exports_work.job_report(conn, job.id, zone=zone),
    )
    st.caption(f"The first {len(items):,} of {job.total:,}")
