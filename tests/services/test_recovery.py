"""What mends itself is found by itself: limits that end, pixels that open again, tokens that their owner has mended."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, update

from core.meta.failures import Failure
from core.meta.graph import Graph, GraphError
from core.sandbox.client import Sandbox
from core.services import alerts, checkup, probing, watch
from core.services.policy import ON_ERROR_PAUSE, Policy
from core.store import apps, cases, history, outbox, tokens
from core.store.database import reading, writing
from core.store.schema import capi_event, capi_pixel, capi_token
from core.store.schema_recovery import capi_case, capi_notice
from tests.services.test_incidents import Clock
from tests.world import APP_ID, DAY, World

POLICY = Policy(app_id=APP_ID)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture
def timed(engine: Engine, meta: Sandbox, now: datetime) -> World:
    meta.set_clock(now)
    return World(engine, meta, clock=Clock(now))


@pytest.fixture
def sqlite_timed(sqlite_engine: Engine, meta: Sandbox, now: datetime) -> World:
    meta.set_clock(now)
    return World(sqlite_engine, meta, clock=Clock(now))


def _tick(world: World, step: timedelta) -> None:
    world.clock.on(step)  # type: ignore[attr-defined]
    world.meta.set_clock(world.clock())


def _sweep(world: World) -> None:
    """What a worker does by itself."""
    watch.hurry_regained(world.engine, now=world.clock())
    watch.release_replaced(world.engine, now=world.clock())
    graph = world.graph()
    probing.probe_incidents(world.engine, graph, POLICY, by="worker-1", clock=world.clock)
    for work, subject in watch.due_work(world.engine, now=world.clock()):
        if str(work) == "deliver":
            probing.deliver(world.engine, graph, subject, policy=POLICY, by="worker-1", clock=world.clock)


# Limits.


def test_all_pixels_of_a_limited_token_wait_and_others_go_on(timed: World) -> None:
    token = timed.meta.create_token()
    first, second = timed.an_app(token, pixel="4711"), timed.an_app(token, pixel="4712")
    other = timed.an_app(timed.meta.create_token(), pixel="4711")
    waits = [timed.an_event(first, age=HOUR), timed.an_event(second)]
    goes = timed.an_event(other)
    timed.meta.fault("events", "rate_17", count=1, minutes=4, token=token)
    for app in (first, second, other):
        timed.deliver(app)
    assert [timed.state_of(sent) for sent in waits] == ["due", "due"]
    assert timed.state_of(goes) == "delivered"
    assert timed.meta.count("events") == 2
    assert [timed.event(sent).attempts for sent in waits] == [0, 0]
    _tick(timed, 4 * MINUTE - timedelta(seconds=1))
    _sweep(timed)
    assert timed.meta.count("events") == 2
    _tick(timed, timedelta(seconds=2))
    _sweep(timed)
    assert timed.states() == {"delivered": 3}


def test_a_shorter_limit_does_not_end_a_longer_one(sqlite_timed: World) -> None:
    app = sqlite_timed.an_app(sqlite_timed.meta.create_token())
    fingerprint, now = str(app.fingerprint), sqlite_timed.clock()
    said = (HOUR, "limit"), (MINUTE, "another"), (2 * HOUR, "the longest"), (-2 * DAY, "the clock was wrong")
    seen = []
    with writing(sqlite_timed.engine) as conn:
        tokens.see(conn, fingerprint, user_id=app.user_id, now=now, next_refresh_at=None)
        for wait, failure in said:
            tokens.hold_back(conn, fingerprint, until=now + wait, failure=failure)
            row = tokens.get(conn, fingerprint)
            assert row is not None
            seen.append((row.wait_until - now, row.wait_failure))
    assert seen == [said[0], said[0], said[2], said[3]]


@pytest.mark.parametrize("code", [17, 200])
def test_what_is_left_of_a_divided_batch_makes_no_further_call(
    sqlite_timed: World, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """After the limit of the token's user, or its bar from the pixel, the other parts would meet the same."""
    app = sqlite_timed.an_app(sqlite_timed.meta.create_token())
    for _ in range(16):
        sqlite_timed.an_event(app)
    calls: list[int] = []

    def send(_: Graph, __: str, bodies: list[bytes], *args: Any, **more: Any) -> None:
        calls.append(len(bodies))
        failure = Failure.RATE_LIMITED if code == 17 else Failure.PERMISSION
        if len(calls) < 5:
            raise GraphError(Failure.INVALID_EVENT, "bad", code=100, subcode=2804003, status=400)
        raise GraphError(failure, "no", code=code, status=400)

    monkeypatch.setattr(Graph, "send", send)
    sqlite_timed.deliver(app)
    assert calls == [16, 8, 4, 2, 1]
    sqlite_timed.deliver(app)
    assert len(calls) == 5
    assert sqlite_timed.states() == {"due" if code == 17 else "parked": 16}


