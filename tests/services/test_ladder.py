"""The ladder, rung by rung: what each refusal of a token leads to, and that a 200 alone is no success."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import select

from core.meta.answers import Exchanged
from core.meta.failures import classify
from core.meta.graph import Graph, GraphError
from core.secret import Secret
from core.services import incidents
from core.services.ladder import Outcome
from core.services.policy import Policy
from core.store import tokens
from core.store.apps import App
from core.store.database import reading, writing
from core.store.schema import capi_case
from tests.world import DAY, World

RECONNECT, VALID, EXTENDED = Outcome.NEEDS_RECONNECT, Outcome.STILL_VALID, Outcome.EXTENDED


def refused(world: World, token: Secret, code: int, subcode: int | None, words: str = "") -> GraphError:
    """As Meta refuses an event's token."""
    failure = classify({"error": {"code": code, "error_subcode": subcode, "message": words}}, 400).failure
    return GraphError(failure, words, code=code, subcode=subcode, fingerprint=token.fingerprint)


def outcome(world: World) -> str:
    return str(world.refreshes()[-1].outcome)


# code, subcode, message of the refusal · how Meta itself sees the token · days left · outcome · exchanges
RUNGS = [
    (190, 463, "has expired", "expired", 40, RECONNECT, 1),
    (190, 463, "has expired", "fine", 40, VALID, 0),
    (190, 463, "has expired", "fine", 5, EXTENDED, 1),
    (190, 467, "is invalid", 467, 40, RECONNECT, 1),
    (190, 467, "is invalid", "fine", 40, VALID, 0),
    (190, 467, "is invalid", "fine", 5, EXTENDED, 1),
    (190, None, "Invalid OAuth 2.0 Access Token", "fine", 40, VALID, 0),
    (190, None, "Invalid OAuth 2.0 Access Token", "fine", 5, EXTENDED, 1),
    (190, None, "Invalid OAuth 2.0 Access Token", 460, 5, RECONNECT, 0),
    (190, None, "Cannot parse access token", "unknown", 40, RECONNECT, 0),
    (190, None, "The access token could not be decrypted", "unknown", 5, RECONNECT, 0),
    (190, 452, "session does not match", "fine", 40, VALID, 0),
    (190, 452, "session does not match", 460, 40, RECONNECT, 0),
    (102, None, "Session key invalid", "fine", 40, VALID, 0),
    (102, None, "Session key invalid", "expired", 40, RECONNECT, 0),
    *((190, subcode, "gone", subcode, 5, RECONNECT, 0) for subcode in (458, 459, 460, 464, 465, 492)),
    *((190, subcode, "gone", "expired", 5, RECONNECT, 0) for subcode in (458, 459, 460, 464, 465, 492)),
    (190, 459, "a check at facebook.com", "fine", 40, VALID, 0),
    (190, 463, "has expired", "foreign", 40, VALID, 0),
    (190, 460, "password changed", "foreign", 40, RECONNECT, 0),
]


@pytest.mark.parametrize(("code", "subcode", "words", "at_meta", "days", "expected", "exchanges"), RUNGS)
def test_each_refusal_of_a_token_ends_on_its_rung(
    sqlite_world: World,
    code: int,
    subcode: int | None,
    words: str,
    at_meta: str | int,
    days: int,
    expected: Outcome,
    exchanges: int,
) -> None:
    world = sqlite_world
    token = _token(world, at_meta, days)
    app = world.an_app(token, expires_in=days * DAY)

    usable = world.service().handle_facebook_api_error(refused(world, token, code, subcode, words), app.id)

    assert (outcome(world), world.meta.count("exchange")) == (expected, exchanges)
    assert usable is (expected is not RECONNECT)
    with reading(world.engine) as conn:
        cases = conn.scalars(select(capi_case.c.fingerprint)).all()
    assert cases == ([token.fingerprint] if expected is RECONNECT else [])
    assert world.token(world.app(app).fingerprint or "").needs_reconnect is (expected is RECONNECT)


def _token(world: World, at_meta: str | int, days: int) -> Secret:
    if at_meta == "unknown":
        return Secret("EAAnobodymadethis" + "x" * 40)
    left = -60 if at_meta == "expired" else days * 86_400
    token = world.meta.create_token(expires_in=left, app_id="999" if at_meta == "foreign" else None)
    if isinstance(at_meta, int):
        world.meta.kill(token, at_meta)
    return token


