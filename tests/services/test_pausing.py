"""A job that is paused: its worker stops within the row it is at, a restart leaves it alone, and it goes on after."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import select

from core.desk import commands, queries
from core.desk.operators import Operator
from core.errors import Conflict, Forbidden, NotFound
from core.services import bulk, watch
from core.store import jobs, outbox
from core.store.database import reading, writing
from core.store.schema import capi_audit
from core.store.wake import Work
from tests.world import DAY, World

ANN, VI = Operator("Ann", "support"), Operator("Vi", "viewer")


def _dead_events(world: World, count: int) -> list[int]:
    app = world.an_app(world.meta.create_token())
    ids = [int(world.event(world.an_event(app)).id) for _ in range(count)]
    with writing(world.engine) as conn:
        outbox.move(conn, "bury", ids, failure="invalid_event")
    return ids


def _progress(world: World, job: int) -> queries.JobRow:
    with reading(world.engine) as conn:
        return queries.job_progress(conn, job)


def _a_slow_refresh_of(world: World, count: int) -> int:
    """A job over tokens whose exchange takes a while."""
    tokens = [world.meta.create_token(expires_in=5 * 24 * 3600) for _ in range(count)]
    for token in tokens:
        world.an_app(token, expires_in=5 * DAY)
    world.meta.fault("exchange", "latency", seconds=0.3)
    return commands.order_refresh(world.engine, [one.fingerprint for one in tokens], by=ANN, now=world.clock())


def test_a_running_job_stops_within_a_second_and_loses_nothing_it_did(world: World) -> None:
    job = _a_slow_refresh_of(world, 8)
    worker = threading.Thread(target=bulk.run, args=(world.service(), job), kwargs={"threads": 1})
    worker.start()
    while _progress(world, job).done < 2:
        time.sleep(0.02)
    commands.pause_job(world.engine, job, by=ANN, reason="the shop called", now=world.clock())
    asked = time.monotonic()
    worker.join(10)
    assert time.monotonic() - asked < 1.5
    seen = _progress(world, job)
    assert (seen.state, seen.is_open) == ("paused", True)
    assert 2 <= seen.done < 8
    assert world.meta.count("exchange") == seen.done, "what Meta did is written down, and is not done once more"


def test_a_paused_job_survives_a_restart_and_goes_on_where_it_stood(world: World) -> None:
    ids = _dead_events(world, 6)
    job = commands.order_retry(world.engine, ids, by=ANN, now=world.clock())
    commands.pause_job(world.engine, job, by=ANN, now=world.clock())
    for worker in ("first", "after a restart"):
        bulk.run(world.service(worker), job, threads=2)
    assert (_progress(world, job).state, _progress(world, job).done) == ("paused", 0)
    assert (Work.RUN, str(job)) not in watch.due_work(world.engine, now=world.clock())
    assert world.states() == {"dead": 6}
    commands.resume_job(world.engine, job, by=ANN, now=world.clock())
    assert (Work.RUN, str(job)) in watch.due_work(world.engine, now=world.clock())
    bulk.run(world.service("third"), job, threads=2)
    assert (_progress(world, job).state, _progress(world, job).done) == ("done", 6)
    assert world.states() == {"due": 6}


def test_a_job_paused_at_its_last_row_is_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _a_slow_refresh_of(world, 1)
    refresh = world.service().refresh

    def while_somebody_pauses(*args: object, **kwargs: object) -> object:
        commands.pause_job(world.engine, job, by=ANN, now=world.clock())
        return refresh(*args, **kwargs)  # type: ignore[arg-type]

    service = world.service()
    monkeypatch.setattr(service, "refresh", while_somebody_pauses)
    bulk.run(service, job, threads=1)
    assert (_progress(world, job).state, _progress(world, job).ok) == ("done", 1)


def test_a_row_is_not_begun_while_the_job_is_paused(world: World) -> None:
    (one,) = _dead_events(world, 1)
    job = commands.order_retry(world.engine, [one], by=ANN, now=world.clock())
    with writing(world.engine) as conn:
        assert jobs.take(conn, job, by="worker-1", now=world.clock()) is not None
        jobs.pause(conn, job, now=world.clock())
    with pytest.raises(Conflict), writing(world.engine) as conn:
        jobs.record(conn, job, {str(one): ("ok", "")}, by="worker-1", now=world.clock())
    with pytest.raises(Conflict), writing(world.engine) as conn:
        jobs.note(conn, job, str(one), "halfway", by="worker-1", now=world.clock())
    with reading(world.engine) as conn:
        assert not jobs.is_going(conn, job, by="worker-1")
    assert _progress(world, job).done == 0


def test_a_paused_job_can_be_cancelled_and_nothing_is_paused_or_resumed_twice(world: World) -> None:
    job = commands.order_retry(world.engine, _dead_events(world, 2), by=ANN, now=world.clock())
    with pytest.raises(Conflict, match="is not paused"):
        commands.resume_job(world.engine, job, by=ANN, now=world.clock())
    commands.pause_job(world.engine, job, by=ANN, now=world.clock())
    with pytest.raises(Conflict, match="paused already"):
        commands.pause_job(world.engine, job, by=ANN, now=world.clock())
    commands.cancel_job(world.engine, job, by=ANN, now=world.clock())
    assert (_progress(world, job).state, _progress(world, job).is_open) == ("cancelled", False)
    for again in (commands.pause_job, commands.resume_job):
        with pytest.raises(Conflict, match="has ended"):
            again(world.engine, job, by=ANN, now=world.clock())
        with pytest.raises(NotFound):
            again(world.engine, 99, by=ANN, now=world.clock())
    with reading(world.engine) as conn:
        lines = list(conn.execute(select(capi_audit.c.action, capi_audit.c.by, capi_audit.c.count)))
    assert lines[1:] == [("pause_job", "Ann", 2), ("cancel_job", "Ann", 2)]


def test_who_only_looks_pauses_nothing(world: World) -> None:
    job = commands.order_retry(world.engine, _dead_events(world, 1), by=ANN, now=world.clock())
    for order in (commands.pause_job, commands.resume_job):
        with pytest.raises(Forbidden):
            order(world.engine, job, by=VI, now=world.clock())
    assert _progress(world, job).state == "queued"