def test_a_limited_token_that_is_replaced_does_not_hold_its_events_up(timed: World) -> None:
    app = timed.an_app(timed.meta.create_token())
    sent = timed.an_event(app)
    timed.meta.fault("events", "rate_17", count=1, minutes=600)
    timed.deliver(app)
    with writing(timed.engine) as conn:
        apps.write_token(conn, app.id, timed.meta.create_token(), expires_at=None)
    _tick(timed, 5 * MINUTE)
    _sweep(timed)
    assert timed.state_of(sent) == "delivered"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"X-Business-Use-Case-Usage": '{"1":[{"call_count":100,"estimated_time_to_regain_access":3}]}'}, 180),
        ({"X-Ad-Account-Usage": '{"acc_id_util_pct":100,"reset_time_duration":90}'}, 90),
        ({"X-Ad-Account-Usage": '{"acc_id_util_pct":60,"reset_time_duration":90}'}, None),
        ({"X-App-Usage": '{"call_count":99,"total_time":20,"total_cputime":3}'}, None),
        ({"Retry-After": "12"}, 12),
    ],
)
def test_a_success_that_uses_up_a_limit_makes_the_pixel_wait(
    timed: World, headers: dict[str, str], seconds: int | None
) -> None:
    """Minutes are minutes and seconds are seconds; nothing has failed."""
    app = timed.an_app(timed.meta.create_token())
    sent = timed.an_event(app)
    timed.meta.fault("events", "usage", headers=headers, count=1)
    timed.deliver(app)
    with reading(timed.engine) as conn:
        pixel = conn.execute(select(capi_pixel)).one()
    until = timed.clock() + timedelta(seconds=seconds) if seconds else None
    assert (timed.state_of(sent), pixel.wait_until, pixel.failures) == ("delivered", until, 0)


# Soft refusals.


def test_three_soft_refusals_of_one_token_in_an_hour_break_it_on_whatever_pixel(timed: World) -> None:
    token = timed.meta.create_token()
    shops = [timed.an_app(token) for _ in range(3)]
    timed.meta.fault("events", "error", error={"code": 190, "subcode": 452, "message": "Session does not match"})
    broken = []
    for app in shops:
        timed.an_event(app)
        broken.append(timed.deliver(app))
    assert broken == [[], [], [token.fingerprint]]
    assert timed.token(token.fingerprint).broken_failure == "token_soft"


def test_soft_refusals_hours_apart_break_nothing(timed: World) -> None:
    app = timed.an_app(timed.meta.create_token())
    timed.an_event(app)
    timed.meta.fault("events", "error", error={"code": 190, "subcode": 452, "message": "Session does not match"})
    for _ in range(5):
        assert timed.deliver(app) == []
        _tick(timed, 31 * MINUTE)


# Tries.


def test_only_answers_that_nobody_knows_wear_an_event_out(timed: World) -> None:
    """Two outages before it do not make the first unknown answer its last."""
    app = timed.an_app(timed.meta.create_token())
    sent = timed.an_event(app)
    timed.meta.fault("events", "transient_2", count=3)
    timed.meta.fault("events", "error", error={"code": 99999, "message": "?"}, count=3)
    states = []
    for _ in range(6):
        timed.deliver(app)
        states.append(timed.state_of(sent))
        _tick(timed, 2 * HOUR)
    assert states == ["due"] * 5 + ["dead"]
    assert timed.event(sent).failure == "unknown"


# Pixels that open again.


def test_a_pixel_that_opens_again_is_found_within_the_hour_and_everything_goes(timed: World) -> None:
    token = timed.meta.create_token()
    app, tested = timed.an_app(token, pixel="4711"), timed.an_app(token, pixel="4711")
    closed = {"code": 100, "subcode": 33, "message": "Unsupported post request"}
    timed.meta.fault("events", "error", error=closed)
    for shop in (app, tested):
        timed.an_event(shop)
        timed.deliver(shop)
    timed.meta.clear_faults()
    _tick(timed, 59 * MINUTE)
    _sweep(timed)
    assert timed.meta.count("events") == 1
    _tick(timed, 2 * MINUTE)
    _sweep(timed)
    assert timed.states() == {"delivered": 2}