def test_another_apps_token_whose_stored_end_is_wrong_goes_on_without_it(world: World) -> None:
    """Made in Events Manager: it never ends, and /debug_token does not speak of it to us."""
    token = world.meta.create_token(app_id="999", never=True)
    app = world.an_app(token, expires_in=-DAY)
    sent = world.an_event(app)
    for fingerprint in world.deliver(app):
        assert world.service().refresh(fingerprint, trigger="on_error", by="test").outcome is VALID
    assert world.app(app).expires_at is None
    world.deliver(app)
    assert (world.state_of(sent), world.meta.count("exchange")) == ("delivered", 0)


def test_a_limit_on_another_apps_calls_is_no_incident_of_ours(sqlite_world: World) -> None:
    world = sqlite_world
    token = world.meta.create_token(app_id="999")
    app = world.an_app(token)
    world.meta.fault("pixel", "rate_4_403")
    world.service().handle_facebook_api_error(refused(world, token, 190, 463), app.id)
    assert outcome(world) == "unreachable"
    with reading(world.engine) as conn:
        assert incidents.gate(conn, now=world.clock()) is None
        pause = incidents.gate(conn, now=world.clock(), fingerprint=token.fingerprint)
    again = world.service().refresh(token.fingerprint, trigger="bulk", by="test")
    assert pause is not None, "this token alone waits"
    assert (again.outcome, again.words) == (Outcome.UNREACHABLE, pause.words)
    assert world.meta.count("pixel") == 1


@pytest.mark.parametrize("fault", ["html_502", "transient_2", "rate_613"])
def test_a_valid_token_goes_on_when_its_exchange_comes_to_nothing(world: World, fault: str) -> None:
    token = world.meta.create_token(expires_in=5 * 86_400)
    app = world.an_app(token, expires_in=5 * DAY)
    world.meta.fault("exchange", fault)
    assert world.service().handle_facebook_api_error(refused(world, token, 190, 463), app.id) is True
    known = world.token(token.fingerprint)
    assert (outcome(world), known.broken_since) == ("still_valid", None)
    assert known.next_refresh_at < world.clock() + timedelta(hours=2), "Meta was away: not a day"


def test_a_session_that_does_not_match_waits_before_its_owner_is_asked(sqlite_world: World) -> None:
    world = sqlite_world
    at = datetime(2026, 11, 1, tzinfo=UTC)
    world.clock = lambda: at
    world.meta.set_clock(at)
    token = world.meta.create_token()
    app = world.an_app(token)
    service = world.service()
    waits = []
    for _ in range(40):
        service.handle_facebook_api_error(refused(world, token, 190, 452), app.id)
        known = world.token(token.fingerprint)
        if known.needs_reconnect:
            break
        if known.broken_since is not None:
            waits.append(known.next_refresh_at - at)
            at = known.next_refresh_at
            service.refresh(token.fingerprint, trigger="on_error", by="worker")
        at += timedelta(minutes=1)
    assert world.token(token.fingerprint).needs_reconnect
    assert waits == sorted(waits)
    assert waits[0] >= timedelta(minutes=10)
    assert world.meta.count("exchange") == 0


@pytest.mark.parametrize(
    ("mode", "expected", "keeps"),
    [
        ("same_token", Outcome.NOT_EXTENDED, True),
        ("same_expiry", Outcome.NEW_TOKEN_SAME_EXPIRY, False),
        ("shorter_expiry", Outcome.NOT_EXTENDED, True),
        ("no_expires_in", Outcome.EXTENDED, False),
        ("fewer_scopes", Outcome.NOT_EXTENDED, True),
        ("other_user", Outcome.NOT_EXTENDED, True),
    ],
)
def test_a_new_token_is_looked_at_before_it_replaces_one_that_works(
    world: World, mode: str, expected: Outcome, keeps: bool
) -> None:
    token = world.meta.create_token(expires_in=5 * 86_400, mode=mode)
    app = world.an_app(token, expires_in=5 * DAY)
    done = world.service().check_and_refresh_token(app.id)
    assert done.outcome is expected
    assert (world.app(app).token == token) is keeps
    row = world.refreshes()[-1]
    assert row.words or expected is Outcome.EXTENDED, "why is written down"
    known = world.token(world.app(app).fingerprint or "")
    assert (known.meta_user_id, "ads_management" in known.scopes) == ("1001", True)


def test_an_exchanged_token_is_kept_when_meta_is_away_for_the_look_at_it(world: World) -> None:
    token = world.meta.create_token(expires_in=5 * 86_400)
    app = world.an_app(token, expires_in=5 * DAY)
    service = world.service()
    with writing(world.engine) as conn:
        tokens.see(conn, token.fingerprint, user_id=app.user_id, now=world.clock(), next_refresh_at=None)
        tokens.learn(conn, token.fingerprint, service.graph.debug_token(token), now=world.clock())
    world.meta.fault("debug", "transient_2")
    assert service.check_and_refresh_token(app.id).outcome is EXTENDED
    assert world.app(app).token != token


