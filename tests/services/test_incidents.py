"""What is wrong for everybody at once: one incident, everything waits, one call at a time, and back by itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from core.desk.incidents import incident_history, open_incidents
from core.meta.failures import Failure
from core.meta.graph import GraphError
from core.sandbox.client import Sandbox
from core.services import bulk, checkup, incidents, probing, watch
from core.services.policy import Policy
from core.services.send import send_with_refresh
from core.store import incidents as keeper
from core.store import jobs, tokens
from core.store.database import reading, writing
from core.store.schema import capi_attempt, capi_event, capi_pixel
from core.store.schema_recovery import capi_case, capi_incident
from tests.services.timed import Clock
from tests.services.timed import tick as _tick
from tests.world import APP_ID, World

POLICY = Policy(app_id=APP_ID)
MINUTE = timedelta(minutes=1)
BAD_SECRET = GraphError(Failure.APP_CONFIG, "Error validating client secret.", code=1, trace_id="T1")


@pytest.fixture
def timed(engine: Engine, meta: Sandbox, now: datetime) -> World:
    meta.set_clock(now)
    return World(engine, meta, clock=Clock(now))


@pytest.fixture
def timed_sqlite(sqlite_engine: Engine, meta: Sandbox, now: datetime) -> World:
    meta.set_clock(now)
    return World(sqlite_engine, meta, clock=Clock(now))


def _probe(world: World, by: str = "worker-1") -> int:
    return probing.probe_incidents(world.engine, world.graph(), POLICY, by=by, clock=world.clock)


def _open(world: World) -> list[Any]:
    with reading(world.engine) as conn:
        return keeper.open_ones(conn)


def _kinds(world: World) -> list[str]:
    return [row.kind for row in _open(world)]


def _report(world: World, error: GraphError, **more: Any) -> str | None:
    with writing(world.engine) as conn:
        return incidents.report(conn, error, now=world.clock(), **more)


def _until_the_probe(world: World) -> None:
    _tick(world, max(row.probe_at for row in _open(world)) - world.clock() + timedelta(seconds=1))


def _shops(world: World, count: int) -> list[Any]:
    return [world.an_app(world.meta.create_token()) for _ in range(count)]


def _away(world: World, count: int = 3) -> list[Any]:
    """Meta answers nobody, and so many pixels have met it."""
    shops = _shops(world, count)
    world.meta.fault("any", "transient_2")
    for app in shops:
        world.an_event(app)
        world.deliver(app)
    return shops


def test_trouble_of_one_pixel_is_no_incident_of_several_it_is(timed: World) -> None:
    _away(timed, 2)
    assert _kinds(timed) == []
    third = timed.an_app(timed.meta.create_token())
    timed.an_event(third)
    timed.deliver(third)
    assert _kinds(timed) == ["meta_away"]


def test_a_success_within_the_last_minute_says_that_meta_is_there(timed: World) -> None:
    well = timed.an_app(timed.meta.create_token())
    timed.an_event(well)
    timed.deliver(well)
    _away(timed, 4)
    assert _kinds(timed) == []


def test_while_one_is_open_nothing_is_handed_out_and_nothing_is_counted(timed: World) -> None:
    _away(timed)
    app = timed.an_app(timed.meta.create_token())
    sent = timed.an_event(app)
    calls = timed.meta.count("events")
    for _ in range(5):
        assert watch.due_work(timed.engine, now=timed.clock()) == []
        timed.deliver(app)
        _tick(timed, timedelta(seconds=2))
    event = timed.event(sent)
    assert (event.state, event.attempts, timed.meta.count("events")) == ("due", 0, calls)


def test_refreshes_and_checks_pause_and_no_token_has_a_try_counted(timed: World) -> None:
    _report(timed, BAD_SECRET)
    token = timed.meta.create_token(expires_in=3 * 86_400)
    app = timed.an_app(token, expires_in=timedelta(days=3))
    done = timed.service().check_and_refresh_token(app.id)
    assert (str(done.outcome), done.words) == ("unreachable", "paused: Meta refuses our app id or app secret")
    assert checkup.check_tokens(timed.engine, timed.graph(), POLICY, now=timed.clock()) == 0
    with reading(timed.engine) as conn:
        assert conn.execute(select(capi_case)).all() == []
    assert timed.token(token.fingerprint).failures == 0
    assert timed.refreshes() == []
    assert (timed.meta.count("exchange"), timed.meta.count("debug")) == (0, 0)


def test_a_bulk_refresh_waits_for_the_end_and_no_row_of_it_fails(timed: World) -> None:
    held = [timed.meta.create_token() for _ in range(3)]
    for token in held:
        timed.an_app(token)
    _report(timed, BAD_SECRET)
    subjects = [token.fingerprint for token in held]
    with writing(timed.engine) as conn:
        job = jobs.order(conn, "refresh_tokens", subjects, dedupe_key="x", by="a@b.c", reason=None, now=timed.clock())
    bulk.run(timed.service(), job, threads=2)
    with reading(timed.engine) as conn:
        assert jobs.next_items(conn, job, limit=9) == sorted(subjects)
    assert timed.meta.count("exchange") == 0


def test_the_probe_is_one_call_of_one_worker_and_its_success_ends_the_incident(
    timed: World, caplog: pytest.LogCaptureFixture
) -> None:
    shops = _away(timed)
    timed.meta.clear_faults()
    calls = timed.meta.count("events")
    assert _probe(timed) == 0, "not before its time"
    _until_the_probe(timed)
    with ThreadPoolExecutor(4) as pool:
        closed = list(pool.map(lambda n: _probe(timed, f"worker-{n}"), range(4)))
    assert (sum(closed), timed.meta.count("events") - calls) == (1, 1)
    with reading(timed.engine) as conn:
        (row,) = incident_history(conn)
    assert (row.closed_at is not None, row.waited, row.kind) == (True, 2, "meta_away")
    assert "incident closed, events go on by themselves" in [r.getMessage() for r in caplog.records]
    for app in shops:
        timed.deliver(app)
    assert timed.states() == {"delivered": 3}


def test_a_probe_in_vain_moves_the_next_one_and_counts_against_nobody(timed: World) -> None:
    shops = _away(timed)
    before = {app.id: timed.event(_event_of(timed, app)).attempts for app in shops}
    waits = []
    for _ in range(7):
        _until_the_probe(timed)
        assert _probe(timed) == 0
        waits.append((_open(timed)[0].probe_at - timed.clock()).total_seconds())
    assert [round(wait / 15) for wait in waits] == [2, 4, 8, 16, 20, 20, 20]
    assert {app.id: timed.event(_event_of(timed, app)).attempts for app in shops} == before
    (row,) = _open(timed)
    assert row.refusals == 1 + 7


def _event_of(world: World, app: Any) -> str:
    with reading(world.engine) as conn:
        return str(conn.scalar(select(capi_event.c.event_id).where(capi_event.c.app_id == app.id)))


def test_without_events_the_probe_asks_about_our_app(timed: World) -> None:
    _report(timed, BAD_SECRET)
    timed.meta.fault("debug", "error", error={"code": 190, "message": "Invalid OAuth access token signature."}, count=1)
    _until_the_probe(timed)
    assert _probe(timed) == 0
    _until_the_probe(timed)
    assert _probe(timed) == 1
    assert timed.meta.count("debug") == 2


def test_several_at_once_do_not_hold_each_other_up(timed: World) -> None:
    limit = GraphError(Failure.RATE_LIMITED, "(#4)", code=4, retry_after=120.0)
    _report(timed, limit)
    _report(timed, BAD_SECRET)
    app = timed.an_app(timed.meta.create_token())
    timed.an_event(app)
    _tick(timed, timedelta(seconds=60))
    assert _probe(timed) == 0
    assert timed.meta.count("debug") == 0, "nobody calls before the time that Meta named"
    _tick(timed, timedelta(seconds=61))
    assert _probe(timed) == 2
    assert _kinds(timed) == []


def test_meta_names_the_time_and_nothing_brings_it_forward(timed: World) -> None:
    _report(timed, GraphError(Failure.RATE_LIMITED, "(#4)", code=4, retry_after=600.0))
    _report(timed, GraphError(Failure.RATE_LIMITED, "(#4)", code=4, retry_after=60.0))
    _report(timed, GraphError(Failure.RATE_LIMITED, "(#4)", code=4))
    (row,) = _open(timed)
    assert row.probe_at == timed.clock() + timedelta(seconds=600)
    assert row.refusals == 3


def test_an_app_that_has_used_up_its_calls_stops_before_it_is_refused(timed: World) -> None:
    app = timed.an_app(timed.meta.create_token())
    checkup.check(timed.engine, timed.graph(), POLICY, _seen(timed, app), now=timed.clock())
    sent = timed.an_event(app)
    used_up = {"X-App-Usage": '{"call_count":100,"total_time":20,"total_cputime":3}'}
    timed.meta.fault("events", "usage", headers=used_up, count=2)
    timed.deliver(app)
    assert (timed.state_of(sent), _kinds(timed)) == ("delivered", ["rate_limited"])
    timed.an_event(app)
    _until_the_probe(timed)
    assert _probe(timed) == 0, "taken, yet used up still"
    timed.an_event(app)
    _until_the_probe(timed)
    assert _probe(timed) == 1
    assert timed.states() == {"delivered": 3}


def test_a_limit_of_another_app_is_not_ours(timed: World) -> None:
    foreign = timed.meta.create_token(app_id="999")
    app = timed.an_app(foreign)
    checkup.check(timed.engine, timed.graph(), POLICY, _seen(timed, app), now=timed.clock())
    timed.an_event(app)
    timed.meta.fault("events", "rate_4_403", count=1, minutes=3)
    timed.deliver(app)
    assert _kinds(timed) == []
    assert timed.token(foreign.fingerprint).wait_until == timed.clock() + 3 * MINUTE


def _seen(world: World, app: Any) -> str:
    with writing(world.engine) as conn:
        tokens.see(conn, app.fingerprint, user_id=app.user_id, now=world.clock(), next_refresh_at=None)
    return str(app.fingerprint)


def test_one_token_wrongly_taken_for_ours_stops_nobody(timed: World) -> None:
    """Its proof is refused though Meta takes our app's secret."""
    token = timed.meta.create_token()
    app = timed.an_app(token)
    checkup.check(timed.engine, timed.graph(), POLICY, _seen(timed, app), now=timed.clock())
    sent = timed.an_event(app)
    message = "Invalid appsecret_proof provided in the API argument"
    timed.meta.fault("events", "error", error={"code": 100, "message": message}, count=1)
    timed.deliver(app)
    event = timed.event(sent)
    assert (event.state, event.failure, event.attempts) == ("due", "app_config", 0)
    assert _kinds(timed) == []
    assert timed.token(token.fingerprint).check_at == timed.clock(), "Meta is asked once more who made it"
    with reading(timed.engine) as conn:
        assert conn.scalar(select(capi_pixel.c.wait_until)) > timed.clock()


