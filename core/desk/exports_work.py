"""What came of a job, row by row, for a colleague who was not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, tzinfo

from sqlalchemy import Connection, select

from core.desk import queries
from core.desk.exports import csv_lines
from core.store.platform_tables import app
from core.store.schema import capi_app, capi_event

_PAGE = 1_000
JOB_COLUMNS = (
    "subject",
    "result",
    "words",
    "event",
    "event id",
    "order",
    "shop",
    "app",
    "state now",
    "received (UTC)",
    "delivered (UTC)",
)
_NOTHING = (None,) * 8


def job_report(conn: Connection, job_id: int, *, zone: tzinfo = UTC) -> Iterator[str]:
    """CSV lines: every row of a job with its result; of events also what they were. NotFound."""
    job = queries.job_progress(conn, job_id)

    def rows() -> Iterator[Sequence[object]]:
        after = ""
        while page := queries.job_items(conn, job_id, after=after, limit=_PAGE):
            known = _events(conn, page) if job.kind == "retry_events" else {}
            for item in page:
                yield (item.subject, item.outcome or "not done", item.words, *known.get(item.subject, _NOTHING))
            after = page[-1].subject

    return csv_lines(JOB_COLUMNS, rows(), zone=zone)


def _events(conn: Connection, page: Sequence[queries.JobItem]) -> dict[str, Sequence[object]]:
    e = capi_event.c
    named = (e.id, e.event_name, e.event_id, e.order_id, capi_app.c.shop_domain, app.c.name)
    rows = conn.execute(
        select(*named, e.state, e.received_at, e.delivered_at)
        .join(app, app.c.id == e.app_id, isouter=True)
        .join(capi_app, capi_app.c.app_id == e.app_id, isouter=True)
        .where(e.id.in_([int(item.subject) for item in page]))
    )
    return {str(row.id): tuple(row)[1:] for row in rows}