@pytest.mark.parametrize("long_lived", [True, False])
def test_a_short_lived_token_is_exchanged_at_once(world: World, long_lived: bool) -> None:
    token = world.meta.create_token(expires_in=3600, long_lived=long_lived)
    app = world.an_app(token, expires_in=timedelta(hours=1))
    assert world.service().refresh(token.fingerprint, trigger="scheduled", by="worker").outcome is EXTENDED
    assert (world.app(app).expires_at or world.clock()) > world.clock() + 59 * DAY


def test_a_system_users_token_keeps_its_sixty_days(world: World) -> None:
    token = world.meta.create_token(type="SYSTEM_USER", expires_in=5 * 86_400)
    app = world.an_app(token, expires_in=5 * DAY)
    assert world.service().check_and_refresh_token(app.id).outcome is EXTENDED
    assert (world.app(app).expires_at or world.clock()) > world.clock() + 59 * DAY


@pytest.mark.parametrize("trigger", ["scheduled", "manual", "bulk"])
def test_a_token_without_an_end_is_never_exchanged(sqlite_world: World, trigger: str) -> None:
    """Whatever end the platform stored with it: the exchange would give it one."""
    world = sqlite_world
    token = world.meta.create_token(type="SYSTEM_USER", never=True)
    app = world.an_app(token, expires_in=20 * DAY)
    _learn(world, app)
    assert world.service().refresh(token.fingerprint, trigger=trigger, by="test").outcome is VALID
    assert (world.app(app).token, world.app(app).expires_at) == (token, None)
    assert world.meta.count("exchange") == 0
    assert world.token(token.fingerprint).next_refresh_at is None


def test_a_valid_token_is_not_replaced_by_a_siblings(sqlite_world: World) -> None:
    """Each is made for its own pixel, and Meta refused this one in passing."""
    world = sqlite_world
    token, other = (world.meta.create_token(pixels=[pixel]) for pixel in ("111", "222"))
    app = world.an_app(token, expires_in=40 * DAY, email="owner@example.com", pixel="111")
    world.an_app(other, expires_in=55 * DAY, email="owner@example.com", pixel="222")
    assert world.service().handle_facebook_api_error(refused(world, token, 190, 463), app.id)
    assert (outcome(world), world.app(app).token) == ("still_valid", token)


@pytest.mark.parametrize(("pixels", "expected"), [(["111", "112"], "adopted"), (["111"], "needs_reconnect")])
def test_a_siblings_token_is_adopted_only_where_it_reaches_the_pixels(
    sqlite_world: World, pixels: list[str], expected: str
) -> None:
    world = sqlite_world
    token, other = world.meta.create_token(), world.meta.create_token(pixels=[*pixels, "222"])
    app, _ = (world.an_app(token, expires_in=40 * DAY, email="owner@example.com", pixel=one) for one in ("111", "112"))
    world.an_app(other, expires_in=55 * DAY, email="owner@example.com", pixel="222")
    world.meta.kill(token, 460)
    world.service().handle_facebook_api_error(refused(world, token, 190, 460), app.id)
    assert outcome(world) == expected


