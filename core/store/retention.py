"""What is kept for how long, class by class, and how the oldest of each is dropped: by an index, some at a time.

Every `drop` deletes at most STEP rows in the caller's transaction and says how many it found: fewer means that it is
through. Nothing that waits is ever dropped by its age: what Meta no longer takes is dead first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Table, delete, exists, select

from core.store import audit, health_days, ledger, rhythms
from core.store.acceptance import first_id
from core.store.rollups import ALL
from core.store.schema import (
    capi_attempt,
    capi_case,
    capi_event,
    capi_incident,
    capi_job,
    capi_job_item,
    capi_outbox,
    capi_receipt,
    capi_refresh,
    capi_rollup,
)

STEP = 1_000
Drop = Callable[[Connection, datetime], int]
Length = Literal["payload", "events", "history"]


@dataclass(frozen=True, slots=True)
class Class:
    """One kind of row. `kept`: which of the three lengths holds for it, `from_`: since when it counts."""

    what: str
    kept: Length
    from_: str
    drop: Drop


def _payloads(conn: Connection, before: datetime) -> int:
    o = capi_outbox.c
    old = select(o.id).where(o.id < first_id(before), o.state == "dead").order_by(o.id).limit(STEP)
    return _delete(conn, capi_outbox, o.id, old)


def _events(conn: Connection, before: datetime) -> int:
    """Lines at their end, and only once their payload is gone: what waits longer (a shop's till) stays."""
    e = capi_event.c
    ended = e.state.in_(("delivered", "skipped", "dead"))
    stored = exists().where(capi_outbox.c.id == e.id)
    old = select(e.id).where(e.id < first_id(before), ended, ~stored).order_by(e.id).limit(STEP)
    return _delete(conn, capi_event, e.id, old)


def _attempts(conn: Connection, before: datetime) -> int:
    a = capi_attempt.c
    return _delete(conn, capi_attempt, a.id, select(a.id).where(a.at < before).order_by(a.at).limit(STEP))


def _receipts(conn: Connection, before: datetime) -> int:
    r = capi_receipt.c
    return _delete(conn, capi_receipt, r.id, select(r.id).where(r.at < before).order_by(r.at).limit(STEP))


def _refreshes(conn: Connection, before: datetime) -> int:
    r = capi_refresh.c
    old = select(r.id).where(r.started_at < before).order_by(r.started_at).limit(STEP)
    return _delete(conn, capi_refresh, r.id, old)


def _items(conn: Connection, before: datetime) -> int:
    """Rows of jobs that ended; the job itself goes once it has none."""
    i, j = capi_job_item.c, capi_job.c
    ended = select(j.id).where(j.created_at < before, j.ended_at < before).order_by(j.created_at).limit(1)
    job_id = conn.scalar(ended)
    if job_id is None:
        return 0
    rows = conn.scalars(select(i.subject).where(i.job_id == job_id).limit(STEP)).all()
    conn.execute(delete(capi_job_item).where(i.job_id == job_id, i.subject.in_(rows)))
    if len(rows) < STEP:
        conn.execute(delete(capi_job).where(j.id == job_id))
    return STEP  # perhaps another one


def _cases(conn: Connection, before: datetime) -> int:
    c = capi_case.c
    return _delete(conn, capi_case, c.id, select(c.id).where(c.done_at < before).limit(STEP))


def _incidents(conn: Connection, before: datetime) -> int:
    i = capi_incident.c
    return _delete(conn, capi_incident, i.id, select(i.id).where(i.closed_at < before).limit(STEP))


def _pixel_hours(conn: Connection, before: datetime) -> int:
    return _rollups(conn, before, capi_rollup.c.pixel_id != ALL)


def _hours(conn: Connection, before: datetime) -> int:
    return _rollups(conn, before, capi_rollup.c.pixel_id == ALL)


def _health_days(conn: Connection, before: datetime) -> int:
    return STEP if health_days.forget_one(conn, before) else 0


def _rollups(conn: Connection, before: datetime, which: ColumnElement[bool]) -> int:
    """An hour at a time: the primary key begins with the pixel."""
    r = capi_rollup.c
    hour = conn.scalar(select(r.hour).where(r.hour < before, which).order_by(r.hour).limit(1))
    if hour is None:
        return 0
    conn.execute(delete(capi_rollup).where(r.hour == hour, which))
    return STEP  # perhaps another one


def _accounts(conn: Connection, before: datetime) -> int:
    return ledger.forget(conn, before, STEP)


def _rhythms(conn: Connection, before: datetime) -> int:
    return rhythms.forget(conn, before, STEP)


def _delete(conn: Connection, table: Table, key: ColumnElement[Any], old: Any) -> int:
    ids = conn.scalars(old).all()
    if ids:
        conn.execute(delete(table).where(key.in_(ids)))
    return len(ids)


CLASSES = (
    Class("Content of dead events", "payload", "when the event came in", _payloads),
    Class("Events, a line each without content", "events", "when the event came in", _events),
    Class("Requests to Meta", "events", "when it was made", _attempts),
    Class("Requests that were not taken", "events", "when it came in", _receipts),
    Class("Jobs and what came of each row", "events", "when it ended", _items),
    Class("Hourly counts of each pixel", "events", "its hour", _pixel_hours),
    Class("Hourly counts of all pixels", "history", "its hour", _hours),
    Class("Health of tokens, counted by day", "history", "its day", _health_days),
    Class("Account of each shop's day", "history", "its day", _accounts),
    Class("Weekly rhythm of a shop", "history", "when it was last heard of", _rhythms),
    Class("Refreshes", "history", "when it was begun", _refreshes),
    Class("Audit trail", "history", "when it was written", audit.forget),
    Class("Reconnect cases that are done", "history", "when it was done", _cases),
    Class("Incidents that are over", "history", "when it ended", _incidents),
)
