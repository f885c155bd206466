"""Workers among themselves: how soon they hear of an event, and that they come and go while there is work."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from core.doors import worker as door
from core.doors.timetable import Task
from core.doors.worker import Worker
from core.services.refresh import TokenRefreshService
from core.store.database import is_embedded, writing
from core.store.wake import Work
from tests.processes import eventually
from tests.world import World

NEVER = 60.0
# One worker is enough on the embedded default.
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


class Crew:
    """Workers of one process, each with a thread and an event loop of its own; who sent for which pixel."""

    def __init__(self, world: World) -> None:
        self.world, self.sent = world, Counter[str]()
        self.running: dict[str, tuple[Worker, threading.Thread]] = {}

    def add(self, name: str, *, threads: int = 4, tasks: tuple[Task, ...] = ()) -> None:
        worker = Worker(self.world.engine, self.world.service(name), threads=threads, tasks=tasks)
        deliver = worker._delivered

        def noted(pixel_id: str) -> list[str]:
            self.sent[name] += 1
            return deliver(pixel_id)

        worker._delivered = noted  # type: ignore[method-assign]
        thread = threading.Thread(target=lambda: asyncio.run(worker.run()), name=name)
        thread.start()
        self.running[name] = (worker, thread)

    def remove(self, name: str) -> None:
        worker, thread = self.running.pop(name)
        worker.stop()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def crew(world: World) -> Iterator[Crew]:
    crew = Crew(world)
    yield crew
    for name in list(crew.running):
        crew.remove(name)


def latency(world: World, send: Callable[[], str]) -> float:
    """Seconds from an event's commit to Meta's answer."""
    before = world.meta.count("events")
    send()
    committed = time.monotonic()
    while world.meta.count("events") == before:
        assert time.monotonic() < committed + 20
        time.sleep(0.01)
    return time.monotonic() - committed


def test_an_event_does_not_wait_for_a_sweep(world: World, crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL says that there is one; on the embedded default the file says that something has changed."""
    monkeypatch.setattr(door, "REST", dict.fromkeys((True, False), NEVER))
    if not is_embedded(world.engine):
        monkeypatch.setattr(Worker, "_due_work", lambda _: [])
    first, *shops = [world.an_app(world.meta.create_token()) for _ in range(9)]
    crew.add("one")
    latency(world, lambda: world.an_event(first))  # this one waits for the worker's start
    took = [latency(world, lambda shop=shop: world.an_event(shop)) for shop in shops]
    assert statistics.median(took) < 0.5, took


def test_the_next_event_of_a_pixel_does_not_wait_either(
    world: World, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue still holds the wake-up of the one before when it comes, and takes no second one."""
    monkeypatch.setattr(door, "REST", dict.fromkeys((True, False), NEVER))
    shop = world.an_app(world.meta.create_token())
    crew.add("one")
    latency(world, lambda: world.an_event(shop))
    took = [latency(world, lambda: world.an_event(shop)) for _ in range(8)]
    assert statistics.median(took) < 0.5, took


@on_postgresql
def test_a_wake_up_that_died_with_its_worker_is_handed_on(
    world: World, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then nobody could be woken for this pixel: the same wake-up is not queued twice."""
    monkeypatch.setattr(door, "TAKEN_OVER_AFTER", timedelta(seconds=1))
    monkeypatch.setattr(door, "LOOK", timedelta(seconds=0.5))
    sent = world.an_event(world.an_app(world.meta.create_token()))
    with writing(world.engine) as conn:
        held = text("UPDATE capi_pgqueuer SET status = 'picked', queue_manager_id = :id, heartbeat = now()")
        assert conn.execute(held, {"id": uuid.uuid4()}).rowcount == 1
    crew.add("next")
    eventually(lambda: world.state_of(sent) == "delivered", within=10)


@on_postgresql
def test_workers_come_and_go_while_there_is_work(world: World, crew: Crew) -> None:
    world.meta.fault("events", "latency", seconds=0.1)
    shops = [world.an_app(world.meta.create_token()) for _ in range(40)]
    sent = [world.an_event(shop) for shop in shops]
    crew.add("first", threads=2)
    eventually(lambda: world.meta.count("events") > 4)
    crew.add("second", threads=2)
    crew.add("third", threads=2)
    sent += [world.an_event(shop) for shop in shops]
    eventually(lambda: len(crew.sent) == 3)
    crew.remove("first")
    sent += [world.an_event(shop) for shop in shops]
    eventually(lambda: world.states() == {"delivered": len(sent)}, within=30, saying=lambda: str(world.states()))
    assert Counter(event["event_id"] for event in world.meta.events()) == Counter(sent)
    assert min(crew.sent["second"], crew.sent["third"]) > 5, crew.sent


@on_postgresql
def test_many_workers_keep_one_timetable(world: World, crew: Crew) -> None:
    runs: list[float] = []

    def note(service: TokenRefreshService, now: datetime) -> list[tuple[Work, str]]:
        runs.append(time.monotonic())
        return []

    task = Task("noted", timedelta(seconds=1.5), note)
    for name in ("one", "two", "three"):
        crew.add(name, tasks=(task,))
    eventually(lambda: len(runs) == 3, within=15)
    assert all(later - before > 1.4 for before, later in itertools.pairwise(runs)), runs
