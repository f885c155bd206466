"""Two endpoints and a worker on one PostgreSQL: whoever loses a race tries again, and nobody hears "later"."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import OperationalError

from core.clock import now as real_now
from core.doors.intake import Entry, Intake, Unstorable, is_away, is_bad_row
from core.inbound.visitors import join_waiting
from core.store import database
from core.store.acceptance import NewEvent
from core.store.database import reading
from core.store.schema import capi_event
from core.store.visitors import Join

# Longer than an index entry may be, and nothing that compression could shorten.
LONG = "".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(3_000))


@pytest.fixture
def postgres_engine(postgres_url: str) -> Iterator[Engine]:
    engine = database.open_engine(postgres_url)
    yield engine
    engine.dispose()


def an_event(n: int, name: str = "AddToCart", **more: Any) -> NewEvent:
    now = real_now()
    payload = b'{"event_name":"AddToCart","event_time":1,"action_source":"website","user_data":{}}'
    return NewEvent("app", "1", name, f"e{n}", "track", now, now + timedelta(days=7), payload, **more)


async def _write(intakes: list[Intake], groups: list[list[NewEvent]]) -> list[Any]:
    for intake in intakes:
        await intake.start()
    try:
        writes = [
            intake.write(Entry((event,))) for intake, group in zip(intakes, groups, strict=True) for event in group
        ]
        return await asyncio.gather(*writes, return_exceptions=True)
    finally:
        for intake in intakes:
            await intake.stop()


def test_two_endpoints_that_cross_each_others_names_both_succeed(postgres_engine: Engine) -> None:
    first = [an_event(n, aliases=(f"cart:{n}",), notes=(f"cart:{n + 100}",)) for n in range(100)]
    second = [an_event(n + 1000, notes=(f"cart:{n}",), aliases=(f"cart:{n + 100}",)) for n in range(100)]
    intakes = [Intake(postgres_engine, clock=real_now) for _ in range(2)]
    answers = asyncio.run(_write(intakes, [first, second]))
    assert [answer for answer in answers if isinstance(answer, Exception)] == []


def test_the_join_and_the_intake_get_along(postgres_engine: Engine) -> None:
    waiting = [an_event(n, aliases=(f"cart:{n}",), join=Join(real_now(), cart=str(n))) for n in range(200)]
    asyncio.run(_write([Intake(postgres_engine, clock=real_now)], [waiting]))

    async def both() -> list[Any]:
        noting = [an_event(n + 1000, notes=(f"cart:{199 - n}",)) for n in range(200)]
        joining = asyncio.to_thread(join_waiting, postgres_engine, now=real_now())
        joined, written = await asyncio.gather(joining, _write([Intake(postgres_engine, clock=real_now)], [noting]))
        return [joined, *written]

    answers = asyncio.run(both())
    assert answers[0] == 200
    assert [answer for answer in answers[1:] if isinstance(answer, Exception)] == []


def test_a_deadlock_that_was_lost_is_tried_again(postgres_engine: Engine) -> None:
    tries: list[int] = []

    def loses_once(conn: Connection, _now: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            conn.execute(text("DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40P01'; END $$"))

    async def write() -> list[bool]:
        intake = Intake(postgres_engine, clock=real_now)
        await intake.start()
        try:
            return await intake.write(Entry((an_event(1),), also=(loses_once,)))
        finally:
            await intake.stop()

    assert asyncio.run(write()) == [True]
    assert len(tries) == 2


def test_a_value_that_the_database_never_takes_is_not_the_database_away(postgres_engine: Engine) -> None:
    events = [an_event(n, order_id=LONG if n == 1 else None) for n in range(4)]
    answers = asyncio.run(_write([Intake(postgres_engine, clock=real_now)], [events]))
    assert [answer if answer == [True] else type(answer) for answer in answers] == [
        [True],
        Unstorable,
        [True],
        [True],
    ]
    with reading(postgres_engine) as conn:
        assert len(conn.scalars(select(capi_event.c.id)).all()) == 3


@pytest.mark.parametrize(
    ("sqlstate", "away", "bad_row"),
    [("08006", True, False), ("53100", True, False), ("57P03", True, False), ("55P03", True, False),
     ("25006", True, False), ("54000", False, True), ("22021", False, True), ("23505", False, True)],
)  # fmt: skip
def test_what_postgresql_says_is_about_the_row_or_about_the_whole(sqlstate: str, away: bool, bad_row: bool) -> None:
    class Said(Exception):
        pass

    said = Said("words")
    said.sqlstate = sqlstate  # type: ignore[attr-defined]
    error = OperationalError("INSERT", {}, said)
    assert (is_away(error), is_bad_row(error)) == (away, bad_row)
