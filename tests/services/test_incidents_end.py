"""The end of an incident: which answers tell of it, and how calls come back, for every pixel and by any clock."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from core.meta.failures import Failure
from core.meta.graph import Graph, GraphError
from core.sandbox.client import Sandbox
from core.services import checkup, incidents, probing, watch
from core.services.policy import Policy
from core.store import history, tokens
from core.store import incidents as keeper
from core.store.apps import App
from core.store.database import reading, writing
from core.store.schema import capi_attempt
from tests.services.timed import Clock, tick
from tests.world import APP_ID, World

POLICY = Policy(app_id=APP_ID)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
APP_LIMIT = GraphError(Failure.RATE_LIMITED, "(#4)", code=4)


@pytest.fixture
def timed(sqlite_engine: Engine, meta: Sandbox, now: datetime) -> World:
    meta.set_clock(now)
    return World(sqlite_engine, meta, clock=Clock(now))


def _probe(world: World, graph: Graph | None = None) -> int:
    return probing.probe_incidents(world.engine, graph or world.graph(), POLICY, by="w", clock=world.clock)


def _kinds(world: World) -> list[str]:
    with reading(world.engine) as conn:
        return [row.kind for row in keeper.open_ones(conn)]


def _report(world: World, error: GraphError) -> None:
    with writing(world.engine) as conn:
        incidents.report(conn, error, now=world.clock(), sure=True)


def _ended(world: World, *, pace: int, ago: timedelta = timedelta(0), lasted: timedelta = timedelta(0)) -> Any:
    over = world.clock() - ago
    with writing(world.engine) as conn:
        found, _ = keeper.note(conn, "meta_away", now=over - lasted, probe_at=over)
        keeper.close(conn, found, now=over, waited=0, pace=pace)
        return keeper.get(conn, found)


def _known(world: World, app: App) -> App:
    """Meta has said who made its token."""
    with writing(world.engine) as conn:
        tokens.see(conn, str(app.fingerprint), user_id=app.user_id, now=world.clock(), next_refresh_at=None)
    checkup.check(world.engine, world.graph(), POLICY, str(app.fingerprint), now=world.clock())
    return app


def test_while_calls_are_paced_every_pixel_has_its_turn(timed: World) -> None:
    """Six busy pixels, and a pace of two calls in ten seconds."""
    shops = {app.pixel_id: app for app in (timed.an_app(timed.meta.create_token()) for _ in range(6))}
    _ended(timed, pace=12)
    for _ in range(3):
        for app in shops.values():
            timed.an_event(app)
        tick(timed, 11 * SECOND)
        for _, pixel_id in watch.due_work(timed.engine, now=timed.clock()):
            timed.deliver(shops[pixel_id])
    with reading(timed.engine) as conn:
        assert conn.scalar(select(func.count(capi_attempt.c.pixel_id.distinct()))) == 6


def test_what_was_slowed_down_is_not_taken_for_normal(timed: World) -> None:
    """Sixty calls a minute, away for twenty minutes, and away once more before the pace was over."""
    with writing(timed.engine) as conn:
        for second in range(600):
            at = timed.clock() - 31 * MINUTE + second * SECOND
            said = {"fingerprint": "f", "events": 1, "duration_ms": 1, "status": 200}
            history.add_attempt(conn, at=at, pixel_id="1", **said)
    first = _ended(timed, pace=75, ago=3 * MINUTE, lasted=17 * MINUTE)
    with writing(timed.engine) as conn:
        second_id, _ = keeper.note(conn, "meta_away", now=timed.clock() - MINUTE, probe_at=timed.clock())
        second = keeper.get(conn, second_id)
        assert second is not None
        assert probing._pace(conn, first, timed.clock()) == 90
        assert probing._pace(conn, second, timed.clock()) == 90
    _ended(timed, pace=500)
    with reading(timed.engine) as conn:
        assert probing._pace(conn, second, timed.clock()) == 500


def test_a_clock_set_back_after_an_incident_holds_nothing_up(timed: World) -> None:
    app = timed.an_app(timed.meta.create_token())
    _ended(timed, pace=60)
    for _ in range(12):
        timed.an_event(app)
        tick(timed, SECOND / 2)
        timed.deliver(app)
    assert timed.states()["due"] == 2
    tick(timed, -2 * HOUR)
    timed.an_event(app)
    assert len(watch.due_work(timed.engine, now=timed.clock())) == 1


@pytest.mark.parametrize("kind", ["meta_away", "app_config"])
def test_a_clock_set_back_in_an_incident_does_not_put_off_its_probe(timed: World, kind: str) -> None:
    timed.an_event(timed.an_app(timed.meta.create_token()))
    with writing(timed.engine) as conn:
        keeper.note(conn, kind, now=timed.clock(), probe_at=timed.clock() + 15 * SECOND)
    assert _probe(timed) == 0
    tick(timed, -2 * HOUR)
    assert _probe(timed) == 1


def test_the_success_of_another_apps_token_does_not_end_our_apps_limit(timed: World) -> None:
    foreign = _known(timed, timed.an_app(timed.meta.create_token(app_id="999", never=True), expires_in=None))
    assert timed.token(str(foreign.fingerprint)).foreign_app
    _report(timed, APP_LIMIT)
    timed.meta.fault("debug", "error", error={"code": 4, "message": "limit"}, count=1)
    timed.an_event(foreign)
    tick(timed, 2 * MINUTE)
    assert (_probe(timed), timed.states()) == (0, {"delivered": 1})
    assert _kinds(timed) == ["rate_limited"]
    timed.an_event(foreign)
    tick(timed, HOUR)
    assert _probe(timed) == 1, "our app was asked about"


@pytest.mark.parametrize("code", [80004, 17])
def test_a_limit_of_one_pixel_or_user_does_not_say_that_our_apps_goes_on(timed: World, code: int) -> None:
    mine = _known(timed, timed.an_app(timed.meta.create_token()))
    _report(timed, APP_LIMIT)
    timed.meta.fault("events", "error", error={"code": code, "message": "limit"}, count=1)
    timed.an_event(mine)
    tick(timed, 2 * MINUTE)
    assert (_probe(timed), _kinds(timed)) == (1, [])


def test_a_limit_of_an_app_that_nobody_knows_yet_stops_one_token_and_is_looked_into(timed: World) -> None:
    app = timed.an_app(timed.meta.create_token(app_id="999", never=True), expires_in=None)
    with writing(timed.engine) as conn:
        tokens.see(conn, str(app.fingerprint), user_id=app.user_id, now=timed.clock(), next_refresh_at=None)
        tokens.check_later(conn, str(app.fingerprint), timed.clock() + 10 * MINUTE)
    timed.an_event(app)
    timed.meta.fault("events", "rate_4_403", count=1, minutes=60)
    timed.deliver(app)
    known = timed.token(str(app.fingerprint))
    assert (_kinds(timed), known.wait_until) == ([], timed.clock() + HOUR)
    assert known.check_at == timed.clock()


def test_a_probe_goes_on_to_the_next_pixel_when_nothing_can_be_sent_from_one(timed: World) -> None:
    for _ in range(5):
        timed.an_event(timed.an_app(None))
    timed.an_event(_known(timed, timed.an_app(timed.meta.create_token())))
    debugged = timed.meta.count("debug")
    _report(timed, APP_LIMIT)
    tick(timed, 2 * MINUTE)
    assert (_probe(timed), timed.meta.count("events"), timed.meta.count("debug")) == (1, 1, debugged)


def test_a_probe_with_nothing_to_send_asks_about_our_app(timed: World) -> None:
    timed.an_event(timed.an_app(None))
    _report(timed, APP_LIMIT)
    tick(timed, 2 * MINUTE)
    assert (_probe(timed), timed.meta.count("debug"), timed.states()) == (1, 1, {"parked": 1})


@pytest.mark.parametrize("error", [GraphError(Failure.APP_CONFIG, "client secret", code=1), APP_LIMIT])
def test_an_incident_of_an_app_that_was_taken_out_of_the_settings_is_over(timed: World, error: GraphError) -> None:
    _report(timed, error)
    tick(timed, 2 * MINUTE)
    bare = Graph(base_url=timed.meta.url, version="v24.0", app_id=None, app_secret=None)
    assert (_probe(timed, bare), _kinds(timed)) == (1, [])


def test_data_sets_that_are_not_ready_do_not_say_that_meta_is_away(timed: World) -> None:
    timed.meta.fault("events", "error", error={"code": 21009, "message": "Data set not ready"}, count=4)
    for _ in range(4):
        app = timed.an_app(timed.meta.create_token())
        timed.an_event(app)
        timed.deliver(app)
    assert _kinds(timed) == []
    with reading(timed.engine) as conn:
        assert conn.scalars(select(capi_attempt.c.code)).all() == [21009] * 4