def test_a_secret_that_meta_refuses_stops_everybody_once(timed: World) -> None:
    shops = _shops(timed, 3)
    for app in shops:
        checkup.check(timed.engine, timed.graph(), POLICY, _seen(timed, app), now=timed.clock())
        timed.an_event(app)
    wrong = timed.graph("another-secret")
    for app in shops:
        probing.deliver(timed.engine, wrong, app.pixel_id, policy=POLICY, by="w", clock=timed.clock)
    (row,) = _open(timed)
    assert (row.kind, row.refusals) == ("app_config", 1)
    assert timed.meta.count("events") == 1, "the first refusal was enough"
    with reading(timed.engine) as conn:
        assert conn.scalar(select(func.max(capi_event.c.attempts))) == 0
        assert conn.scalars(select(capi_pixel.c.wait_until)).all() == [None]
        (shown,) = open_incidents(conn, timed.clock())
    assert (shown.waiting_now, shown.is_open) == (3, True)


def test_a_call_from_the_library_answers_at_once_while_one_is_open(timed: World) -> None:
    app = timed.an_app(timed.meta.create_token())
    _report(timed, BAD_SECRET)
    event = {"event_name": "Lead", "user_data": {"em": ["b" * 64], "client_user_agent": "M"}}
    (done,) = send_with_refresh(timed.service(), app.id, [event | {"event_source_url": "https://s.example/"}])
    assert (done.state, timed.meta.count("events")) == ("due", 0)
    _until_the_probe(timed)
    (done,) = send_with_refresh(timed.service(), app.id, [event | {"event_source_url": "https://s.example/"}])
    assert (done.state, _kinds(timed)) == ("delivered", []), "whoever sends sees that it is over"


