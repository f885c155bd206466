"""The keeper of figures for monitoring: the last ones that a worker took."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, delete, select

from core.store.schema import capi_snapshot

Key = tuple[str, str]


def put(conn: Connection, figures: Mapping[Key, float], *, now: datetime) -> None:
    """These in place of those before: (name, label) → value."""
    conn.execute(delete(capi_snapshot))
    rows = [{"name": name, "label": label, "value": value, "at": now} for (name, label), value in figures.items()]
    if rows:
        conn.execute(capi_snapshot.insert(), rows)


def last(conn: Connection) -> tuple[datetime | None, dict[Key, float]]:
    """When they were taken, and the figures; None and nothing before the first time."""
    rows = conn.execute(select(capi_snapshot)).all()
    return (rows[0].at if rows else None), {(row.name, row.label): row.value for row in rows}
