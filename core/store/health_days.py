"""The keeper of health by day: how many apps stood in each health when a UTC day was last counted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, delete, select

from core.store.health import Health
from core.store.schema import capi_health


def day_of(moment: datetime) -> datetime:
    """The UTC day's beginning."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def put(conn: Connection, counts: Mapping[Health, int], *, now: datetime) -> None:
    """The day that runs, anew: its last count stands for it."""
    day = day_of(now)
    conn.execute(delete(capi_health).where(capi_health.c.day == day))
    rows = [{"day": day, "health": str(word), "apps": apps} for word, apps in counts.items()]
    conn.execute(capi_health.insert(), rows)


def counted(conn: Connection, *, since: datetime) -> dict[Health, dict[datetime, int]]:
    """Health → day → apps, from this day on; days that were not counted are missing."""
    found: dict[Health, dict[datetime, int]] = {word: {} for word in Health}
    h = capi_health.c
    for day, word, apps in conn.execute(select(h.day, h.health, h.apps).where(h.day >= since, h.health.in_(found))):
        found[Health(word)][day] = apps
    return found


def forget_one(conn: Connection, before: datetime) -> bool:
    """Drop the oldest day before this moment; whether there was one."""
    h = capi_health.c
    day = conn.scalar(select(h.day).where(h.day < before).order_by(h.day).limit(1))
    if day is not None:
        conn.execute(delete(capi_health).where(h.day == day))
    return day is not None
