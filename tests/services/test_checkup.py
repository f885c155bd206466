"""The checkup: when each token is looked at, what is learned of it, and when the sweep stops."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text, update

from core.clock import now as real_now
from core.meta.answers import TokenFacts
from core.meta.graph import Graph
from core.secret import Secret
from core.services import checkup, incidents
from core.services.findings import findings
from core.services.policy import Policy
from core.store import incidents as kept
from core.store import reach, tokens
from core.store.apps import App
from core.store.database import reading, writing
from core.store.schema import capi_token
from tests.world import APP_ID, DAY, World

POLICY = Policy(app_id=APP_ID)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def _known(world: World, token: Secret, **more: object) -> App:
    app = world.an_app(token, **more)  # type: ignore[arg-type]
    with writing(world.engine) as conn:
        tokens.see(conn, token.fingerprint, user_id=app.user_id, now=world.clock(), next_refresh_at=None)
    return app


def _sweep(world: World, **more: object) -> int:
    return checkup.check_tokens(world.engine, world.graph(), POLICY, now=world.clock(), **more)  # type: ignore[arg-type]


def _found(world: World, token: Secret) -> list[str]:
    with reading(world.engine) as conn:
        return [one.word for one in findings(conn, token.fingerprint, policy=POLICY, now=world.clock())]


def test_checks_are_spread_over_the_day_however_the_tokens_came() -> None:
    names = [f"fp_{n}" for n in range(2_400)]
    for came in (NOW, NOW + timedelta(hours=5)):
        dues = [tokens.next_check(name, came) for name in names]
        assert all(came < due <= came + DAY for due in dues)
        hours = Counter(due.hour for due in dues)
        assert len(hours) == 24
        assert 60 < min(hours.values()) <= max(hours.values()) < 140
    assert tokens.next_check("fp", tokens.next_check("fp", NOW)) - tokens.next_check("fp", NOW) == DAY


@pytest.mark.parametrize("count", [0, 1, 500, 20_000, 40_000, 1_000_000])
def test_the_cap_is_enough_for_a_day_whatever_the_number(count: int) -> None:
    a_day = checkup.allowance(count) * 24 * 60
    assert a_day >= 2 * count
    assert checkup.allowance(count) <= max(60, count / 700)


def test_a_token_never_asked_about_goes_first_and_is_looked_at_within_a_minute(world: World) -> None:
    old, new = world.meta.create_token(), world.meta.create_token()
    _known(world, old)
    _known(world, new)
    with writing(world.engine) as conn:
        yesterday = world.clock() - DAY
        conn.execute(
            update(capi_token)
            .where(capi_token.c.fingerprint == old.fingerprint)
            .values(checked_at=yesterday, check_at=yesterday)
        )
        assert tokens.due_for_check(conn, now=world.clock(), limit=1) == [(new.fingerprint, None)]
    assert _sweep(world) == 2
    assert _sweep(world) == 0
    assert world.token(new.fingerprint).kind == "USER"


def test_a_moment_too_far_ahead_comes_from_a_wrong_clock(world: World) -> None:
    token = world.meta.create_token()
    _known(world, token)
    with writing(world.engine) as conn:
        tokens.check_later(conn, token.fingerprint, world.clock() + 400 * DAY)
    assert _sweep(world) == 1


def test_what_meta_says_is_learned(world: World) -> None:
    token = world.meta.create_token(type="SYSTEM_USER", never=True)
    app = _known(world, token, expires_in=None)
    _sweep(world)
    known = world.token(token.fingerprint)
    assert (known.kind, known.meta_app_id, known.meta_user_id) == ("SYSTEM_USER", APP_ID, "1001")
    assert (known.never_expires, known.foreign_app) == (True, False)
    assert "ads_management" in known.scopes.split()
    assert abs(known.issued_at - world.clock()) < timedelta(minutes=1)
    assert known.data_access_expires_at > world.clock() + 80 * DAY
    with reading(world.engine) as conn:
        (one,) = reach.of(conn, token.fingerprint)
    assert (one.pixel_id, one.reached) == (app.pixel_id, True)
    assert _found(world, token) == []


def test_a_token_without_an_end_loses_the_end_that_was_stored_with_it(sqlite_world: World) -> None:
    world = sqlite_world
    token = world.meta.create_token(never=True)
    app = _known(world, token, expires_in=60 * DAY)
    with writing(world.engine) as conn:
        tokens.plan(conn, token.fingerprint, world.clock() + 30 * DAY)
    _sweep(world)
    assert world.app(app).expires_at is None
    assert world.token(token.fingerprint).next_refresh_at is None


def test_a_token_without_an_end_is_never_due_for_a_refresh(sqlite_world: World) -> None:
    """The platform stores sixty days with every token."""
    world = sqlite_world
    token = world.meta.create_token(never=True)
    _known(world, token)
    _sweep(world)
    with writing(world.engine) as conn:
        tokens.plan(conn, token.fingerprint, world.clock())
        assert tokens.due_for_refresh(conn, now=world.clock(), limit=5, broken=False) == []


def test_a_dead_token_keeps_what_was_known_of_it(world: World) -> None:
    token = world.meta.create_token()
    _known(world, token)
    _sweep(world)
    world.meta.reset()  # Meta cannot parse it any more, and says nothing but that
    checkup.check(world.engine, world.graph(), POLICY, token.fingerprint, now=world.clock())
    known = world.token(token.fingerprint)
    assert known.broken_failure == "token_dead"
    assert (known.kind, known.meta_user_id) == ("USER", "1001")
    assert "ads_management" in known.scopes


def test_a_short_lived_token_of_ours_is_exchanged_at_once(world: World) -> None:
    token = world.meta.create_token(expires_in=3600, long_lived=False)
    app = _known(world, token, expires_in=60 * DAY)  # the platform stored an end that it had guessed
    _sweep(world)
    assert _found(world, token) == ["short_lived"]
    assert world.token(token.fingerprint).next_refresh_at <= world.clock()
    assert world.service().refresh(token.fingerprint, trigger="scheduled", by="worker").outcome == "extended"
    stored = world.app(app)
    assert stored.token != token
    assert stored.expires_at is not None
    assert stored.expires_at > world.clock() + 50 * DAY


def test_a_long_lived_token_in_its_last_hour_is_not_called_short_lived(world: World) -> None:
    token = world.meta.create_token(expires_in=3600)
    _known(world, token, expires_in=timedelta(hours=1))
    _sweep(world)
    assert _found(world, token) == []


def test_a_token_of_another_meta_app_is_known_by_its_pixel(world: World) -> None:
    token = world.meta.create_token(app_id="999", never=True)
    _known(world, token, expires_in=None)
    _sweep(world)
    known = world.token(token.fingerprint)
    assert (known.foreign_app, known.broken_since) == (True, None)
    assert known.checked_at is not None
    assert _found(world, token) == ["wrong_app"]
    world.meta.kill(token, 458)
    checkup.check(world.engine, world.graph(), POLICY, token.fingerprint, now=world.clock())
    assert world.token(token.fingerprint).broken_failure == "token_dead"


def test_a_pixel_out_of_reach_is_found_with_metas_words_and_forgotten_when_it_is_mended(world: World) -> None:
    token = world.meta.create_token(pixels=["1"])
    app = _known(world, token)
    _sweep(world)
    with reading(world.engine) as conn:
        (one,) = findings(conn, token.fingerprint, policy=POLICY, now=world.clock())
    assert (one.word, one.pixel_id, one.code, one.subcode) == ("pixel_unreachable", app.pixel_id, 100, 33)
    assert "does not exist" in one.words
    assert one.trace_id
    with writing(world.engine) as conn:
        conn.execute(text('UPDATE "AppSettings" SET "metaPixelId" = \'1\''))
    checkup.check(world.engine, world.graph(), POLICY, token.fingerprint, now=world.clock())
    assert _found(world, token) == []
    with reading(world.engine) as conn:
        assert [row.pixel_id for row in reach.of(conn, token.fingerprint)] == ["1"]


def test_since_when_a_pixel_is_out_of_reach_does_not_move_with_each_check(world: World) -> None:
    first = real_now()
    with writing(world.engine) as conn:
        for hours, reached in ((0, True), (1, False), (2, False), (3, False), (4, True)):
            reach.note(conn, "fp", "1", reached=reached, now=first + timedelta(hours=hours))
            (one,) = reach.of(conn, "fp")
            since = {0: 0, 1: 1, 2: 1, 3: 1, 4: 4}[hours]
            assert abs(one.since - first - timedelta(hours=since)) < timedelta(seconds=1)
            assert abs(one.checked_at - first - timedelta(hours=hours)) < timedelta(seconds=1)


def test_an_open_incident_ends_the_sweep_before_it_begins(world: World) -> None:
    _known(world, world.meta.create_token())
    with writing(world.engine) as conn:
        kept.note(conn, incidents.META_AWAY, now=world.clock(), probe_at=world.clock())
    assert _sweep(world) == 0
    assert world.meta.count("debug") == 0


def test_a_wrong_app_secret_costs_one_call_and_opens_one_incident(world: World) -> None:
    for _ in range(6):
        _known(world, world.meta.create_token())
    graph = world.graph("another-secret-value")
    assert checkup.check_tokens(world.engine, graph, POLICY, now=world.clock()) == 1
    assert checkup.check_tokens(world.engine, graph, POLICY, now=world.clock()) == 0
    assert world.meta.count("debug") == 1
    with reading(world.engine) as conn:
        assert [row.kind for row in kept.open_ones(conn)] == ["app_config"]


def test_our_apps_rate_limit_stops_the_sweep(world: World) -> None:
    for _ in range(6):
        _known(world, world.meta.create_token())
    world.meta.fault("debug", "rate_4_403")
    assert _sweep(world) == 1
    with reading(world.engine) as conn:
        assert [row.kind for row in kept.open_ones(conn)] == ["rate_limited"]


def test_one_tokens_own_trouble_does_not_stop_the_others(world: World) -> None:
    made = [world.meta.create_token() for _ in range(6)]
    for token in made:
        _known(world, token)
    odd = made[2]
    world.meta.fault("debug", "error", token=odd, error={"code": 98765, "message": "Something new"})
    assert _sweep(world) == 6
    checked = [token for token in made if world.token(token.fingerprint).checked_at]
    assert len(checked) == 5
    assert _sweep(world) == 0, "the odd one is asked about again a little later"


def test_a_user_at_metas_limit_keeps_its_pixels_unasked_only(world: World) -> None:
    token = world.meta.create_token()
    _known(world, token)
    with writing(world.engine) as conn:
        until = world.clock() + timedelta(hours=1)
        conn.execute(update(capi_token).values(wait_until=until, wait_failure="rate_limited"))
    _sweep(world)
    assert world.token(token.fingerprint).kind == "USER"
    assert world.meta.count("pixel") == 0


def test_a_sweep_that_outlasts_its_minute_leaves_nothing_to_ask_twice(
    sqlite_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(6):
        _known(sqlite_world, sqlite_world.meta.create_token())
    asked: list[str] = []
    ask = Graph.debug_token

    def slow(graph: Graph, token: Secret) -> TokenFacts:
        asked.append(token.fingerprint)
        if len(asked) == 1:  # the next sweep begins before this one ends
            later = sqlite_world.clock() + timedelta(minutes=1)
            checkup.check_tokens(sqlite_world.engine, graph, POLICY, now=later)
        return ask(graph, token)

    monkeypatch.setattr(Graph, "debug_token", slow)
    _sweep(sqlite_world)
    assert len(asked) == len(set(asked)) == 6


def test_an_answer_from_before_a_token_was_lost_does_not_mend_it(
    sqlite_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = sqlite_world.meta.create_token()
    app = _known(sqlite_world, token)
    sqlite_world.an_event(app)
    ask = Graph.debug_token

    def stale(graph: Graph, asked: Secret) -> TokenFacts:
        facts = ask(graph, asked)
        if facts.is_valid:
            sqlite_world.meta.kill(token)
            for fingerprint in sqlite_world.deliver(app):
                sqlite_world.service().refresh(fingerprint, trigger="on_error", by="test")
        return facts

    monkeypatch.setattr(Graph, "debug_token", stale)
    _sweep(sqlite_world)
    assert sqlite_world.token(token.fingerprint).needs_reconnect


def test_an_answer_from_before_a_token_was_mended_does_not_break_it(
    sqlite_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = sqlite_world.meta.create_token()
    _known(sqlite_world, token)
    sqlite_world.meta.kill(token)
    _sweep(sqlite_world)
    assert sqlite_world.token(token.fingerprint).broken_since is not None
    ask = Graph.debug_token

    def stale(graph: Graph, asked: Secret) -> TokenFacts:
        facts = ask(graph, asked)
        with writing(sqlite_world.engine) as conn:
            tokens.mend(conn, token.fingerprint, next_refresh_at=None)
        return facts

    monkeypatch.setattr(Graph, "debug_token", stale)
    checkup.check(sqlite_world.engine, sqlite_world.graph(), POLICY, token.fingerprint, now=sqlite_world.clock())
    assert sqlite_world.token(token.fingerprint).broken_since is None