def test_a_pixel_found_open_by_a_check_is_tried_at_once(timed: World) -> None:
    token = timed.meta.create_token()
    app = timed.an_app(token)
    timed.an_event(app)
    timed.meta.fault("events", "error", error={"code": 10, "message": "(#10)"}, count=1)
    timed.deliver(app)
    _tick(timed, MINUTE)
    _sweep(timed)
    assert timed.states() == {"parked": 1}
    probing.checkup.check(timed.engine, timed.graph(), POLICY, token.fingerprint, now=timed.clock())
    _sweep(timed)
    assert timed.states() == {"delivered": 1}


# Tokens that their owner has mended.


def _lost(world: World, subcode: int = 459, **more: Any) -> tuple[Any, str]:
    """A token that only its owner can mend, with an event that waits for it."""
    token = world.meta.create_token(**more)
    app = world.an_app(token)
    sent = world.an_event(app)
    world.meta.kill(token, subcode)
    for fingerprint in world.deliver(app):
        world.service().refresh(fingerprint, trigger="on_error", by="test")
    assert world.token(token.fingerprint).needs_reconnect
    return token, sent


def _look(world: World) -> int:
    return probing.probe_tokens(world.engine, world.graph(), POLICY, now=world.clock())


@pytest.mark.parametrize("app_id", [APP_ID, "999"])
def test_a_token_mended_at_facebook_is_noticed_within_minutes(timed: World, app_id: str) -> None:
    """Of a token that another Meta app made /debug_token does not speak: then its pixel is asked."""
    token, sent = _lost(timed, app_id=app_id)
    _tick(timed, 3 * MINUTE)
    assert _look(timed) == 1
    assert timed.token(token.fingerprint).needs_reconnect
    timed.meta.revive(token)
    _tick(timed, 5 * MINUTE)
    assert _look(timed) == 1
    assert timed.token(token.fingerprint).broken_since is None
    with reading(timed.engine) as conn:
        assert [row.state for row in conn.execute(select(capi_case.c.state))] == ["done"]
    _sweep(timed)
    assert timed.state_of(sent) == "delivered"


def test_a_lost_token_is_looked_at_ever_less_often_and_at_last_once_a_day(timed: World) -> None:
    _lost(timed)
    looks, began = [], timed.clock()
    for _ in range(60):
        _tick(timed, MINUTE)
        looks += [round((timed.clock() - began) / MINUTE)] * _look(timed)
    gaps = [late - early for early, late in zip([0, *looks], looks, strict=False)]
    assert gaps[:3] == [2, 5, 9]
    assert set(gaps[3:]) <= {16, 17}
    _tick(timed, 7 * DAY)
    assert _look(timed) == 1
    _tick(timed, 23 * HOUR)
    assert _look(timed) == 0


def test_looks_are_capped(timed: World) -> None:
    for _ in range(3):
        _lost(timed, app_id="999")
    before = timed.meta.count("debug")
    _tick(timed, 3 * MINUTE)
    graph = timed.graph()
    looks = [probing.probe_tokens(timed.engine, graph, POLICY, now=timed.clock(), limit=2) for _ in range(3)]
    assert looks == [2, 1, 0]
    assert timed.meta.count("debug") - before == 3


def test_a_word_that_was_just_proved_wrong_mends_no_token(timed: World) -> None:
    """Meta calls the token valid and refuses it all the same: that is no loop."""
    token = timed.meta.create_token()
    app = timed.an_app(token)
    timed.an_event(app)
    timed.meta.fault("events", "error", error={"code": 190, "subcode": 467, "message": "invalid"})
    for _ in range(2):
        for fingerprint in timed.deliver(app):
            timed.service().refresh(fingerprint, trigger="on_error", by="test")
    assert timed.token(token.fingerprint).needs_reconnect
    calls = timed.meta.count("events")
    _tick(timed, 3 * MINUTE)
    _look(timed)
    assert timed.token(token.fingerprint).needs_reconnect
    _sweep(timed)
    assert timed.meta.count("events") == calls
    _tick(timed, 2 * ON_ERROR_PAUSE)
    _look(timed)
    assert not timed.token(token.fingerprint).needs_reconnect, "one more try after twenty minutes"


