"""The keepers of what happened: refreshes and requests to Meta. Append-only."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select

from core.store.schema import capi_attempt, capi_refresh

# Longer than one refresh takes, with the wait for another's.
LONGEST_REFRESH = timedelta(minutes=2)

# What the column holds: 24 days.
_MOST_MS = 2**31 - 1
_APPENDED = {table: table.insert().returning(table.c.id) for table in (capi_attempt, capi_refresh)}


def add_refresh(conn: Connection, **row: Any) -> int:
    return _append(conn, capi_refresh, row)


def last_refresh(conn: Connection, fingerprint: str, *, since: datetime) -> Any:
    """The newest refresh of this token, or of the one that became it, at or after `since`."""
    r = capi_refresh.c
    newest = select(capi_refresh).where(_its(fingerprint), r.started_at >= since)
    return conn.execute(newest.order_by(r.started_at.desc(), r.id.desc()).limit(1)).first()


def refreshes(conn: Connection, fingerprint: str, *, since: datetime, limit: int) -> list[Row[Any]]:
    """The newest refreshes of this token at or after `since`."""
    r = capi_refresh.c
    its = select(capi_refresh).where(r.fingerprint == fingerprint, r.started_at >= since)
    return list(conn.execute(its.order_by(r.id.desc()).limit(limit)))


def in_vain(conn: Connection, fingerprint: str, outcomes: Collection[str], *, since: datetime, limit: int) -> int:
    """How many refreshes of this token, and of those it came from, ended with one of `outcomes`; counts to `limit`."""
    r = capi_refresh.c
    count, name = 0, fingerprint
    while count < limit:
        its = select(r.fingerprint).where(_its(name), r.outcome.in_(outcomes), r.started_at >= since)
        found = conn.scalars(its.order_by(r.id.desc())).all()
        count += found.count(name)
        before = next((one for one in found if one != name), None)  # that became it
        if before is None:
            break
        name = before
    return count


def mends(conn: Connection, fingerprint: str, outcomes: Collection[str], *, since: datetime) -> list[datetime]:
    """When refreshes on error gave this token, or found it usable, since then; the newest first."""
    r = capi_refresh.c
    good = select(r.started_at).where(_its(fingerprint), r.outcome.in_(outcomes), r.started_at > since)
    return list(conn.scalars(good.where(r.trigger == "on_error").order_by(r.started_at.desc())))


def was_good(conn: Connection, fingerprint: str, outcomes: Collection[str], *, since: datetime) -> bool:
    """Whether a refresh, whoever asked for it, that gave this token or found it usable ended after `since`."""
    r = capi_refresh.c
    good = select(r.started_at, r.duration_ms).where(_its(fingerprint), r.outcome.in_(outcomes))
    rows = conn.execute(good.where(r.started_at > since - LONGEST_REFRESH))
    return any(row.started_at + timedelta(milliseconds=row.duration_ms) > since for row in rows)


def _its(fingerprint: str) -> ColumnElement[bool]:
    return (capi_refresh.c.fingerprint == fingerprint) | (capi_refresh.c.new_fingerprint == fingerprint)


def add_attempt(conn: Connection, **row: Any) -> int:
    return _append(conn, capi_attempt, row)


def count_attempts(conn: Connection, *, since: datetime, until: datetime) -> int:
    """Requests to Meta from `since` until before `until`."""
    a = capi_attempt.c
    return conn.scalar(select(func.count()).select_from(capi_attempt).where(a.at >= since, a.at < until)) or 0


def count_refusals(conn: Connection, fingerprint: str, *, failure: str, since: datetime) -> int:
    """How often Meta refused requests with this token for this reason, on whatever pixel."""
    a = capi_attempt.c
    mine = select(func.count()).where(a.fingerprint == fingerprint, a.failure == failure, a.at > since)
    return conn.scalar(mine) or 0


def _append(conn: Connection, table: Any, row: dict[str, Any]) -> int:
    # A clock that was put right meanwhile must not cost us what is written down with it: an exchanged token.
    row |= {"duration_ms": min(max(0, row["duration_ms"]), _MOST_MS)}
    return int(conn.execute(_APPENDED[table], row).scalar_one())
