"""Bulk work asks once more who ordered it: between the order and its end an operator may have lost the right."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from sqlalchemy import Connection, Engine, Row

from core.errors import Conflict
from core.services.roles import NEEDS, Operator
from core.store import audit, jobs, operators
from core.store.database import reading, writing


def why_not(conn: Connection, by: str, order: str) -> str | None:
    """None when this order may be carried out; what no operator has ordered (the shell, Shopify) may."""
    found = operators.find(conn, by)
    if found is None or order not in NEEDS:
        return None
    if found.disabled_at is not None:
        return f"{by} was disabled since"
    return None if Operator(by, found.role).may(order) else f"{by} is {found.role} by now"


def withdrawn(engine: Engine, job: Row, *, by: str, now: datetime) -> bool:
    """Whether the job's right has gone; then it is cancelled here, and the audit trail says why."""
    with reading(engine) as conn:
        if (reason := why_not(conn, job.by, job.kind)) is None:
            return False
    with suppress(Conflict), writing(engine) as conn:  # somebody else was first
        jobs.end(conn, job.id, now=now, state="cancelled")
        left = len(jobs.next_items(conn, job.id, limit=job.total))
        audit.write(conn, by=by, action="cancel_job", subject=f"job {job.id}", count=left, reason=reason, now=now)
    return True