def test_meta_away_for_an_hour_costs_few_calls_and_nothing_is_lost(timed_sqlite: World) -> None:
    """R10: the sweeps of a worker before, during and after."""
    timed = timed_sqlite
    shops = _shops(timed, 3)
    normal = _work(timed, shops, sweeps=8, every=15)
    timed.meta.fault("any", "transient_2")
    _work(timed, shops, sweeps=8, every=15)
    assert _kinds(timed) == ["meta_away"]
    away = _work(timed, shops, sweeps=30, every=120, events_each=6)
    assert 0 < away <= 0.05 * normal * 30
    timed.meta.clear_faults()
    back = _work(timed, shops, sweeps=16, every=15)
    assert back <= 1.5 * normal * 2
    assert set(timed.states()) == {"delivered"}
    assert len({event["event_id"] for event in timed.meta.events()}) == sum(timed.states().values())


def _work(world: World, shops: list[Any], *, sweeps: int, every: int, events_each: int = 1) -> int:
    """The calls to Meta of one worker's sweeps, while each shop has an event now and then."""
    before = world.meta.count("events") + world.meta.count("debug")
    service = world.service()
    road: dict[str, Any] = {"policy": POLICY, "by": "worker-1", "clock": world.clock}
    for sweep in range(sweeps):
        for app in shops if sweep % events_each == 0 else ():
            world.an_event(app)
        probing.probe_incidents(world.engine, service.graph, **road)
        for _, pixel_id in watch.due_work(world.engine, now=world.clock()):
            probing.deliver(world.engine, service.graph, pixel_id, **road)
        _tick(world, timedelta(seconds=every))
    return world.meta.count("events") + world.meta.count("debug") - before