def test_a_token_that_is_valid_and_refused_for_hours_costs_little_and_its_link_stays_good(sqlite_timed: World) -> None:
    """The doubt grows with each time, and the case that was closed is the one that opens again."""
    token = sqlite_timed.meta.create_token()
    app = sqlite_timed.an_app(token)
    sqlite_timed.an_event(app)
    sqlite_timed.meta.fault("events", "error", error={"code": 190, "subcode": 467, "message": "invalid"})
    link: dict[str, Any] = {"nonce": "0" * 32, "ends_at": sqlite_timed.clock() + 7 * DAY, "remind_at": None}
    service, graph = sqlite_timed.service(), sqlite_timed.graph()
    for turn in range(12 * 6):
        for _ in range(2 * bool(watch.due_work(sqlite_timed.engine, now=sqlite_timed.clock()))):
            for fingerprint in sqlite_timed.deliver(app):
                service.refresh(fingerprint, trigger="on_error", by="test")
        if turn == 0:
            with writing(sqlite_timed.engine) as conn:
                cases.send(conn, 1, **link, by="ada", now=sqlite_timed.clock())
        _tick(sqlite_timed, 10 * MINUTE)
        probing.probe_tokens(sqlite_timed.engine, graph, POLICY, now=sqlite_timed.clock())
        watch.release_replaced(sqlite_timed.engine, now=sqlite_timed.clock())
        alerts.scan(sqlite_timed.engine, POLICY, now=sqlite_timed.clock(), kinds=["needs_reconnect"])
    assert sqlite_timed.meta.count("events") <= 14
    with reading(sqlite_timed.engine) as conn:
        rows = conn.execute(select(capi_case)).all()
        until = checkup.doubted_until(conn, token.fingerprint, now=sqlite_timed.clock())
        told = list(conn.scalars(select(capi_notice.c.what)))
    assert told == ["opened"], "one alert, however often the token seems to work"
    assert [(row.state, row.nonce, row.done_at) for row in rows] == [("sent", "0" * 32, None)]
    assert until is not None
    assert until > sqlite_timed.clock() + HOUR


def test_the_daily_check_doubts_the_same_word(sqlite_timed: World) -> None:
    token = sqlite_timed.meta.create_token()
    app = sqlite_timed.an_app(token)
    sqlite_timed.an_event(app)
    sqlite_timed.meta.fault("events", "error", error={"code": 190, "subcode": 467, "message": "invalid"})
    for _ in range(2):
        for fingerprint in sqlite_timed.deliver(app):
            sqlite_timed.service().refresh(fingerprint, trigger="on_error", by="test")
    _tick(sqlite_timed, 3 * MINUTE)
    graph, now = sqlite_timed.graph(), sqlite_timed.clock()
    checkup.check(sqlite_timed.engine, graph, POLICY, token.fingerprint, now=now)
    assert sqlite_timed.token(token.fingerprint).needs_reconnect


