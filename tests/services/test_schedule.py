"""The schedule: one among many workers, nothing twice, nothing missed, never everything at once."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import Engine, update

from core.doors.timetable import TASKS
from core.drills.timelapse import hasten
from core.services import schedule
from core.services.policy import Policy, spread
from core.services.refresh import TokenRefreshService
from core.store import tokens, workers
from core.store.database import reading, writing
from core.store.schema import capi_token
from tests.world import DAY, World

NOW = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # half an hour before Europe puts its clocks forward
HOUR = timedelta(hours=1)
(SCHEDULED,) = (task for task in TASKS if task.name == "scheduled refresh")


class Clock:
    """A clock that is put forward and back."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


def look(service: TokenRefreshService, now: datetime) -> list[str]:
    """One worker's look at the schedule, and the refreshes that it sets off: as the worker does it."""
    with writing(service.engine) as conn:
        if not workers.claim_task(conn, SCHEDULED.name, every=SCHEDULED.every, now=now):
            return []
    begun = []
    for _, found in SCHEDULED.run(service, now) or []:
        if schedule.may_begin(service.engine, service.policy, now=now):
            service.refresh(found, trigger="scheduled", by=service.worker)
            begun.append(found)
    return begun


def known(engine: Engine, count: int, *, due: datetime, ends: datetime | None = None) -> list[str]:
    names = [f"fp_{n:05d}" for n in range(count)]
    with writing(engine) as conn:
        for name in names:
            tokens.see(conn, name, user_id="u", now=due, next_refresh_at=due)
        conn.execute(update(capi_token).values(expires_at=ends))
    return names


