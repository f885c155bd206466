"""The watch over tokens: what others wrote, what Meta says, what is due and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, text

from core.secret import Secret
from core.services import checkup, schedule, watch
from core.services.policy import Policy, spread
from core.services.sending import RESTS
from core.store import apps, cases
from core.store.database import reading, writing
from core.store.wake import Work
from tests.world import APP_ID, DAY, World

POLICY = Policy(app_id=APP_ID)


def _write(world: World, app_id: str, token: Secret | None) -> None:
    with writing(world.engine) as conn:
        conn.execute(
            text('UPDATE "AppSettings" SET "metaAccessToken" = :token WHERE "appId" = :app'),
            {"token": token.reveal() if token else None, "app": app_id},
        )


def test_a_token_the_platform_stored_is_noticed_and_planned(world: World) -> None:
    app = world.an_app()
    token = world.meta.create_token()
    _write(world, app.id, token)
    assert watch.notice_tokens(world.engine, POLICY, now=world.clock()) == 1
    assert world.token(token.fingerprint).user_id == app.user_id
    assert watch.notice_tokens(world.engine, POLICY, now=world.clock()) == 0


def test_a_token_taken_away_is_no_longer_refreshed(world: World) -> None:
    token = world.meta.create_token(expires_in=24 * 3600)
    app = world.an_app(token, expires_in=DAY)
    checkup.check(world.engine, world.graph(), POLICY, token.fingerprint, now=world.clock())
    world.service().check_and_refresh_token(app.id)
    held = world.app(app).fingerprint or ""
    _write(world, app.id, None)
    watch.notice_tokens(world.engine, POLICY, now=world.clock())
    assert world.token(held).next_refresh_at is None


def test_the_daily_check_finds_a_token_dead_before_an_event_does(world: World) -> None:
    token = world.meta.create_token()
    world.an_app(token)
    _notice_all(world)
    world.meta.kill(token, 460)
    assert checkup.check_tokens(world.engine, world.graph(), POLICY, now=world.clock(), limit=10) == 1
    known = world.token(token.fingerprint)
    assert known.broken_failure == "token_dead"
    assert watch.due_work(world.engine, now=world.clock()) == [(Work.REFRESH, token.fingerprint)]
    assert checkup.check_tokens(world.engine, world.graph(), POLICY, now=world.clock(), limit=10) == 0


def test_the_daily_check_learns_what_meta_knows(world: World) -> None:
    never = world.meta.create_token(never=True)
    dated = world.meta.create_token()
    first, second = world.an_app(never, expires_in=None), world.an_app(dated, expires_in=None)
    _notice_all(world)
    checkup.check_tokens(world.engine, world.graph(), POLICY, now=world.clock(), limit=10)
    assert world.token(never.fingerprint).never_expires
    assert world.app(first).expires_at is None
    ends = world.app(second).expires_at
    assert ends is not None
    assert abs(ends - world.clock() - 60 * DAY) < timedelta(minutes=5)


def test_the_platforms_new_token_closes_the_case_whoever_meets_it_first(sqlite_world: World) -> None:
    """A delivery notes the new token before the watch comes by; no look at the old one is due any more."""
    for meets in ("delivery", "refresh", "watch"):
        old, new = sqlite_world.meta.create_token(), sqlite_world.meta.create_token()
        app = sqlite_world.an_app(old)
        sqlite_world.meta.kill(old)
        sqlite_world.an_event(app)
        for fingerprint in sqlite_world.deliver(app):
            sqlite_world.service().refresh(fingerprint, trigger="on_error", by="test")
        assert sqlite_world.token(old.fingerprint).needs_reconnect
        _write(sqlite_world, app.id, new)
        if meets == "delivery":
            sqlite_world.an_event(app)
            sqlite_world.deliver(app)
        elif meets == "refresh":
            sqlite_world.service().refresh(old.fingerprint, trigger="manual", by="test", user_id=app.user_id)
        else:
            watch.notice_tokens(sqlite_world.engine, POLICY, now=sqlite_world.clock())
        assert sqlite_world.app(app).seen == new.fingerprint, meets
        assert not sqlite_world.token(old.fingerprint).needs_reconnect, meets
        with reading(sqlite_world.engine) as conn:
            assert cases.open_of(conn, old.fingerprint, app.user_id) is None, meets


def test_events_that_wait_for_their_pixel_cost_no_write_until_their_time(sqlite_world: World) -> None:
    token = sqlite_world.meta.create_token(pixels=["1"])
    for _ in range(3):
        app = sqlite_world.an_app(token, email="o@x.com")
        sqlite_world.an_event(app)
        sqlite_world.deliver(app)
    assert sqlite_world.states() == {"parked": 3}
    writes: list[bool] = []
    seen = lambda conn: writes.append(bool(conn.get_execution_options().get("capi_writes")))  # noqa: E731
    event.listen(sqlite_world.engine, "begin", seen)
    assert watch.release_replaced(sqlite_world.engine, now=sqlite_world.clock()) == 0
    assert writes == [False]
    assert watch.release_replaced(sqlite_world.engine, now=sqlite_world.clock() + 2 * timedelta(hours=1)) == 3


def test_an_end_stored_after_its_token_is_planned_for(world: World) -> None:
    token = world.meta.create_token(expires_in=5 * 24 * 3600)
    app = world.an_app(token, expires_in=None)
    _notice_all(world)
    assert world.token(token.fingerprint).next_refresh_at is None
    with writing(world.engine) as conn:
        apps.write_token(conn, app.id, token, expires_at=world.clock() + 5 * DAY)
    watch.notice_tokens(world.engine, POLICY, now=world.clock())
    assert schedule.due_refreshes(world.engine, POLICY, now=world.clock()) == [token.fingerprint]


def test_meta_knows_better_when_a_token_ends(world: World) -> None:
    token = world.meta.create_token(expires_in=5 * 24 * 3600)
    world.an_app(token, expires_in=90 * DAY)
    _notice_all(world)
    assert schedule.due_refreshes(world.engine, POLICY, now=world.clock()) == []
    checkup.check_tokens(world.engine, world.graph(), POLICY, now=world.clock(), limit=10)
    assert schedule.due_refreshes(world.engine, POLICY, now=world.clock()) == [token.fingerprint]


def test_the_check_does_not_touch_a_token_stored_meanwhile(world: World) -> None:
    old, new = world.meta.create_token(expires_in=2 * 24 * 3600), world.meta.create_token()
    app = world.an_app(old, expires_in=None)
    _notice_all(world)
    ends = world.clock() + 60 * DAY
    graph = world.graph()
    ask = graph.debug_token

    def meanwhile(token: Secret) -> object:
        with writing(world.engine) as conn:
            apps.write_token(conn, app.id, new, expires_at=ends)
        return ask(token)

    graph.debug_token = meanwhile  # type: ignore[method-assign, assignment]
    checkup.check(world.engine, graph, POLICY, old.fingerprint, now=world.clock())
    stored = world.app(app)
    assert stored.token == new
    assert stored.expires_at is not None
    assert abs(stored.expires_at - ends) < timedelta(seconds=1)


def test_a_token_that_is_alive_again_sets_its_events_free(world: World) -> None:
    """A checkpointed user logs in: the same token works again."""
    token = world.meta.create_token()
    app = world.an_app(token)
    world.meta.fault("events", "error", error={"code": 190, "error_subcode": 459, "subcode": 459}, count=1)
    sent = world.an_event(app)
    world.deliver(app)
    with writing(world.engine) as conn:
        conn.execute(text("UPDATE capi_token SET needs_reconnect = :yes"), {"yes": True})
    checkup.check(world.engine, world.graph(), POLICY, token.fingerprint, now=world.clock())
    assert world.state_of(sent) == "due"
    world.deliver(app)
    assert world.state_of(sent) == "delivered"


def test_meta_away_ends_the_check_until_tomorrow_for_one_token_only(world: World) -> None:
    for _ in range(3):
        world.an_app(world.meta.create_token())
    _notice_all(world)
    world.meta.fault("debug", "transient_2")
    checkup.check_tokens(world.engine, world.graph(), POLICY, now=world.clock(), limit=10)
    assert world.meta.count("debug") == 1


def test_scheduled_refreshes_are_found_but_not_those_of_broken_tokens(world: World) -> None:
    soon = world.an_app(world.meta.create_token(expires_in=3600), expires_in=DAY)
    far = world.an_app(world.meta.create_token(), expires_in=50 * DAY)
    _notice_all(world)
    assert schedule.due_refreshes(world.engine, POLICY, now=world.clock()) == [soon.fingerprint]
    assert schedule.due_refreshes(world.engine, POLICY, now=world.clock() + 21.5 * DAY) == [
        soon.fingerprint,
        far.fingerprint,
    ]


NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_a_start_spreads_the_window_over_a_day_and_the_last_week_goes_at_once() -> None:
    names = [f"fp_{n}" for n in range(500)]
    moments = [POLICY.first_refresh(name, NOW + 20 * DAY, NOW) for name in names]
    hours = [((due or NOW) - NOW) / timedelta(hours=1) for due in moments]
    assert 0 <= min(hours) < 1
    assert 23 < max(hours) < 24
    assert all(sum(h <= hour < h + 6 for hour in hours) > 80 for h in (0, 6, 12, 18))
    assert POLICY.first_refresh("fp", NOW + 6 * DAY, NOW) == NOW
    assert POLICY.first_refresh("fp", NOW + 45 * DAY, NOW) == NOW + 15 * DAY + DAY * spread("fp")
    assert POLICY.first_refresh("fp", None, NOW) is None


@pytest.mark.parametrize("failures", range(15))
def test_a_failed_refresh_waits_longer_each_time_but_hourly_on_the_last_day(failures: int) -> None:
    calm = POLICY.after_failure(failures, NOW + 20 * DAY, NOW) - NOW
    urgent = POLICY.after_failure(failures, NOW + DAY / 2, NOW) - NOW
    assert timedelta(minutes=1) <= calm <= DAY
    assert urgent <= timedelta(hours=1)


@pytest.mark.parametrize("failure", sorted(RESTS))
def test_a_pixel_rests_longer_after_each_refusal_up_to_its_cap(failure: object) -> None:
    rest = RESTS[failure]  # type: ignore[index]
    assert rest.until(NOW, 0, None) - NOW == rest.first
    assert all(rest.first <= rest.until(NOW, n, None) - NOW <= rest.cap for n in range(30))
    assert rest.until(NOW, 3, 90.0) == NOW + timedelta(seconds=90), "what Meta asks for comes first"


def _notice_all(world: World) -> None:
    with writing(world.engine) as conn:
        conn.execute(text("UPDATE capi_app SET fingerprint = NULL"))
    watch.notice_tokens(world.engine, POLICY, now=world.clock())
