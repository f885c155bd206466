"""How many events hang on which tokens, from the hourly counts of their pixels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, case, func, select

from core.desk.health_sql import DAY, Horizon, every_app
from core.store import rollups
from core.store.health import Health
from core.store.rollups import HOUR
from core.store.schema import capi_rollup

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
    base, sent = every_app(conn, Horizon(now, soon, window)).subquery(), sent_lately(now).subquery()
    works = base.c.broken_since.is_(None) & base.c.health.not_in(_LOST)
    pixels = select(
        base.c.pixel_id,
        func.max(case((works, 1), else_=0)).label("works"),
        func.sum(base.c.waiting).label("waiting"),
    )
    known = pixels.group_by(base.c.pixel_id).subquery()
    healthy = func.sum(known.c.works * sent.c.delivered)
    both = known.outerjoin(sent, sent.c.pixel_id == known.c.pixel_id)
    flows, waiting = conn.execute(select(healthy, func.sum(known.c.waiting)).select_from(both)).one()
    delivered = sum(one.delivered for one in rollups.hours(conn, since=_a_day_ago(now)).values())
    return Share(int(flows or 0), delivered + int(waiting or 0))


def _a_day_ago(now: datetime) -> datetime:
    """The first of the hours that count as the last 24, the one that runs among them."""
    return rollups.hour_of(now - DAY) + HOUR


def sent_lately(now: datetime) -> Select[Any]:
    """(pixel_id, delivered) of the last 24 hours."""
    r = capi_rollup.c
    recent = r.hour >= _a_day_ago(now), r.pixel_id != rollups.ALL
    return select(r.pixel_id, func.sum(r.delivered).label("delivered")).where(*recent).group_by(r.pixel_id)


def per_hour(conn: Connection, pixel_ids: Collection[str], *, now: datetime) -> float:
    """Events an hour that reached Meta for these pixels in the last 24 whole hours."""
    r = capi_rollup.c
    this = rollups.hour_of(now)
    whole = r.hour >= this - DAY, r.hour < this
    found = conn.scalar(select(func.sum(r.delivered)).where(r.pixel_id.in_(list(pixel_ids)), *whole))
    return float(found or 0) / (DAY / HOUR)