def test_two_workers_schedules_refresh_each_token_once(world: World) -> None:
    held = [world.meta.create_token(expires_in=20 * 86_400) for _ in range(12)]
    for n, token in enumerate(held):
        world.an_app(token, expires_in=20 * DAY, email=f"shop{n}@example.com")
        with writing(world.engine) as conn:
            tokens.see(conn, token.fingerprint, user_id="u", now=world.clock(), next_refresh_at=world.clock())
    clock = Clock(world.clock() + timedelta(minutes=1))
    services = [world.service(f"worker-{n}") for n in range(2)]
    looks = threading.Barrier(2)

    def work(service: TokenRefreshService) -> None:
        service.clock = service.flight.clock = clock
        for _ in range(8):
            looks.wait()
            look(service, clock.at)
            if looks.wait() == 0:
                clock.at += schedule.EVERY

    threads = [threading.Thread(target=work, args=(service,)) for service in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = Counter(call["fingerprint"] for call in world.meta.calls("exchange"))
    assert asked == Counter(token.fingerprint for token in held)
    assert {row.outcome for row in world.refreshes()} == {"extended"}


def test_runs_that_were_missed_are_caught_up_once(engine: Engine) -> None:
    """All workers were away for a day."""
    every = SCHEDULED.every
    with writing(engine) as conn:
        assert workers.claim_task(conn, SCHEDULED.name, every=every, now=NOW)
        late = NOW + DAY
        assert [workers.claim_task(conn, SCHEDULED.name, every=every, now=late) for _ in range(3)] == [
            True,
            False,
            False,
        ]
        assert workers.claim_task(conn, SCHEDULED.name, every=every, now=late + every)


@pytest.mark.parametrize("jump", [2 * HOUR, -2 * HOUR, HOUR, -HOUR])
def test_a_clock_that_jumps_stops_nothing_and_sets_off_nothing_at_once(engine: Engine, jump: timedelta) -> None:
    """An hour is what a machine in local time does when summer begins and ends."""
    policy = Policy(refreshes_a_minute=60)
    names = known(engine, 300, due=NOW - DAY)
    begun: list[datetime] = []
    at = NOW
    for second in range(0, 240, 5):
        if second == 120:
            at += jump
        with writing(engine) as conn:
            mine = workers.claim_task(conn, SCHEDULED.name, every=SCHEDULED.every, now=at)
        for name in schedule.due_refreshes(engine, policy, now=at) if mine else []:
            if schedule.may_begin(engine, policy, now=at):
                begun.append(NOW + timedelta(seconds=second))
                with writing(engine) as conn:
                    tokens.plan(conn, name, at + DAY)
        at += SCHEDULED.every
    last_minute = [one for one in begun if one >= NOW + timedelta(seconds=180)]
    assert 50 <= len(last_minute) <= 60, "it goes on at its pace"
    assert _most_in_a_minute([one for one in begun if one < NOW + timedelta(seconds=120)]) <= 60
    assert len(begun) <= 60 * 4 + 5 < len(names)


@pytest.mark.parametrize("jump", [2 * HOUR, -2 * HOUR])
def test_a_lease_of_before_the_jump_holds_nobody_for_long(engine: Engine, jump: timedelta) -> None:
    """Its owner was killed, and the clock was put right."""
    (name,) = known(engine, 1, due=NOW - DAY)
    with writing(engine) as conn:
        assert tokens.lease(conn, name, by="killed", now=NOW)
        assert not tokens.lease(conn, name, by="other", now=NOW)
        at = NOW + jump
        assert tokens.due_for_refresh(conn, now=at, limit=1, broken=False) == [name]
        assert tokens.lease(conn, name, by="other", now=at)


def test_a_stored_end_that_a_clock_jump_passes_is_checked_with_meta(world: World) -> None:
    """Two hours ahead: only an event looks at the end, and Meta's own word stands."""
    token = world.meta.create_token(expires_in=40 * 86_400)
    app = world.an_app(token, expires_in=HOUR)
    clock = Clock(world.clock() + 2 * HOUR)
    world.clock = clock
    sent = world.an_event(app)
    (refused,) = world.deliver(app)
    assert world.token(token.fingerprint).broken_words == tokens.PAST_END
    assert world.service().refresh(refused, trigger="on_error", by="worker").usable
    world.deliver(app)
    assert world.state_of(sent) == "delivered"
    assert world.meta.count("exchange") <= 1


@pytest.mark.parametrize("a_minute", [1, 7, 60])
def test_no_more_turns_than_the_setting_in_any_minute(sqlite_engine: Engine, a_minute: int) -> None:
    hasten(sqlite_engine)
    policy = Policy(refreshes_a_minute=a_minute)
    given = [
        NOW + timedelta(seconds=second)
        for second in range(0, 125, 5)
        for _ in range(min(3 * a_minute, 8))
        if schedule.may_begin(sqlite_engine, policy, now=NOW + timedelta(seconds=second))
    ]
    assert _most_in_a_minute(given) <= a_minute
    assert len(given) >= 2 * a_minute * 0.75


def _most_in_a_minute(moments: list[datetime]) -> int:
    minute = timedelta(minutes=1)
    return max((sum(start <= one < start + minute for one in moments) for start in moments), default=0)


def test_turns_are_shared_by_all_workers(engine: Engine) -> None:
    policy = Policy(refreshes_a_minute=60)
    given: list[bool] = []

    def ask() -> None:
        given.extend(schedule.may_begin(engine, policy, now=NOW) for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(given) == 5, "what one look sets off at once"


def test_those_inside_the_alarm_window_come_first(engine: Engine) -> None:
    policy = Policy(refreshes_a_minute=24)
    names = known(engine, 40, due=NOW - DAY, ends=NOW + 20 * DAY)
    with writing(engine) as conn:
        late = capi_token.c.fingerprint == names[33]
        conn.execute(update(capi_token).where(late).values(expires_at=NOW + 5 * DAY, next_refresh_at=NOW))
    found = schedule.due_refreshes(engine, policy, now=NOW)
    assert (len(found), found[0]) == (2, names[33])


def test_tokens_with_one_end_come_due_over_a_day(engine: Engine) -> None:
    policy, ends = Policy(), NOW + 60 * DAY
    due = sorted(policy.first_refresh(f"fp_{n}", ends, NOW) or NOW for n in range(10_000))
    assert ends - 30 * DAY <= due[0]
    assert due[-1] < ends - 29 * DAY
    assert max(b - a for a, b in pairwise(due)) < timedelta(minutes=5)
    assert _most_of(due, timedelta(minutes=1)) < 30
    assert 0 <= spread("anything") < 1


def _most_of(moments: list[datetime], span: timedelta) -> int:
    start, most = 0, 0
    for end, moment in enumerate(moments):
        while moments[start] <= moment - span:
            start += 1
        most = max(most, end - start + 1)
    return most


def test_an_open_incident_pauses_the_schedule_and_counts_nothing(world: World) -> None:
    token = world.meta.create_token(expires_in=5 * 86_400)
    app = world.an_app(token, expires_in=5 * DAY)
    wrong = world.service(secret="not the secret")
    assert wrong.check_and_refresh_token(app.id).outcome == "refused"
    before = world.token(token.fingerprint)
    assert schedule.due_refreshes(world.engine, wrong.policy, now=world.clock() + HOUR) == []
    for trigger in ("scheduled", "on_error", "bulk"):
        with writing(world.engine) as conn:
            tokens.plan(conn, token.fingerprint, world.clock())
        paused = wrong.refresh(token.fingerprint, trigger=trigger, by="test")
        assert (paused.outcome, paused.words[:7]) == ("unreachable", "paused:")
    after = world.token(token.fingerprint)
    assert (after.failures, after.needs_reconnect) == (before.failures, False)
    assert len(world.refreshes()) == 1
    with reading(world.engine) as conn:
        assert tokens.get(conn, token.fingerprint).refresh_until is None
    assert world.service().refresh(token.fingerprint, trigger="manual", by="ann").usable, "a person may try"
