"""The keeper of the audit trail: append-only, each line chained to the one before by SHA-256."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import Connection, Row, select, text

from core.store.schema import capi_audit

_FIRST = "0" * 64


def write(
    conn: Connection, *, by: str, action: str, subject: str, count: int, reason: str | None, now: datetime
) -> None:
    """Append who ordered what, on how many, and why."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("LOCK TABLE capi_audit IN EXCLUSIVE MODE"))  # one chain: writers stand in line
    before = conn.scalar(select(capi_audit.c.hash).order_by(capi_audit.c.id.desc()).limit(1)) or _FIRST
    row = {"at": now, "by": by, "action": action, "subject": subject, "count": count, "reason": reason}
    conn.execute(capi_audit.insert().values(**row, hash=_chain(before, now, by, action, subject, count, reason)))


def first_broken(conn: Connection) -> int | None:
    """The id of the first line that was changed or whose predecessor is missing; None when all hold."""
    before = _FIRST
    for row in conn.execute(select(capi_audit).order_by(capi_audit.c.id)):
        if row.hash != _hash_of(before, row):
            return int(row.id)
        before = row.hash
    return None


def _hash_of(before: str, row: Row) -> str:
    return _chain(before, row.at, row.by, row.action, row.subject, row.count, row.reason)


def _chain(before: str, at: datetime, *rest: object) -> str:
    line = "\x1f".join([before, at.isoformat(), *map(repr, rest)])
    return hashlib.sha256(line.encode()).hexdigest()
