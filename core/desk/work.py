"""What a person may see of the work that is done for them: jobs, their items, workers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, case, select

from core.errors import NotFound
from core.store.schema import capi_heartbeat, capi_job, capi_job_item
from core.store.workers import SILENT_AFTER


@dataclass(frozen=True, slots=True)
class JobRow:
    """One ordered piece of bulk work and how far it is. `state`: queued, running, paused, done or cancelled."""

    id: int
    kind: str
    by: str
    reason: str | None
    state: str
    total: int
    done: int
    failed: int
    skipped: int
    created_at: datetime
    ended_at: datetime | None

    @property
    def ok(self) -> int:
        return self.done - self.failed - self.skipped

    @property
    def is_open(self) -> bool:
        return self.ended_at is None


@dataclass(frozen=True, slots=True)
class JobItem:
    """One frozen row of a job; `outcome` is empty until it is done."""

    subject: str
    outcome: str | None
    words: str | None


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker process that was heard of. `alive`: not stopped, and heard of lately."""

    worker: str
    version: str
    started_at: datetime
    seen_at: datetime
    stopped_at: datetime | None
    alive: bool


def jobs(conn: Connection, *, limit: int = 50, before: int | None = None) -> list[JobRow]:
    """Newest first."""
    wanted = _jobs() if before is None else _jobs().where(capi_job.c.id < before)
    return [_job(row) for row in conn.execute(wanted.order_by(capi_job.c.id.desc()).limit(limit))]


def open_jobs(conn: Connection) -> list[JobRow]:
    """Those that are not done yet, oldest first."""
    return [_job(row) for row in conn.execute(_jobs().where(capi_job.c.ended_at.is_(None)).order_by(capi_job.c.id))]


def job_progress(conn: Connection, job_id: int) -> JobRow:
    """How far a job is; NotFound."""
    row = conn.execute(_jobs().where(capi_job.c.id == job_id)).first()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    return _job(row)


def job_items(conn: Connection, job_id: int, *, after: str = "", limit: int = 200) -> list[JobItem]:
    """The job's rows by subject; the next page comes with `after` = the last subject."""
    i = capi_job_item.c
    wanted = select(i.subject, i.outcome, i.words).where(i.job_id == job_id, i.subject > after)
    return [JobItem(*row) for row in conn.execute(wanted.order_by(i.subject).limit(limit))]


def workers(conn: Connection, *, now: datetime) -> list[WorkerRow]:
    """Every worker that was heard of, the last heard first."""
    h = capi_heartbeat.c
    rows = conn.execute(select(capi_heartbeat).order_by(h.seen_at.desc()))
    return [
        WorkerRow(
            row.worker,
            row.version,
            row.started_at,
            row.seen_at,
            row.stopped_at,
            row.stopped_at is None and row.seen_at > now - SILENT_AFTER,
        )
        for row in rows
    ]


def _jobs() -> Any:
    j = capi_job.c
    state = case((j.paused_at.is_not(None), "paused"), else_=j.state).label("state")
    return select(*(state if name == "state" else j[name] for name in JobRow.__dataclass_fields__))


def _job(row: Row[Any]) -> JobRow:
    return JobRow(**row._mapping)
