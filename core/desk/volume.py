"""How many events hang on which tokens, from the hourly counts of their pixels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, func, select

from core.desk.health_sql import Horizon, every_app
from core.store import rollups
from core.store.health import Health
from core.store.rollups import HOUR
from core.store.schema import capi_rollup

DAY = timedelta(days=1)
# Nothing can be sent with these.
_LOST = frozenset({Health.NEEDS_RECONNECT, Health.EXPIRED})


@dataclass(frozen=True, slots=True)
class Share:
    """Events of the last 24 hours, delivered or waiting for a token; `healthy` of them on tokens that work."""

    healthy: int
    all: int

    @property
    def percent(self) -> float | None:
        return 100 * self.healthy / self.all if self.all else None


def share(conn: Connection, *, now: datetime, soon: timedelta, window: timedelta) -> Share:
    """A pixel of several apps counts for the one whose token works, where there is one."""
    delivered: dict[str, int] = {pixel_id: int(count) for pixel_id, count in conn.execute(sent_lately(now))}
    base = every_app(conn, Horizon(now, soon, window)).subquery()
    columns = (base.c.pixel_id, base.c.health, base.c.broken_since, base.c.waiting)
    busy = base.c.pixel_id.in_(list(delivered)) if len(delivered) < 500 else base.c.pixel_id.is_not(None)
    works: set[str] = set()
    waiting = 0
    for row in conn.execute(select(*columns).where(busy | (base.c.waiting > 0))):
        waiting += row.waiting
        if row.broken_since is None and Health(row.health) not in _LOST:
            works.add(row.pixel_id)
    total = sum(delivered.values()) + waiting
    return Share(sum(count for pixel_id, count in delivered.items() if pixel_id in works), total)


def sent_lately(now: datetime) -> Select[Any]:
    """(pixel_id, delivered) of the last 24 hours."""
    r = capi_rollup.c
    recent = r.hour > rollups.hour_of(now - DAY), r.pixel_id != rollups.ALL
    return select(r.pixel_id, func.sum(r.delivered).label("delivered")).where(*recent).group_by(r.pixel_id)


def per_hour(conn: Connection, pixel_ids: Collection[str], *, now: datetime) -> float:
    """Events an hour that reached Meta for these pixels in the last 24 whole hours."""
    r = capi_rollup.c
    this = rollups.hour_of(now)
    whole = r.hour >= this - DAY, r.hour < this
    found = conn.scalar(select(func.sum(r.delivered)).where(r.pixel_id.in_(list(pixel_ids)), *whole))
    return float(found or 0) / (DAY / HOUR)
