"""A worker outlives its database: connections cut, a lock held long."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from core.doors.worker import RECONNECT, Worker
from core.store.database import open_engine, writing
from tests.processes import environment, eventually, running
from tests.world import World


def test_cut_connections_are_made_again(postgres_url: str, meta: object, tmp_path: Path) -> None:
    engine = open_engine(postgres_url)
    world = World(engine, meta)  # type: ignore[arg-type]
    app = world.an_app(world.meta.create_token())
    admin = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    with running("worker", env=environment(postgres_url, world.meta.url), log=tmp_path / "worker.log") as worker:
        eventually(lambda: "worker started" in worker.log.read_text(), saying=worker.log.read_text)
        first = world.an_event(app)
        eventually(lambda: world.state_of(first) == "delivered", saying=worker.log.read_text)
        with admin.connect() as conn:
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            conn.execute(text(f"{cut} AND datname = current_database() AND application_name = 'capi-console'"))
        engine.dispose()
        second = world.an_event(app)
        eventually(lambda: world.state_of(second) == "delivered", within=30, saying=worker.log.read_text)
        assert worker.popen.poll() is None
        assert worker.stop() == 0
    assert any("the database is away, trying again" in line for line in worker.lines)
    assert "Traceback" not in worker.log.read_text()
    admin.dispose()
    engine.dispose()


def test_a_lock_held_long_loses_nothing(sqlite_world: World, tmp_path: Path) -> None:
    world = sqlite_world
    app = world.an_app(world.meta.create_token())
    sent = [world.an_event(app) for _ in range(50)]
    url = world.engine.url.render_as_string()
    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with writing(world.engine):
            held.set()
            enough.wait(12)

    with running("worker", env=environment(url, world.meta.url), log=tmp_path / "worker.log") as worker:
        eventually(lambda: "worker started" in worker.log.read_text(), saying=worker.log.read_text)
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        late = threading.Timer(11, enough.set)
        late.start()
        thread.join()
        eventually(lambda: world.states() == {"delivered": 50}, within=30, saying=worker.log.read_text)
        assert worker.popen.poll() is None
    assert {event["event_id"] for event in world.meta.events()} == set(sent)


def test_who_finds_the_database_away_asks_again_slowly_and_can_be_stopped(
    sqlite_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    gone = open_engine("postgresql://nobody@127.0.0.1:9/none")
    worker = Worker(gone, sqlite_world.service("w1"), threads=2)
    # A job that has ended a moment ago: it must not hurry on the next attempt.
    worker.nudge.set()

    async def a_while() -> None:
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(RECONNECT / 2)
        worker.stop()
        await running

    with caplog.at_level("INFO"):
        asyncio.run(a_while())
    said = [one.message for one in caplog.records if one.name == "worker"]
    assert said == [
        "worker started",
        "the database is away, trying again",
        "the database is away: what this worker held is free when its leases are over",
        "worker stopped",
    ]
    gone.dispose()
