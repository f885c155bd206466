"""Health by day: counted again and again while the day runs, shown as a line of two weeks, on both databases."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Engine

from core.desk import queries
from core.doors import timetable
from core.store import health_days
from core.store.database import reading, writing
from core.store.health import Health
from tests.desk.rows import seed
from tests.world import World

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOBODY = dict.fromkeys(Health, 0)


def count(engine: Engine, at: datetime, valid: int) -> None:
    with writing(engine) as conn:
        health_days.put(conn, NOBODY | {Health.VALID: valid}, now=at)


def line(engine: Engine, now: datetime, word: Health = Health.VALID, apps: int = 9) -> list[int]:
    with reading(engine) as conn:
        return queries.health_trend(conn, NOBODY | {Health.VALID: apps}, now=now)[word]


def test_two_weeks_end_with_what_is_so_now(engine: Engine, now: datetime) -> None:
    for back in range(20):
        count(engine, now - back * DAY, 100 - back)
    assert line(engine, now) == [*range(87, 100), 9]
    assert line(engine, now, Health.EXPIRED) == [0] * 14


def test_the_last_count_of_a_day_stands_for_it(engine: Engine, now: datetime) -> None:
    midnight = now.replace(hour=0)
    for at, valid in ((midnight - HOUR, 1), (midnight - timedelta(microseconds=1), 2), (midnight, 3)):
        count(engine, at, valid)
    assert line(engine, now) == [2, 9]
    assert line(engine, now + DAY) == [2, 3, 9]


def test_a_line_begins_when_counting_began_and_has_no_gap(engine: Engine, now: datetime) -> None:
    assert line(engine, now) == [9]
    count(engine, now - 4 * DAY, 5)
    count(engine, now - 2 * DAY, 6)
    assert line(engine, now) == [5, 5, 6, 6, 9]


def test_a_worker_counts_what_the_console_shows(world: World, now: datetime) -> None:
    seed(world.engine, now=now, apps=72, events=0)
    service = world.service()
    (task,) = [task for task in timetable.TASKS if task.name == "health of the day"]
    task.run(service, now)
    with reading(world.engine) as conn:
        shown = queries.health_counts(conn, now=now, soon=service.policy.soon, window=service.policy.window)
        kept = health_days.counted(conn, since=now - DAY)
    assert {word: days[now.replace(hour=0)] for word, days in kept.items()} == shown
    assert sum(shown.values()) == 72
