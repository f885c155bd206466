"""Hours are counted as they were, again after trouble; what was kept long enough goes, and nothing else."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, func, select, text, update

from core.desk import queries
from core.services import upkeep
from core.services.policy import Policy
from core.store import audit, health_days, jobs, retention, rollups
from core.store.database import reading, writing
from core.store.health import Health
from core.store.hopeless import CONTENT_GONE
from core.store.schema import (
    capi_attempt,
    capi_audit,
    capi_case,
    capi_event,
    capi_health,
    capi_incident,
    capi_job,
    capi_job_item,
    capi_outbox,
    capi_receipt,
    capi_refresh,
    capi_rollup,
)
from tests.world import DAY, World

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
POLICY = Policy()
PLAN = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}


def an_attempt(engine: Engine, at: datetime, *, pixel: str = "77", events: int = 1, late: int = 0, **more: Any) -> None:
    row = {"at": at, "pixel_id": pixel, "fingerprint": "fp_1", "events": events, "after_refresh": late}
    with writing(engine) as conn:
        conn.execute(capi_attempt.insert().values(**row, duration_ms=5, **more))


def hours(engine: Engine, since: datetime, pixel: str = rollups.ALL) -> dict[datetime, rollups.Counts]:
    with reading(engine) as conn:
        return rollups.hours(conn, since=since, pixel_id=pixel)


def test_hours_are_counted_by_pixel_and_for_all_together(engine: Engine, now: datetime) -> None:
    an_attempt(engine, now - 2 * HOUR, events=5, late=2)
    an_attempt(engine, now - 2 * HOUR, pixel="88", events=3, failure="transient")
    an_attempt(engine, now, events=4)
    assert upkeep.roll_up(engine, POLICY, now=now) == 3
    assert hours(engine, now - 2 * HOUR) == {
        now - 2 * HOUR: rollups.Counts(5, 2, 3, 2),
        now - HOUR: rollups.Counts(),
        now: rollups.Counts(4, 0, 0, 1),
    }
    assert hours(engine, now - 2 * HOUR, "77") == {
        now - 2 * HOUR: rollups.Counts(5, 2, 0, 1),
        now: rollups.Counts(4, 0, 0, 1),
    }


def test_the_chart_reads_the_counts(engine: Engine, now: datetime) -> None:
    an_attempt(engine, now - 3 * HOUR, events=5, late=2)
    an_attempt(engine, now - 30 * HOUR, events=50)
    upkeep.roll_up(engine, POLICY, now=now)
    with reading(engine) as conn:
        shown = queries.hours(conn, now=now + 20 * MINUTE)
    assert len(shown) == 24
    assert [(hour.at, hour.delivered, hour.after_refresh) for hour in shown if hour.delivered] == [
        (now - 3 * HOUR, 5, 2)
    ]


def test_counting_again_gives_the_same_and_a_late_request_is_counted(engine: Engine, now: datetime) -> None:
    an_attempt(engine, now - MINUTE)
    upkeep.roll_up(engine, POLICY, now=now - MINUTE)
    before = hours(engine, now - HOUR)
    upkeep.roll_up(engine, POLICY, now=now - MINUTE)
    assert hours(engine, now - HOUR) == before
    an_attempt(engine, now - timedelta(seconds=1))  # written down when the next hour has begun
    upkeep.roll_up(engine, POLICY, now=now + MINUTE)
    an_attempt(engine, now - timedelta(seconds=2))
    upkeep.roll_up(engine, POLICY, now=now + 4 * MINUTE)
    assert hours(engine, now - HOUR)[now - HOUR].delivered == 3


def test_hours_without_a_worker_are_made_good(engine: Engine, now: datetime) -> None:
    an_attempt(engine, now)
    upkeep.roll_up(engine, POLICY, now=now)
    an_attempt(engine, now + 50 * MINUTE)
    an_attempt(engine, now + 5 * HOUR, events=7)
    assert upkeep.roll_up(engine, POLICY, now=now + 9 * HOUR) == 10
    counted = hours(engine, now)
    assert counted[now].delivered == 2
    assert counted[now + 5 * HOUR].delivered == 7
    assert len(counted) == 10


def test_a_delivery_says_what_had_waited_for_a_refresh(world: World) -> None:
    token = world.meta.create_token()
    app = world.an_app(token)
    world.an_event(app)
    late = world.an_event(app)
    with writing(world.engine) as conn:
        conn.execute(update(capi_outbox).where(capi_outbox.c.id == _id(conn, late)).values(after_refresh=True))
    world.deliver(app)
    with reading(world.engine) as conn:
        sums = conn.execute(select(func.sum(capi_attempt.c.events), func.sum(capi_attempt.c.after_refresh))).one()
    assert tuple(sums) == (2, 1)


def _id(conn: Any, event_id: str) -> int:
    return int(conn.scalar(select(capi_event.c.id).where(capi_event.c.event_id == event_id)))


def _state(world: World, event_id: str, state: str, *, at: datetime, payload: bool) -> int:
    """An event as it stands a while after it came in."""
    with writing(world.engine) as conn:
        old = _id(conn, event_id)
        new = (int(at.timestamp() * 1000) << 22) + old % 2**22
        conn.execute(update(capi_event).where(capi_event.c.id == old).values(id=new, state=state, received_at=at))
        stored = state if payload else None
        if stored is None:
            conn.execute(delete(capi_outbox).where(capi_outbox.c.id == old))
        else:
            conn.execute(update(capi_outbox).where(capi_outbox.c.id == old).values(id=new, state=stored))
    return new


def _everything(engine: Engine, now: datetime) -> dict[str, int]:
    """Until nothing is left to drop."""
    done: dict[str, int] = {}
    while steps := upkeep.forget(engine, POLICY, now=now):
        for what, count in steps.items():
            done[what] = done.get(what, 0) + count
    return done


def test_events_go_by_age_and_what_waits_never(world: World, now: datetime) -> None:
    app = world.an_app(world.meta.create_token())
    cases = {
        "delivered, old": ("delivered", 91, False),
        "delivered, young": ("delivered", 89, False),
        "dead, its content old": ("dead", 15, True),
        "dead, young": ("dead", 13, True),
        "dead, old": ("dead", 91, True),
        "skipped, old": ("skipped", 91, False),
        "waits, from a till": ("parked", 91, True),
        "due, from a till": ("due", 91, True),
    }
    ids = {
        name: _state(world, world.an_event(app), state, at=now - days * DAY, payload=payload)
        for name, (state, days, payload) in cases.items()
    }
    _everything(world.engine, now)
    with reading(world.engine) as conn:
        lines = set(conn.scalars(select(capi_event.c.id)))
        stored = set(conn.scalars(select(capi_outbox.c.id)))
    kept = {"delivered, young", "dead, its content old", "dead, young", "waits, from a till", "due, from a till"}
    assert {name for name, id_ in ids.items() if id_ in lines} == kept
    assert {name for name, id_ in ids.items() if id_ in stored} == kept - {"delivered, young", "dead, its content old"}


def test_a_dead_event_without_its_content_is_not_promised_again(world: World, now: datetime) -> None:
    app = world.an_app(world.meta.create_token())
    gone = _state(world, world.an_event(app), "dead", at=now - 15 * DAY, payload=True)
    with writing(world.engine) as conn:  # such as Meta would take still: an event of a shop's till
        conn.execute(update(capi_event).values(deadline_at=now + 30 * DAY))
    _everything(world.engine, now)
    with reading(world.engine) as conn:
        preview = queries.retry_preview(conn, [gone], now=now)
    assert (preview.retried, preview.skipped) == (0, {CONTENT_GONE: 1})


def test_history_goes_by_age(engine: Engine, now: datetime) -> None:
    def rows(days: int, number: int) -> None:
        at = now - days * DAY
        with writing(engine) as conn:
            insert(conn, at, number)

    for number, days in enumerate((401, 399, 91, 89)):
        rows(days, number)
    _everything(engine, now)
    with reading(engine) as conn:
        counts = {table.name: conn.scalar(select(func.count()).select_from(table)) for table in TABLES}
        items = conn.scalar(select(func.count()).select_from(capi_job_item))
        pixel_hours = conn.scalar(select(func.count()).where(capi_rollup.c.pixel_id == "77"))
    assert counts == {
        "capi_attempt": 1,
        "capi_receipt": 1,
        "capi_job": 1,
        "capi_refresh": 3,
        "capi_case": 3,
        "capi_incident": 3,
        "capi_rollup": 4,
        "capi_health": 3 * len(Health),
    }
    assert items == 2
    assert pixel_hours == 1


TABLES = (capi_attempt, capi_receipt, capi_job, capi_refresh, capi_case, capi_incident, capi_rollup, capi_health)


def insert(conn: Any, at: datetime, number: int) -> None:
    """One row of every kind that ended at this moment."""
    fp = {"fingerprint": f"fp_{number}", "user_id": "u"}
    conn.execute(
        capi_attempt.insert().values(at=at, pixel_id="77", fingerprint="fp", events=1, after_refresh=0, duration_ms=1)
    )
    conn.execute(capi_receipt.insert().values(at=at, source="track", reason="unreadable", status=400))
    conn.execute(
        capi_refresh.insert().values(
            started_at=at, duration_ms=1, trigger="bulk", by="w", outcome="extended", apps_updated=0, **fp
        )
    )
    conn.execute(capi_case.insert().values(state="done", failure="token_dead", made_at=at, done_at=at, **fp))
    conn.execute(capi_incident.insert().values(kind="meta_away", opened_at=at, seen_at=at, probe_at=at, closed_at=at))
    job = jobs.order(conn, "refresh_tokens", ["a", "b"], dedupe_key=str(number), by="x", reason=None, now=at)
    jobs.end(conn, job, now=at)
    rollups.put(conn, rollups.hour_of(at), {"77": rollups.Counts(1, 0, 0, 1)})
    health_days.put(conn, dict.fromkeys(Health, 1), now=at)


def test_an_open_job_and_an_open_case_stay_however_old(engine: Engine, now: datetime) -> None:
    old = now - 500 * DAY
    with writing(engine) as conn:
        jobs.order(conn, "refresh_tokens", ["a"], dedupe_key="k", by="x", reason=None, now=old)
        conn.execute(capi_case.insert().values(state="made", failure="x", made_at=old, fingerprint="fp_1", user_id="u"))
    assert _everything(engine, now) == {}
    with reading(engine) as conn:
        assert conn.scalar(select(func.count()).select_from(capi_job)) == 1
        assert conn.scalar(select(func.count()).select_from(capi_case)) == 1


def test_the_audit_trail_stays_checkable_when_its_oldest_lines_go(engine: Engine, now: datetime) -> None:
    def write(days: int, what: str) -> None:
        with writing(engine) as conn:
            audit.write(conn, by="ann", action=what, subject="s", count=1, reason=None, now=now - days * DAY)

    for days, what in ((500, "first"), (450, "second"), (100, "third"), (1, "fourth")):
        write(days, what)
    _everything(engine, now)
    with reading(engine) as conn:
        assert audit.first_broken(conn) is None
        actions = list(conn.scalars(select(capi_audit.c.action).order_by(capi_audit.c.id)))
    assert actions == ["third", "fourth", "forget_audit"]
    write(0, "fifth")
    with writing(engine) as conn:
        assert audit.first_broken(conn) is None
        third = conn.scalar(select(func.min(capi_audit.c.id)))
        conn.execute(update(capi_audit).where(capi_audit.c.id == third).values(by="eve"))
        assert audit.first_broken(conn) == third


def test_the_last_line_of_the_audit_trail_stays(engine: Engine, now: datetime) -> None:
    with writing(engine) as conn:
        audit.write(conn, by="ann", action="x", subject="s", count=1, reason=None, now=now - 999 * DAY)
    assert _everything(engine, now) == {}
    with reading(engine) as conn:
        assert audit.first_broken(conn) is None


def test_one_run_ends_in_time_and_much_of_one_kind_keeps_no_other(
    engine: Engine, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP", 10)
    monkeypatch.setattr(upkeep, "STEP", 10)
    old = now - 100 * DAY
    rows = [
        {"at": old, "pixel_id": "77", "fingerprint": "fp", "events": 1, "after_refresh": 0, "duration_ms": 1}
        for _ in range(200)
    ]
    with writing(engine) as conn:
        conn.execute(capi_attempt.insert(), rows)
    turns = iter(range(10_000))
    steps = upkeep.forget(engine, POLICY, now=now, clock=lambda: next(turns) / 3)
    assert 0 < steps["Requests to Meta"] < 20
    assert _everything(engine, now) == {"Requests to Meta": 20 - steps["Requests to Meta"]}


def test_writers_hardly_wait_while_much_is_dropped(engine: Engine, now: datetime) -> None:
    """20,000 rows go; meanwhile somebody writes all the time."""
    old = now - 100 * DAY
    rows = [
        {"at": old, "pixel_id": "77", "fingerprint": "fp", "events": 1, "after_refresh": 0, "duration_ms": 1}
        for _ in range(20_000)
    ]
    with writing(engine) as conn:
        conn.execute(capi_attempt.insert(), rows)
    waited: list[float] = []
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            started = time.monotonic()
            with writing(engine) as conn:
                conn.execute(capi_receipt.insert().values(at=now, source="track", reason="unreadable", status=400))
            waited.append(time.monotonic() - started)
            time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    _everything(engine, now)
    over.set()
    writer.join()
    with reading(engine) as conn:
        assert conn.scalar(select(func.count()).select_from(capi_attempt)) == 0
    assert len(waited) > 20
    assert sorted(waited)[int(len(waited) * 0.95)] < 0.25


def test_no_class_reads_a_whole_table(engine: Engine, now: datetime) -> None:
    """What is dropped is found by an index; closed cases and incidents are few."""
    said: list[tuple[str, Any]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def hear(conn: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
        if statement.startswith(("SELECT", "DELETE")):
            said.append((statement, parameters))

    for kind in retention.CLASSES:
        with writing(engine) as conn:
            kind.drop(conn, now - 400 * DAY)
    event.remove(engine, "before_cursor_execute", hear)
    big = ("capi_event", "capi_outbox", "capi_attempt", "capi_receipt", "capi_refresh", "capi_job_item", "capi_rollup")
    with reading(engine) as conn:
        if engine.dialect.name == "postgresql":
            conn.execute(text("SET LOCAL enable_seqscan = off"))  # tables are empty here: what could be used counts
        plans = [
            line
            for statement, parameters in said
            for line in map(str, conn.exec_driver_sql(PLAN[engine.dialect.name] + statement, parameters).all())
        ]
    assert len(plans) > 10
    scans = [line for line in plans for table in big if f"SCAN {table}'" in line or f"Seq Scan on {table}" in line]
    assert scans == []
