"""The keeper of hourly counts: what became of events, for all pixels together (no name) and for each.

An hour is counted anew from its requests as long as it may still change: nothing is added up beside the work itself,
so that no two workers fight for one row, and what was missed is made good by the next count.
"""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, case, delete, func, select

from core.store.database import chunks
from core.store.schema import capi_attempt, capi_rollup

HOUR = timedelta(hours=1)
ALL = ""
_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Counts:
    """Events delivered, those of them that had waited for a refresh, events in refused requests; and requests."""

    delivered: int = 0
    after_refresh: int = 0
    refused: int = 0
    requests: int = 0


def hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def last_hour(conn: Connection) -> datetime | None:
    """The newest hour that was counted."""
    r = capi_rollup.c
    return conn.scalar(select(r.hour).where(r.pixel_id == ALL).order_by(r.hour.desc()).limit(1))


def first_request(conn: Connection) -> datetime | None:
    """When the oldest request that is still kept was made."""
    a = capi_attempt.c
    return conn.scalar(select(a.at).order_by(a.at).limit(1))


def count(conn: Connection, hour: datetime) -> dict[str, Counts]:
    """Pixel → what became of its events in this hour, from the requests."""
    a = capi_attempt.c
    accepted = case((a.failure.is_(None), a.events), else_=0)
    refused = case((a.failure.is_(None), 0), else_=a.events)
    sums = func.sum(accepted), func.sum(a.after_refresh), func.sum(refused), func.count()
    rows = conn.execute(select(a.pixel_id, *sums).where(a.at >= hour, a.at < hour + HOUR).group_by(a.pixel_id))
    return {pixel_id: Counts(*(int(number) for number in counted)) for pixel_id, *counted in rows}


def put(conn: Connection, hour: datetime, counted: dict[str, Counts]) -> None:
    """Write an hour anew, with the line for all pixels together; an hour without requests has that line only."""
    conn.execute(delete(capi_rollup).where(capi_rollup.c.hour == hour))
    sums = map(sum, zip(*map(astuple, counted.values()), strict=True)) if counted else ()
    lines = [(ALL, Counts(*sums)), *sorted(counted.items())]
    rows = [{"hour": hour, "pixel_id": pixel_id, **asdict(one)} for pixel_id, one in lines]
    for part in chunks(rows, _ROWS):
        conn.execute(capi_rollup.insert(), list(part))


def hours(conn: Connection, *, since: datetime, pixel_id: str = ALL) -> dict[datetime, Counts]:
    """Hour → counts, from this hour on; hours that were not counted are missing."""
    r = capi_rollup.c
    columns = r.delivered, r.after_refresh, r.refused, r.requests
    rows = conn.execute(select(r.hour, *columns).where(r.pixel_id == pixel_id, r.hour >= since))
    return {hour: Counts(*counted) for hour, *counted in rows}
