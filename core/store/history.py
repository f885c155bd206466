"""The keepers of what happened: refreshes and requests to Meta. Append-only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from core.store.schema import capi_attempt, capi_refresh


def add_refresh(conn: Connection, **row: Any) -> int:
    return _append(conn, capi_refresh, row)


def last_refresh(conn: Connection, fingerprint: str, *, since: datetime) -> Any:
    """The newest refresh of this token, or of the one that became it, at or after `since`."""
    r = capi_refresh.c
    its = (r.fingerprint == fingerprint) | (r.new_fingerprint == fingerprint)
    newest = select(capi_refresh).where(its, r.started_at >= since).order_by(r.started_at.desc(), r.id.desc())
    return conn.execute(newest.limit(1)).first()


def add_attempt(conn: Connection, **row: Any) -> int:
    return _append(conn, capi_attempt, row)


def _append(conn: Connection, table: Any, row: dict[str, Any]) -> int:
    return int(conn.execute(table.insert().values(**row).returning(table.c.id)).scalar_one())