def test_after_an_incident_calls_come_back_at_a_pace(timed: World) -> None:
    """However much waits, no more than the pace is sent in ten seconds; half an hour later it is forgotten."""
    _report(timed, BAD_SECRET)
    (row,) = _open(timed)
    with writing(timed.engine) as conn:
        keeper.close(conn, row.id, now=timed.clock(), waited=0, pace=30)
    shops = _shops(timed, 6)
    for app in shops:
        timed.an_event(app)
        timed.deliver(app)
    assert timed.states() == {"delivered": 5, "due": 1}
    assert watch.due_work(timed.engine, now=timed.clock()) == []
    _tick(timed, timedelta(seconds=11))
    for app in shops:
        timed.deliver(app)
    assert timed.states() == {"delivered": 6}
    for app in shops:
        timed.an_event(app)
    _tick(timed, incidents.RETURNING)
    for app in shops:
        timed.deliver(app)
    assert timed.states() == {"delivered": 12}


def test_two_reports_at_once_are_one_incident(timed: World) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: _report(timed, BAD_SECRET), range(12)))
    with reading(timed.engine) as conn:
        assert conn.execute(select(capi_incident.c.refusals)).all() == [(12,)]
        assert conn.scalar(select(func.count()).select_from(capi_attempt)) == 0


def test_a_setting_that_is_missing_is_no_incident(timed: World) -> None:
    assert _report(timed, GraphError(Failure.APP_CONFIG, "FACEBOOK_APP_ID is missing")) is None
    assert _report(timed, GraphError(Failure.APP_CONFIG, "Invalid appsecret_proof", code=100)) is None
    assert _report(timed, GraphError(Failure.RATE_LIMITED, "(#613)", code=613)) is None
    assert _kinds(timed) == []


def test_a_limit_of_a_user_that_a_refresh_meets_is_obeyed_by_the_gate(timed: World) -> None:
    token = timed.meta.create_token()
    app = timed.an_app(token)
    _seen(timed, app)
    error = GraphError(Failure.RATE_LIMITED, "(#17)", code=17, retry_after=240.0, fingerprint=token.fingerprint)
    assert _report(timed, error) is None
    with reading(timed.engine) as conn:
        pause = incidents.gate(conn, now=timed.clock(), fingerprint=token.fingerprint)
        assert pause is not None
        assert (pause.kind, pause.until) == ("rate_limited", timed.clock() + timedelta(seconds=240))
        assert incidents.gate(conn, now=timed.clock()) is None
        assert incidents.gate(conn, now=pause.until, fingerprint=token.fingerprint) is None
        assert tokens.get(conn, token.fingerprint) is not None
