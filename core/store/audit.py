"""The keeper of the audit trail: append-only, each line chained to the one before by SHA-256."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import Connection, Row, delete, select, text

from core.store.schema import capi_audit

_FIRST = "0" * 64
# What a line about forgotten lines says before the hash of the last of them.
FORGOTTEN = "lines up to "


def write(
    conn: Connection, *, by: str, action: str, subject: str, count: int, reason: str | None, now: datetime
) -> None:
    """Append who ordered what, on how many, and why."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("LOCK TABLE capi_audit IN EXCLUSIVE MODE"))  # one chain: writers stand in line
    before = conn.scalar(select(capi_audit.c.hash).order_by(capi_audit.c.id.desc()).limit(1)) or _FIRST
    row = {"at": now, "by": by, "action": action, "subject": subject, "count": count, "reason": reason}
    conn.execute(capi_audit.insert().values(**row, hash=_chain(before, now, by, action, subject, count, reason)))


def forget(conn: Connection, before: datetime, *, step: int = 1_000) -> int:
    """Drop the oldest lines before this moment; how many (bounded: ask again).

    A new line says up to which one, and holds the last one's hash: from it the rest is checked.
    """
    a = capi_audit.c
    old = conn.execute(select(a.id, a.hash).where(a.at < before).order_by(a.id).limit(step)).all()
    newest = conn.scalar(select(a.id).order_by(a.id.desc()).limit(1))
    old = [row for row in old if row.id != newest]  # the chain goes on from it
    if not old:
        return 0
    last = old[-1]
    subject = f"{FORGOTTEN}{last.hash}"
    write(conn, by="upkeep", action="forget_audit", subject=subject, count=len(old), reason=None, now=_later(conn))
    conn.execute(delete(capi_audit).where(a.id <= last.id))
    return len(old)


def _later(conn: Connection) -> datetime:
    """The newest line's moment: upkeep is told up to when, not what time it is."""
    return conn.scalars(select(capi_audit.c.at).order_by(capi_audit.c.id.desc()).limit(1)).one()


def _anchor(conn: Connection) -> str:
    """The hash that the oldest line is chained to."""
    a = capi_audit.c
    said = select(a.subject).where(a.action == "forget_audit", a.by == "upkeep").order_by(a.id.desc()).limit(1)
    return (conn.scalar(said) or f"{FORGOTTEN}{_FIRST}").removeprefix(FORGOTTEN)


def first_broken(conn: Connection) -> int | None:
    """The id of the first line that was changed or whose predecessor is missing; None when all hold."""
    before = _anchor(conn)
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
