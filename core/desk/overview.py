"""What stands on the first page: what is about to be lost, how healthy tokens are, whether the machinery runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection, func, literal_column, select

from core.desk.events import BOUND, in_state
from core.desk.health_sql import DAY
from core.desk.tokens import health_counts
from core.desk.work import JobRow, WorkerRow, open_jobs, workers
from core.store import health_days, rollups
from core.store.health import Health
from core.store.rollups import HOUR
from core.store.schema import capi_event, capi_outbox, capi_token


@dataclass(frozen=True, slots=True)
class Hour:
    """What became of events in the hour from `at`; `refused` counts events in refused requests, each try."""

    at: datetime
    delivered: int
    after_refresh: int
    refused: int


@dataclass(frozen=True, slots=True)
class Overview:
    """`waiting` events are parked behind `tokens` tokens; `waiting` of BOUND means "at least"."""

    waiting: int
    tokens: int
    money: dict[str, Decimal]
    first_deadline_at: datetime | None
    due: int
    oldest_due_at: datetime | None
    dead: int
    broken_tokens: int
    health: dict[Health, int]
    hours: list[Hour]
    workers: list[WorkerRow]
    jobs: list[JobRow]

    @property
    def delivered(self) -> int:
        return sum(hour.delivered for hour in self.hours)

    @property
    def after_refresh(self) -> int:
        return sum(hour.after_refresh for hour in self.hours)

    @property
    def refused(self) -> int:
        return sum(hour.refused for hour in self.hours)

    @property
    def alive(self) -> int:
        return sum(worker.alive for worker in self.workers)


def overview(conn: Connection, *, now: datetime, soon: timedelta, window: timedelta) -> Overview:
    """The state of everything at `now`; hours are the last 24, the current one included."""
    waiting, first = _waiting(conn)
    due, oldest = _due(conn)
    return Overview(
        waiting=waiting,
        tokens=_tokens_waited_for(conn) if waiting else 0,
        money=_money(conn) if waiting else {},
        first_deadline_at=first,
        due=due,
        oldest_due_at=oldest,
        dead=_bounded(conn, "dead"),
        broken_tokens=conn.scalar(select(func.count()).where(capi_token.c.broken_since.is_not(None))) or 0,
        health=health_counts(conn, now=now, soon=soon, window=window),
        hours=hours(conn, now=now),
        workers=workers(conn, now=now),
        jobs=open_jobs(conn),
    )


def hours(conn: Connection, *, now: datetime, count: int = 24) -> list[Hour]:
    """The last `count` hours in UTC, oldest first, empty ones included; the one that runs is counted a few times a
    minute (`core.services.upkeep`)."""
    this = rollups.hour_of(now)
    starts = [this - HOUR * back for back in range(count - 1, -1, -1)]
    counted = rollups.hours(conn, since=starts[0])
    found = ((start, counted.get(start, rollups.Counts())) for start in starts)
    return [Hour(start, one.delivered, one.after_refresh, one.refused) for start, one in found]


def health_trend(
    conn: Connection, counts: Mapping[Health, int], *, now: datetime, days: int = 14
) -> dict[Health, list[int]]:
    """Apps in each health at the end of each of the last UTC days, and last, as `counts` says, now.

    A line begins with the first day that was counted; one that was not counted later shows the count before.
    """
    today = health_days.day_of(now)
    known = health_days.counted(conn, since=today - DAY * (days - 1))
    trend: dict[Health, list[int]] = {word: [] for word in Health}
    for word, line in trend.items():
        for back in range(days - 1, 0, -1):
            line += [known[word][day]] if (day := today - DAY * back) in known[word] else line[-1:]
        line.append(counts[word])
    return trend


def _waiting(conn: Connection) -> tuple[int, datetime | None]:
    first = select(capi_event.c.deadline_at).where(in_state("parked")).order_by(capi_event.c.deadline_at).limit(1)
    return _bounded(conn, "parked"), conn.scalar(first)


def _due(conn: Connection) -> tuple[int, datetime | None]:
    """The event nearest to its deadline stands for the oldest: ids are time-ordered, deadlines nearly so."""
    first = select(capi_event.c.received_at).where(in_state("due")).order_by(capi_event.c.deadline_at).limit(1)
    return _bounded(conn, "due"), conn.scalar(first)


def _bounded(conn: Connection, state: str) -> int:
    near = select(capi_event.c.id).where(in_state(state)).limit(BOUND).subquery()
    return conn.scalar(select(func.count()).select_from(near)) or 0


def _tokens_waited_for(conn: Connection) -> int:
    o = capi_outbox.c
    near = select(o.parked_by, o.app_id).where(o.state == literal_column("'parked'")).limit(BOUND).subquery()
    return conn.scalar(select(func.count(near.c.parked_by.distinct()))) or 0


def _money(conn: Connection) -> dict[str, Decimal]:
    """The value of purchases that wait, by currency, the most first."""
    e = capi_event.c
    near = (
        select(e.event_name, e.currency, e.value)
        .where(in_state("parked"))
        .order_by(e.deadline_at)
        .limit(BOUND)
        .subquery()
    )
    purchases = (near.c.event_name == "Purchase", near.c.currency.is_not(None), near.c.value.is_not(None))
    total = func.sum(near.c.value)
    summed = select(near.c.currency, total).where(*purchases).group_by(near.c.currency).order_by(total.desc())
    return {currency: Decimal(value).quantize(Decimal("0.01")) for currency, value in conn.execute(summed)}
