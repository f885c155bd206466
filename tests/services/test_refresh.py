"""The refresh ladder against the sandbox, on SQLite and on PostgreSQL."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select

from core.meta.failures import Failure
from core.meta.graph import GraphError
from core.secret import Secret
from core.services.ladder import Outcome
from core.store import apps, tokens
from core.store.database import reading, writing
from core.store.schema import capi_case
from tests.world import DAY, World

SIXTY_DAYS = 60 * 24 * 3600


def test_a_token_near_its_end_is_extended_for_every_app_of_the_user(world: World) -> None:
    token = world.meta.create_token(expires_in=5 * 24 * 3600)
    one = world.an_app(token, expires_in=5 * DAY, email="owner@example.com")
    two = world.an_app(token, expires_in=5 * DAY, email="owner@example.com")
    stranger = world.an_app(token, expires_in=5 * DAY, email="other@example.com")

    refreshed = world.service().check_and_refresh_token(one.public_id)

    assert (refreshed.outcome, refreshed.apps_updated) == (Outcome.EXTENDED, 2)
    assert world.app(one).token == world.app(two).token != token
    assert world.app(stranger).token == token
    ends = world.app(one).expires_at
    assert ends is not None
    assert ends > world.clock() + 59 * DAY
    assert world.meta.count("exchange") == 1
    assert [row.outcome for row in world.refreshes()] == ["extended"]


def test_a_token_with_time_left_is_not_touched(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    assert world.service().check_and_refresh_token(app.id).outcome is Outcome.STILL_VALID
    assert world.meta.count("exchange") == 0


def test_all_tokens_of_a_user_are_refreshed_once_each(world: World) -> None:
    shared, own = world.meta.create_token(), world.meta.create_token()
    apps = [world.an_app(token, email="owner@example.com") for token in (shared, shared, own)]
    done = world.service().refresh_all_user_tokens(apps[0].user_id)
    assert sorted(one.apps_updated for one in done) == [1, 2]
    assert world.meta.count("exchange") == 2


def test_a_truly_expired_token_needs_a_reconnect_after_one_attempt(world: World) -> None:
    token = world.meta.create_token(expires_in=-60)
    app = world.an_app(token, expires_in=-DAY)
    error = GraphError(Failure.TOKEN_EXPIRED, "Session has expired", code=190, subcode=463)

    assert world.service().handle_facebook_api_error(error, app.id) is False

    assert world.meta.count("exchange") == 1
    known = world.token(token.fingerprint)
    assert known.needs_reconnect
    assert known.next_refresh_at is None
    with reading(world.engine) as conn:
        assert conn.execute(select(capi_case.c.state, capi_case.c.fingerprint)).all() == [("made", token.fingerprint)]
    assert world.refreshes()[0].outcome == "needs_reconnect"


@pytest.mark.parametrize("subcode", [458, 460, 464, 492])
def test_a_dead_token_is_not_exchanged(world: World, subcode: int) -> None:
    token = world.meta.create_token()
    app = world.an_app(token)
    world.meta.kill(token, subcode)
    error = GraphError(Failure.TOKEN_DEAD, "dead", code=190, subcode=subcode)
    assert world.service().handle_facebook_api_error(error, app.id) is False
    assert world.meta.count("exchange") == 0
    assert world.token(token.fingerprint).needs_reconnect


def test_a_token_of_two_users_is_mended_for_both(world: World) -> None:
    token = world.meta.create_token(expires_in=3600)
    one, two = (world.an_app(token, expires_in=-DAY, email=f"{who}@example.com") for who in ("one", "two"))
    service = world.service()
    service.broke(world.app(one), Failure.TOKEN_EXPIRED, "expired")
    assert service.refresh(token.fingerprint, trigger="on_error", by="test").usable
    assert token not in (world.app(one).token, world.app(two).token)
    assert {row.outcome for row in world.refreshes()} == {"extended"}


def test_apps_that_no_watch_has_seen_are_mended_with_the_others_of_their_user(world: World) -> None:
    """Also where the token was first seen at another user."""
    token = world.meta.create_token(expires_in=5 * 24 * 3600)
    near = {"expires_in": 5 * DAY}
    stranger = world.an_app(token, email="other@example.com", **near)
    one, two = (world.an_app(token, email="owner@example.com", **near) for _ in range(2))
    with writing(world.engine) as conn:
        tokens.see(conn, token.fingerprint, user_id=stranger.user_id, now=world.clock(), next_refresh_at=None)
        apps.mirror(conn, stranger.id, token.fingerprint)
        apps.mirror(conn, one.id, token.fingerprint)
        apps.mirror(conn, two.id, None)
    assert world.service().refresh(token.fingerprint, trigger="scheduled", by="worker").usable
    assert world.app(one).token == world.app(two).token != token


def test_two_users_of_a_dead_token_are_asked_and_answer_each_for_themselves(sqlite_world: World) -> None:
    world = sqlite_world
    token, new = world.meta.create_token(), world.meta.create_token()
    one, two = (world.an_app(token, email=f"{who}@example.com") for who in ("one", "two"))
    world.meta.kill(token)
    error = GraphError(Failure.TOKEN_DEAD, code=190, subcode=460, fingerprint=token.fingerprint)
    assert world.service().handle_facebook_api_error(error, one.id) is False
    assert open_cases(world) == {one.user_id, two.user_id}

    facts = world.graph().debug_token(new)
    given = {"trigger": "reconnect", "by": "merchant"}
    world.service().take_over(token.fingerprint, new, facts, user_id=one.user_id, **given)
    assert open_cases(world) == {two.user_id}
    assert world.token(token.fingerprint).needs_reconnect

    world.service().take_over(token.fingerprint, new, facts, user_id=two.user_id, **given)
    assert open_cases(world) == set()
    assert not world.token(token.fingerprint).needs_reconnect, "nobody holds it"


def test_a_token_that_we_knew_as_broken_works_when_its_owner_gives_it(sqlite_world: World) -> None:
    world = sqlite_world
    old, known = world.meta.create_token(), world.meta.create_token()
    app, other = (world.an_app(token, email="owner@example.com") for token in (old, known))
    service = world.service()
    world.meta.kill(old)
    world.meta.kill(known)
    for one in (app, other):
        service.handle_facebook_api_error(GraphError(Failure.TOKEN_DEAD, fingerprint=one.fingerprint), one.id)
    world.meta.revive(known)
    sent = world.an_event(app)
    given = {"trigger": "reconnect", "by": "merchant", "user_id": app.user_id}
    service.take_over(old.fingerprint, known, world.graph().debug_token(known), **given)
    world.deliver(world.app(app))
    assert (world.state_of(sent), open_cases(world)) == ("delivered", set())


def open_cases(world: World) -> set[str]:
    """Users who are asked to connect again."""
    with reading(world.engine) as conn:
        return set(conn.scalars(select(capi_case.c.user_id).where(capi_case.c.done_at.is_(None))))


@pytest.mark.parametrize("mode", ["same_token", "expired"])
def test_what_has_just_come_to_nothing_is_not_repeated(world: World, mode: str) -> None:
    over = mode == "expired"
    token = world.meta.create_token(expires_in=-1 if over else 5 * 24 * 3600, mode=None if over else mode)
    app = world.an_app(token, expires_in=-DAY if over else 5 * DAY)
    service = world.service()
    outcomes = {service.check_and_refresh_token(app.id).outcome for _ in range(5)}
    error = GraphError(Failure.TOKEN_EXPIRED, code=190, subcode=463, fingerprint=token.fingerprint)
    if over:
        assert not any(service.handle_facebook_api_error(error, app.id) for _ in range(5))
    assert outcomes == {Outcome.NEEDS_RECONNECT if over else Outcome.NOT_EXTENDED}
    assert world.meta.count("exchange") == 1
    service.refresh(token.fingerprint, trigger="manual", by="ann")
    assert world.meta.count("exchange") == 2, "a person may ask again"


def test_a_never_ending_token_with_a_past_date_loses_the_date(world: World) -> None:
    token = world.meta.create_token(never=True)
    app = world.an_app(token, expires_in=-DAY)
    error = GraphError(Failure.TOKEN_EXPIRED, code=190, subcode=463, fingerprint=token.fingerprint)
    assert world.service().handle_facebook_api_error(error, app.id) is True
    assert world.app(app).expires_at is None
    assert world.token(world.app(app).fingerprint or "").broken_since is None


def test_a_late_error_about_a_replaced_token_leaves_nothing_behind(world: World) -> None:
    token = world.meta.create_token(expires_in=5 * 24 * 3600)
    app = world.an_app(token, expires_in=5 * DAY)
    world.service().check_and_refresh_token(app.id)
    world.service().broke(app, Failure.TOKEN_EXPIRED, "late")
    world.service().refresh(token.fingerprint, trigger="on_error", by="test")
    old = world.token(token.fingerprint)
    assert (old.broken_since, old.next_refresh_at) == (None, None)


def test_the_platforms_recipe_works_twice_in_a_row(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    for count in (1, 2):
        held = world.app(app)
        with writing(world.engine) as conn:
            apps.correct_expiry(conn, [held], held.fingerprint or "", world.clock() - DAY)
        sent = world.an_event(app)
        for fingerprint in world.deliver(app):
            assert world.service().refresh(fingerprint, trigger="on_error", by="test").usable
        world.deliver(app)
        assert world.state_of(sent) == "delivered"
        assert world.meta.count("exchange") == count


def test_an_error_that_is_not_about_the_token_refreshes_nothing(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    assert world.service().handle_facebook_api_error(GraphError(Failure.TRANSIENT, code=2), app.id) is False
    assert world.refreshes() == []


def test_a_siblings_newer_token_is_adopted_without_an_exchange(world: World) -> None:
    old, new = world.meta.create_token(expires_in=-60), world.meta.create_token()
    app = world.an_app(old, expires_in=-DAY, email="owner@example.com")
    world.an_app(new, expires_in=55 * DAY, email="owner@example.com")
    error = GraphError(Failure.TOKEN_EXPIRED, code=190, subcode=463)
    assert world.service().handle_facebook_api_error(error, app.id) is True
    assert world.app(app).token == new
    assert world.meta.count("exchange") == 0
    assert world.refreshes()[0].outcome == "adopted"


def test_a_siblings_token_of_another_meta_user_is_not_adopted(world: World) -> None:
    old = world.meta.create_token(expires_in=-60, user="1")
    app = world.an_app(old, expires_in=-DAY, email="owner@example.com")
    world.an_app(world.meta.create_token(user="2"), expires_in=55 * DAY, email="owner@example.com")
    error = GraphError(Failure.TOKEN_EXPIRED, code=190, subcode=463)
    assert world.service().handle_facebook_api_error(error, app.id) is False
    assert world.app(app).token == old


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        ("same_token", Outcome.NOT_EXTENDED),
        ("same_expiry", Outcome.NEW_TOKEN_SAME_EXPIRY),
        ("no_expires_in", Outcome.EXTENDED),
    ],
)
def test_a_200_is_only_success_when_the_end_moved(world: World, mode: str, outcome: Outcome) -> None:
    token = world.meta.create_token(expires_in=5 * 24 * 3600, mode=mode)
    app = world.an_app(token, expires_in=5 * DAY)
    assert world.service().check_and_refresh_token(app.id).outcome is outcome
    held = world.app(app).token
    assert held is not None
    due = world.token(held.fingerprint).next_refresh_at
    assert due >= world.clock() + DAY / 2 - timedelta(minutes=1), "twice a day at most, in the last week"


def test_meta_away_is_unreachable_and_tried_later(world: World) -> None:
    token = world.meta.create_token(expires_in=5 * 24 * 3600)
    app = world.an_app(token, expires_in=5 * DAY)
    world.meta.fault("exchange", "transient_2")
    assert world.service().check_and_refresh_token(app.id).outcome is Outcome.UNREACHABLE
    known = world.token(token.fingerprint)
    assert not known.needs_reconnect
    assert known.next_refresh_at > world.clock()
    assert world.app(app).token == token


def test_a_wrong_app_secret_blames_the_settings_and_not_the_token(world: World) -> None:
    token = world.meta.create_token(expires_in=-60)
    app = world.an_app(token, expires_in=-DAY)
    service = world.service(secret="not the secret")
    error = GraphError(Failure.TOKEN_EXPIRED, code=190, subcode=463)
    assert service.handle_facebook_api_error(error, app.id) is False
    assert world.refreshes()[0].outcome == "refused"
    assert not world.token(token.fingerprint).needs_reconnect


def test_a_token_mended_a_moment_ago_is_not_mended_again(world: World) -> None:
    token = world.meta.create_token(expires_in=5 * 24 * 3600)
    app = world.an_app(token, expires_in=5 * DAY)
    error = GraphError(Failure.TOKEN_EXPIRED, code=190, subcode=463)
    service = world.service()
    assert service.handle_facebook_api_error(error, app.id) is True
    mended = world.app(app).fingerprint
    again = GraphError(Failure.TOKEN_EXPIRED, code=190, subcode=463, fingerprint=mended)
    assert service.handle_facebook_api_error(again, app.id) is False
    assert world.meta.count("exchange") == 1
    assert world.token(mended or "").needs_reconnect


@pytest.mark.parametrize("named", [True, False])
def test_handlers_that_come_late_do_not_break_the_mended_token(world: World, named: bool) -> None:
    token = world.meta.create_token(expires_in=5 * 24 * 3600)
    app = world.an_app(token, expires_in=5 * DAY)
    error = GraphError(Failure.TOKEN_EXPIRED, code=190, subcode=463, fingerprint=token.fingerprint if named else None)
    answers: list[bool] = []
    services = [world.service(f"worker-{n}") for n in range(4)]

    def handle(n: int) -> None:
        answers.append(services[n % 4].handle_facebook_api_error(error, app.id))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(handle, range(60)))
    assert answers == [True] * 60
    assert world.meta.count("exchange") == 1
    assert world.token(world.app(app).fingerprint or "").broken_since is None


def test_a_newer_token_written_meanwhile_is_never_replaced(world: World) -> None:
    """Somebody stores another token while Meta is being asked."""
    token = world.meta.create_token(expires_in=5 * 24 * 3600)
    app = world.an_app(token, expires_in=5 * DAY)
    newer = Secret("EAAnewer" + "x" * 40)
    world.meta.fault("exchange", "latency", seconds=0.6, count=1)
    service = world.service()
    thread = threading.Thread(target=service.check_and_refresh_token, args=(app.id,))
    thread.start()
    threading.Event().wait(0.25)
    with world.engine.begin() as conn:
        conn.exec_driver_sql(
            'UPDATE "AppSettings" SET "metaAccessToken" = \'' + newer.reveal() + "' WHERE \"appId\" = '" + app.id + "'"
        )
    thread.join()
    assert world.app(app).token == newer
    assert world.refreshes()[0].apps_updated == 0


def test_many_at_once_make_one_exchange(world: World) -> None:
    token = world.meta.create_token(expires_in=5 * 24 * 3600)
    app = world.an_app(token, expires_in=5 * DAY)
    world.meta.fault("exchange", "latency", seconds=0.3)
    outcomes: list[Outcome] = []
    services = [world.service(f"worker-{n}") for n in range(8)]

    def ask(service: object) -> None:
        outcomes.append(service.check_and_refresh_token(app.id).outcome)  # type: ignore[attr-defined]

    threads = [threading.Thread(target=ask, args=(service,)) for service in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.meta.count("exchange") == 1
    assert len(outcomes) == 8
    assert set(outcomes) <= {Outcome.EXTENDED, Outcome.ADOPTED}
    assert len(world.refreshes()) == 1


def test_the_platforms_log_lines_word_for_word(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    good = world.an_app(world.meta.create_token(expires_in=5 * 24 * 3600), expires_in=5 * DAY)
    bad = world.an_app(world.meta.create_token(expires_in=-1), expires_in=-DAY)
    world.service().check_and_refresh_token(good.id)
    world.service().check_and_refresh_token(bad.id)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("[Token Refresh]")]
    assert lines[:3] == [
        f"[Token Refresh] Token for app {good.public_id} expired or expiring soon, refreshing...",
        f"[Token Refresh] ✅ Token refreshed successfully for app {good.public_id}",
        f"[Token Refresh] Token for app {bad.public_id} expired or expiring soon, refreshing...",
    ]
    assert lines[3].startswith(f"[Token Refresh] ❌ Failed to refresh token for app {bad.public_id}: ")