def test_a_refusal_of_a_request_that_began_before_the_mend_breaks_nothing(
    sqlite_timed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = sqlite_timed.meta.create_token()
    first, second = sqlite_timed.an_app(token, email="o@x.com"), sqlite_timed.an_app(token, email="o@x.com")
    sent = [sqlite_timed.an_event(first), sqlite_timed.an_event(second)]
    send, turns = Graph.send, iter(("under way", "refused"))

    def refused(graph: Graph, pixel_id: str, *args: Any, **more: Any) -> Any:
        turn = next(turns, None)
        if turn is None:
            return send(graph, pixel_id, *args, **more)
        if turn == "under way":  # meanwhile another request is refused, and the token is mended
            _tick(sqlite_timed, timedelta(seconds=1))
            for fingerprint in sqlite_timed.deliver(first):
                assert sqlite_timed.service().refresh(fingerprint, trigger="on_error", by="test").usable
            _tick(sqlite_timed, timedelta(seconds=1))
        raise GraphError(Failure.TOKEN_EXPIRED, "blip", code=190, status=400, fingerprint=token.fingerprint)

    monkeypatch.setattr(Graph, "send", refused)
    assert sqlite_timed.deliver(second) == []
    assert sqlite_timed.token(token.fingerprint).broken_since is None
    assert (sqlite_timed.state_of(sent[1]), sqlite_timed.event(sent[1]).attempts) == ("due", 0)
    _sweep(sqlite_timed)
    assert sqlite_timed.states() == {"delivered": 2}


def test_a_token_lost_lately_is_looked_at_though_many_are_overdue(timed: World) -> None:
    """On both databases: PostgreSQL sorts NULL last."""
    now = timed.clock()
    with writing(timed.engine) as conn:
        for n, lost_at in enumerate([now - 2 * HOUR] * 12 + [now - HOUR / 2]):
            tokens.see(conn, f"fp_{n}", user_id="u", now=now, next_refresh_at=None)
            tokens.give_up_on(conn, f"fp_{n}", failure="token_dead", words="", now=lost_at)
        older = update(capi_token).where(capi_token.c.fingerprint != "fp_12")
        conn.execute(older.values(probe_at=now - MINUTE, probes=5))
        due = tokens.due_for_probe(conn, now=now, first=2 * MINUTE, limit=10)
    assert due[0].fingerprint == "fp_12"


def test_only_one_worker_takes_a_look(timed: World) -> None:
    token, _ = _lost(timed)
    known = timed.token(token.fingerprint)
    with writing(timed.engine) as conn:
        assert tokens.take_probe(conn, known, probes=1, next_at=timed.clock() + MINUTE)
        assert not tokens.take_probe(conn, known, probes=1, next_at=timed.clock() + MINUTE)


# R7.

TROUBLES = st.sampled_from(["transient_2", "rate_80004", "rate_17", "short_ack", "soft", "unknown", "closed", None])
SAID = {
    "soft": {"code": 190, "subcode": 452, "message": "Session does not match"},
    "unknown": {"code": 99999, "message": "?"},
    "closed": {"code": 100, "subcode": 33, "message": "Unsupported post request"},
}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    ages=st.lists(st.floats(0, 7 * 24), min_size=1, max_size=4),
    steps=st.lists(st.tuples(TROUBLES, st.sampled_from([1, 60, 3_700, 90_000, 300_000])), max_size=5),
)
def test_nothing_is_sent_after_its_deadline_and_every_death_has_a_reason(
    ages: list[float], steps: list[tuple[str | None, int]], sqlite_world: World
) -> None:
    """R7, whatever goes wrong meanwhile and however long it takes."""
    world = sqlite_world
    if not isinstance(world.clock, Clock):  # one clock for all examples, and it never goes back
        world.clock = Clock(datetime.fromisoformat("2026-11-23T12:00:00+00:00"))
        world.meta.set_clock(world.clock())
    app = world.an_app(world.meta.create_token())
    seen = len(world.meta.events())
    mine = {world.an_event(app, age=HOUR * age): HOUR * age for age in ages}
    deadline = {sent: world.clock() + 7 * DAY - age for sent, age in mine.items()}
    for trouble, seconds in steps:
        world.meta.clear_faults()
        if trouble is not None:
            kind = "error" if trouble in SAID else trouble
            world.meta.fault("events", kind, **({"error": SAID[trouble]} if trouble in SAID else {}))
        _sweep(world)
        _tick(world, timedelta(seconds=seconds))
    with writing(world.engine) as conn:
        outbox.expire(conn, now=world.clock())
    for event in world.meta.events()[seen:]:
        assert datetime.fromtimestamp(event["at"], world.clock().tzinfo) < deadline[event["event_id"]]
    with reading(world.engine) as conn:
        rows = conn.execute(select(capi_event).where(capi_event.c.app_id == app.id)).all()
    for row in rows:
        assert row.state != "dead" or row.failure
        assert row.state in ("delivered", "dead") or deadline[row.event_id] > world.clock()
    world.meta.clear_faults()
    _tick(world, 8 * DAY)
    with writing(world.engine) as conn:  # nothing is left for the next example
        outbox.expire(conn, now=world.clock())


@pytest.mark.timeout(60)
def test_whoever_waited_for_one_that_died_goes_on_when_its_lease_is_over(timed: World) -> None:
    """Also where the token was mended for another user a moment ago: that answer is not theirs, and waiting for it has
    no end."""
    token = timed.meta.create_token()
    app = timed.an_app(token)
    began = timed.clock()
    with writing(timed.engine) as conn:
        tokens.see(conn, token.fingerprint, user_id=app.user_id, now=began, next_refresh_at=None)
        apps.mirror(conn, app.id, token.fingerprint)
        history.add_refresh(
            conn,
            started_at=began,
            duration_ms=5,
            trigger="reconnect",
            by="owner",
            user_id="somebody-else",
            fingerprint=token.fingerprint,
            outcome="reconnected",
            apps_updated=1,
        )
        assert tokens.lease(conn, token.fingerprint, by="dead:1", now=began)
    service = timed.service()
    service.flight.sleep = lambda _: _tick(timed, timedelta(seconds=20))
    done = service.refresh(token.fingerprint, trigger="manual", by="test", user_id=app.user_id)
    assert done.usable
    assert timed.clock() - began >= tokens.LEASE