def test_a_stored_end_that_has_passed_is_forgotten_when_meta_names_none(
    sqlite_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = sqlite_world
    token = world.meta.create_token()
    app = world.an_app(token, expires_in=-DAY)
    look = Graph.debug_token
    monkeypatch.setattr(Graph, "debug_token", lambda graph, one: replace(look(graph, one), expires_at=None))
    monkeypatch.setattr(Graph, "exchange", lambda _, one, **__: Exchanged(one, None, "trace", 1))
    sent = world.an_event(app)
    for fingerprint in world.deliver(app):
        assert world.service().refresh(fingerprint, trigger="on_error", by="test").usable
    assert world.app(app).expires_at is None
    assert world.deliver(app) == []
    assert world.state_of(sent) == "delivered"


def test_a_token_that_works_and_was_exchanged_often_enough_has_not_failed(sqlite_world: World) -> None:
    world = sqlite_world
    token = world.meta.create_token(expires_in=25 * 86_400, mode="same_token")
    app = world.an_app(token, expires_in=25 * DAY)
    _learn(world, app)
    service = world.service()
    said = [service.refresh(token.fingerprint, trigger="manual", by="ann").outcome for _ in range(2)]
    with writing(world.engine) as conn:
        tokens.plan(conn, token.fingerprint, world.clock())
    said.append(service.refresh(token.fingerprint, trigger="scheduled", by="worker").outcome)
    assert said == [Outcome.NOT_EXTENDED, Outcome.NOT_EXTENDED, VALID]
    assert world.token(token.fingerprint).failures == 0
    assert world.app(app).expires_at is not None


def _learn(world: World, app: App) -> None:
    """What Meta says of the app's token, as the daily check writes it down."""
    assert app.token is not None
    with writing(world.engine) as conn:
        tokens.see(conn, app.token.fingerprint, user_id=app.user_id, now=world.clock(), next_refresh_at=None)
        tokens.learn(conn, app.token.fingerprint, world.graph().debug_token(app.token), now=world.clock())


# A 200 without a later end is not asked for again and again: R5

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("mode", ["same_token", "same_expiry", "shorter_expiry"])
@pytest.mark.parametrize("days", [20, 3])
def test_an_end_that_does_not_move_costs_two_exchanges_a_day_at_most(sqlite_world: World, mode: str, days: int) -> None:
    """The worst that can happen: it is due all the time, and Meta refuses it every hour besides."""
    world = sqlite_world
    start = at = datetime(2026, 11, 1, tzinfo=UTC)
    world.clock = lambda: at
    world.meta.set_clock(at)
    token = world.meta.create_token(expires_in=days * 86_400, mode=mode)
    app = world.an_app(token, expires_in=days * DAY)
    service = world.service()
    asked: list[datetime] = []
    while at < start + 2.4 * DAY:
        before = world.meta.count("exchange")
        held = world.app(app).token
        assert held is not None
        service.handle_facebook_api_error(refused(world, held, 190, 463), app.id)
        service.check_and_refresh_token(app.id)
        service.refresh(world.app(app).fingerprint or "", trigger="scheduled", by="worker")
        asked += [at] * (world.meta.count("exchange") - before)
        at += 2 * HOUR
        world.meta.set_clock(at)
    assert len(asked) >= 2, "and it is tried again the next day"
    assert all(sum(moment <= one < moment + DAY for one in asked) <= 2 for moment in asked), asked


# No loops: R6


@pytest.mark.parametrize("near_end", [True, False])
def test_a_token_that_refreshes_well_and_is_refused_all_the_same_is_parked_after_one_retry(
    world: World, near_end: bool
) -> None:
    days = 5 if near_end else 40
    app = world.an_app(world.meta.create_token(expires_in=days * 86_400), expires_in=days * DAY)
    world.meta.fault("events", "error", error={"code": 190, "subcode": 463, "message": "has expired"})
    sent = world.an_event(app)
    _work_on(world, rounds=6, deliver=lambda: world.deliver(app))
    assert world.state_of(sent) == "parked"
    assert world.meta.count("events") == 2, "once, and once more with the mended token"
    assert world.meta.count("exchange") == (1 if near_end else 0)
    assert [row.outcome for row in world.refreshes()] == ["extended" if near_end else "still_valid", "needs_reconnect"]


def test_a_storm_of_refusals_is_one_refresh_of_a_token_in_ten_minutes(sqlite_world: World) -> None:
    world = sqlite_world
    at = datetime(2026, 11, 1, tzinfo=UTC)
    world.clock = lambda: at
    world.meta.set_clock(at)
    app = world.an_app(world.meta.create_token(expires_in=20 * 86_400), expires_in=20 * DAY)
    service = world.service()
    for _ in range(40):
        held = world.app(app).token
        assert held is not None
        service.handle_facebook_api_error(refused(world, held, 190, 463), app.id)
        at += timedelta(minutes=1)
        world.meta.set_clock(at)
    done: dict[str, list[datetime]] = {}
    for row in world.refreshes():
        done.setdefault(row.fingerprint, []).append(row.started_at)
    for moments in done.values():
        assert all(b - a >= timedelta(minutes=10) for a, b in pairwise(moments))


def _work_on(world: World, *, rounds: int, deliver: Callable[[], list[str]]) -> None:
    for _ in range(rounds):
        for fingerprint in deliver():
            world.service().refresh(fingerprint, trigger="on_error", by="worker")


def test_failures_are_counted_in_days_and_absences_in_minutes() -> None:
    policy, now = Policy(), datetime(2026, 11, 1, tzinfo=UTC)
    assert policy.next_day(now + 20 * DAY, now) == now + DAY
    assert policy.next_day(now + 6 * DAY, now) == now + DAY / 2
    waits = [policy.after_failure(failures, now + 20 * DAY, now) - now for failures in range(12)]
    assert waits[:4] == [timedelta(minutes=minutes) for minutes in (1, 2, 4, 8)]
    assert max(waits) == timedelta(hours=6)
