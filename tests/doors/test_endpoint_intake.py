from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, func, select

from core.doors import intake as intake_module
from core.doors.intake import Entry, Intake, StoreBusy
from core.errors import BadInput
from core.store.acceptance import NewEvent
from core.store.database import reading, writing
from core.store.schema import capi_event

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def an_event(event_id: str) -> NewEvent:
    return NewEvent("a1", "1001", "PageView", event_id, "track", NOW, NOW + timedelta(days=7), b"{}")


def during(engine: Engine, work: Callable[[Intake], Awaitable[object]], **options: int) -> Intake:
    async def main() -> Intake:
        intake = Intake(engine, clock=lambda: NOW, **options)
        await intake.start()
        await work(intake)
        await intake.stop()
        return intake

    return asyncio.run(main())


def stored(engine: Engine) -> int:
    with reading(engine) as conn:
        return conn.scalar(select(func.count()).select_from(capi_event)) or 0


def test_what_waits_together_is_committed_together_and_stands_when_answered(engine: Engine) -> None:
    async def work(intake: Intake) -> None:
        answers = await asyncio.gather(*(intake.write(Entry((an_event(f"e{n}"),))) for n in range(200)))
        assert answers == [[True]] * 200
        assert stored(engine) == 200

    intake = during(engine, work)
    assert intake.written == 200
    assert intake.groups <= 3


def test_twins_in_one_group_are_one_event(engine: Engine) -> None:
    async def work(intake: Intake) -> None:
        answers = await asyncio.gather(*(intake.write(Entry((an_event("twin"),))) for _ in range(20)))
        assert sorted(answers) == [[False]] * 19 + [[True]]

    during(engine, work)
    assert stored(engine) == 1


def test_a_bad_row_does_not_fail_its_neighbours(engine: Engine) -> None:
    bad = dataclasses.replace(an_event("bad"), event_time=NOW.replace(tzinfo=None))

    async def work(intake: Intake) -> None:
        entries = [Entry((an_event("a"),)), Entry((bad,)), Entry((an_event("b"),))]
        answers = await asyncio.gather(*map(intake.write, entries), return_exceptions=True)
        assert (answers[0], answers[2]) == ([True], [True])
        assert isinstance(answers[1], BadInput)

    during(engine, work)
    assert stored(engine) == 2


def test_a_full_backlog_says_busy(engine: Engine) -> None:
    async def work(intake: Intake) -> None:
        answers = await asyncio.gather(
            *(intake.write(Entry((an_event(f"e{n}"),))) for n in range(10)),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, StoreBusy) for answer in answers) == 6

    during(engine, work, backlog=4)
    assert stored(engine) == 4


def test_a_backlog_of_many_bytes_says_busy_however_few_they_are(engine: Engine) -> None:
    async def work(intake: Intake) -> None:
        for round_ in range(2):  # what was written makes room again
            entries = [Entry((dataclasses.replace(an_event(f"e{round_}{n}"), payload=b"x" * 400),)) for n in range(5)]
            answers = await asyncio.gather(*map(intake.write, entries), return_exceptions=True)
            assert [isinstance(answer, StoreBusy) for answer in answers] == [False, False, True, True, True]

    during(engine, work, backlog_bytes=1_000)
    assert stored(engine) == 4


def test_who_waits_too_long_hears_so_and_is_not_written_later(
    sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "PATIENCE", 0.3)

    async def work(intake: Intake) -> None:
        with writing(sqlite_engine):
            asked = [asyncio.create_task(intake.write(Entry((an_event("first"),))))]
            await asyncio.sleep(0.1)  # a group is in hand now, and the next one waits behind it
            asked.append(asyncio.create_task(intake.write(Entry((an_event("second"),)))))
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(answer) for answer in answers] == [StoreBusy, StoreBusy]
        await asyncio.sleep(0.1)
        assert await intake.write(Entry((an_event("third"),))) == [True]

    during(sqlite_engine, work)
    with reading(sqlite_engine) as conn:
        assert "second" not in set(conn.scalars(select(capi_event.c.event_id)))


def test_nothing_is_taken_before_the_start_or_after_the_stop(engine: Engine) -> None:
    intake = during(engine, lambda _: asyncio.sleep(0))
    with pytest.raises(StoreBusy):
        asyncio.run(intake.write(Entry((an_event("late"),))))
    assert stored(engine) == 0
