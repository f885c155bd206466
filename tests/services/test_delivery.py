"""The outbox's road to Meta: delivered, parked, released, divided, postponed, buried."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from core.errors import Conflict
from core.services import watch
from core.services.send import send_with_refresh
from core.store import apps, outbox, pixels
from core.store.database import reading, writing
from core.store.schema import capi_attempt, capi_outbox, capi_pixel
from tests.world import DAY, World


def test_due_events_go_out_in_one_request_and_leave_the_outbox(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    sent = [world.an_event(app) for _ in range(5)]
    assert world.deliver(app) == []
    assert {event["event_id"] for event in world.meta.events(app.pixel_id)} == set(sent)
    assert world.meta.count("events") == 1
    assert world.states() == {"delivered": 5}
    with reading(world.engine) as conn:
        assert conn.execute(select(capi_outbox)).all() == []
        assert conn.execute(select(capi_attempt.c.events, capi_attempt.c.failure)).all() == [(5, None)]


def test_an_expired_token_parks_its_events_and_burns_no_try(world: World) -> None:
    token = world.meta.create_token()
    app = world.an_app(token)
    sent = world.an_event(app)
    world.meta.expire(token)
    assert world.deliver(app) == [token.fingerprint]
    event = world.event(sent)
    assert (event.state, event.attempts, event.failure) == ("parked", 0, "token_expired")


def test_a_mended_token_sends_what_waited_and_says_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The platform's own recipe: the stored end is in the past, Meta would still take the token."""
    caplog.set_level(logging.INFO)
    token = world.meta.create_token()
    app = world.an_app(token, expires_in=-DAY, email="owner@example.com")
    sibling = world.an_app(token, expires_in=-DAY, email="owner@example.com")
    sent = world.an_event(app)
    for fingerprint in world.deliver(app):
        assert world.service().refresh(fingerprint, trigger="on_error", by="test").usable
    world.deliver(app)

    assert world.state_of(sent) == "delivered"
    assert world.event(sent).after_refresh
    assert world.app(app).token == world.app(sibling).token != token
    assert world.meta.count("exchange") == 1
    told = [r.getMessage() for r in caplog.records if r.getMessage().startswith("[T")]
    assert told == [
        "[Track] Detected token error, attempting to refresh token...",
        f"[Token Refresh] Token for app {app.public_id} expired or expiring soon, refreshing...",
        f"[Token Refresh] ✅ Token refreshed successfully for app {app.public_id}",
        "[Track] ✅ Token refreshed, retrying event send...",
        "[Track] ✅ SUCCESS (after token refresh): Event sent to Facebook CAPI",
    ]


def test_a_token_written_by_somebody_else_sets_its_events_free(world: World) -> None:
    dead = world.meta.create_token(expires_in=-60)
    app = world.an_app(dead)
    sent = world.an_event(app)
    world.deliver(app)
    world.service().refresh(dead.fingerprint, trigger="on_error", by="test")
    assert watch.release_replaced(world.engine, now=world.clock()) == 0

    fresh = world.meta.create_token()
    with writing(world.engine) as conn:
        conn.execute(
            text(
                'UPDATE "AppSettings" SET "metaAccessToken" = :token, "metaTokenExpiresAt" = NULL WHERE "appId" = :app'
            ),
            {"token": fresh.reveal(), "app": app.id},
        )
    assert watch.release_replaced(world.engine, now=world.clock()) == 1
    world.deliver(app)
    assert world.state_of(sent) == "delivered"


def test_events_without_any_token_wait_for_the_first(world: World) -> None:
    app = world.an_app(None)
    sent = world.an_event(app)
    world.deliver(app)
    assert world.event(sent).failure == "no_token"
    with writing(world.engine) as conn:
        apps.write_token(conn, app.id, world.meta.create_token(), expires_at=None)
    watch.release_replaced(world.engine, now=world.clock())
    world.deliver(app)
    assert world.state_of(sent) == "delivered"
    assert not world.event(sent).after_refresh


@pytest.mark.parametrize(("bad", "most"), [((617,), 21), ((3, 500, 999), 60)])
def test_bad_events_do_not_sink_the_batch(world: World, bad: tuple[int, ...], most: int) -> None:
    app = world.an_app(world.meta.create_token())
    ids = [f"e{n}" for n in range(1000)]
    for n, event_id in enumerate(ids):
        wrong = {"user_data": {"client_user_agent": "Mozilla/5.0", "em": ["plain@example.com"]}} if n in bad else {}
        world.an_event(app, event_id=event_id, **wrong)
    world.deliver(app)
    assert world.states() == {"delivered": 1000 - len(bad), "dead": len(bad)}
    assert world.meta.count("events") <= most
    for n in bad:
        event = world.event(ids[n])
        with reading(world.engine) as conn:
            words = conn.scalar(select(capi_attempt.c.words).where(capi_attempt.c.id == event.attempt_id))
        assert (event.failure, bool(words)) == ("invalid_event", True)


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        ("transient_2", "transient"),
        ("html_502", "transient"),
        ("html_200", "transient"),
        ("truncated", "transient"),
        ("rate_80004", "rate_limited"),
    ],
)
def test_passing_trouble_makes_the_pixel_wait_and_loses_nothing(world: World, fault: str, failure: str) -> None:
    app = world.an_app(world.meta.create_token())
    sent = world.an_event(app)
    world.meta.fault("events", fault, count=1)
    at = world.clock()
    world.clock = lambda: at  # the wait is short: on a busy machine it would be over
    world.deliver(app)
    world.deliver(app)
    event = world.event(sent)
    tries = int(failure == "transient")  # a limit says nothing about the event
    assert (event.state, event.failure, event.attempts) == ("due", failure, tries)
    assert world.meta.count("events") == 1, "no request while the pixel waits"
    with reading(world.engine) as conn:
        assert conn.scalar(select(capi_pixel.c.wait_until)) > world.clock()
    _time_passes(world)
    world.deliver(app)
    assert world.state_of(sent) == "delivered"


def test_a_request_cut_off_after_meta_took_it_is_sent_again_with_the_same_event_id(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    sent = world.an_event(app)
    world.meta.fault("events", "reset_after_accept", count=1)
    world.deliver(app)
    _time_passes(world)
    world.deliver(app)
    assert world.state_of(sent) == "delivered"
    assert [event["event_id"] for event in world.meta.events()] == [sent, sent]


def test_a_pixel_that_the_token_cannot_reach_waits_long_and_says_why(world: World) -> None:
    app = world.an_app(world.meta.create_token(pixels=["1"]))
    sent = world.an_event(app)
    world.deliver(app)
    event = world.event(sent)
    assert (event.state, event.failure) == ("parked", "permission")
    assert watch.release_replaced(world.engine, now=world.clock()) == 0, "not before the next try"
    world.an_event(app)
    world.deliver(app)
    assert world.meta.count("events") == 1
    assert watch.release_replaced(world.engine, now=world.clock() + DAY) == 2


def test_a_token_that_may_not_does_not_hold_up_another_on_its_pixel(world: World) -> None:
    barred = world.an_app(world.meta.create_token(pixels=["1"]), pixel="4711")
    healthy = world.an_app(world.meta.create_token(), pixel="4711")
    first, second = world.an_event(barred, age=DAY), world.an_event(healthy)
    world.deliver(healthy)
    world.deliver(healthy)
    assert (world.state_of(first), world.state_of(second)) == ("parked", "delivered")
    fresh = world.meta.create_token()
    with writing(world.engine) as conn:
        apps.write_token(conn, barred.id, fresh, expires_at=None)
    watch.release_replaced(world.engine, now=world.clock())
    world.deliver(barred)
    assert world.state_of(first) == "delivered"


def test_two_tokens_that_may_not_do_not_set_each_other_free(world: World) -> None:
    barred = [world.an_app(world.meta.create_token(pixels=["1"]), pixel="4711") for _ in range(2)]
    for app in barred:
        world.an_event(app)
    for _ in range(5):
        world.deliver(barred[0])
        watch.release_replaced(world.engine, now=world.clock())
    assert world.meta.count("events") == 2
    assert world.states() == {"parked": 2}


def test_a_barred_token_is_not_refreshed_for_it(world: World) -> None:
    app = world.an_app(world.meta.create_token(pixels=["1"]))
    for _ in range(3):
        world.an_event(app)
        assert world.deliver(app) == []
    assert (world.meta.count("events"), world.meta.count("exchange"), world.refreshes()) == (1, 0, [])


def test_an_event_too_large_for_any_request_is_skipped_and_blocks_nothing(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    large = world.an_event(app, custom_data={"content_name": "x" * 900_000})
    small = world.an_event(app)
    world.deliver(app)
    assert (world.event(large).state, world.event(large).failure) == ("skipped", "too_large")
    assert world.state_of(small) == "delivered"


def test_one_event_that_nobody_understands_does_not_sink_its_batch(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    sent = [world.an_event(app) for _ in range(8)]
    error = {"code": 99999, "message": "?", "status": 400}
    world.meta.fault("events", "error", error=error, count=2)
    for _ in range(4):
        world.deliver(app)
        _time_passes(world)
    assert world.states() == {"delivered": len(sent)}


def test_a_deadline_that_passes_in_flight_leaves_the_answer_its_word(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    late = world.an_event(app, age=7 * DAY - timedelta(seconds=2))
    now = world.clock()
    with writing(world.engine) as conn:
        lease = pixels.take(conn, app.pixel_id or "", by="busy", now=now)
        assert lease is not None
        assert outbox.expire(conn, now=now + timedelta(seconds=5)) == 0
        pixels.give_up(conn, lease)
        assert outbox.expire(conn, now=now + timedelta(seconds=5)) == 1
    assert world.state_of(late) == "dead"


def test_two_who_release_at_once_share_the_work(world: World) -> None:
    token = world.meta.create_token(expires_in=-1)
    app = world.an_app(token)
    for _ in range(200):
        world.an_event(app)
    world.meta.expire(token)
    world.deliver(app)
    with writing(world.engine) as conn:
        apps.write_token(conn, app.id, world.meta.create_token(), expires_at=None)
    with ThreadPoolExecutor(4) as pool:
        released = list(pool.map(lambda _: watch.release_replaced(world.engine, now=world.clock()), range(4)))
    assert sum(released) == 200
    assert world.states() == {"due": 200}


def test_an_answer_nobody_knows_is_tried_three_times(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    sent = world.an_event(app)
    world.meta.fault("events", "error", error={"code": 99999, "message": "?", "status": 400})
    for _ in range(3):
        world.deliver(app)
        _time_passes(world)
    assert world.state_of(sent) == "dead"
    assert world.meta.count("events") == 3


def test_a_lost_lease_acknowledges_nothing(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    world.an_event(app)
    now = world.clock()
    with writing(world.engine) as conn:
        mine = pixels.take(conn, app.pixel_id or "", by="slow", now=now)
        assert mine is not None
        assert pixels.take(conn, app.pixel_id or "", by="fast", now=now) is None
        assert pixels.take(conn, app.pixel_id or "", by="fast", now=now + 2 * pixels.LEASE) is not None
    with pytest.raises(Conflict), writing(world.engine) as conn:
        pixels.accepted(conn, mine, now=now)


def test_an_event_past_its_deadline_is_never_sent(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    late = world.an_event(app, age=7 * DAY)
    world.deliver(app)
    assert world.meta.count("events") == 0
    with writing(world.engine) as conn:
        assert outbox.expire(conn, now=world.clock()) == 1
    assert (world.event(late).state, world.event(late).failure) == ("dead", "past_deadline")


def test_apps_of_one_pixel_with_different_tokens_do_not_share_a_request(world: World) -> None:
    first = world.an_app(world.meta.create_token(), pixel="777")
    second = world.an_app(world.meta.create_token(), pixel="777")
    world.an_event(first)
    world.an_event(second)
    world.deliver(first)
    assert {event["token"] for event in world.meta.events()} == {first.fingerprint, second.fingerprint}
    assert world.meta.count("events") == 2


def test_send_with_refresh_mends_and_answers_for_each_event(world: World) -> None:
    token = world.meta.create_token()
    app = world.an_app(token, expires_in=-DAY)
    event = {
        "event_name": "PageView",
        "event_source_url": "https://shop.example/",
        "user_data": {"client_user_agent": "Mozilla/5.0", "em": ["b" * 64]},
    }
    bad = {"event_name": "Purchase", "user_data": {"client_user_agent": "Mozilla/5.0"}}
    done = send_with_refresh(world.service(), app.public_id, [event | {"event_id": "one"}, bad])
    assert (done[0].event_id, done[0].state, done[0].after_refresh) == ("one", "delivered", True)
    assert done[1].state == "skipped"
    assert done[1].failure
    again = send_with_refresh(world.service(), app.public_id, [event | {"event_id": "one"}])
    assert again[0].state == "delivered"
    assert len(world.meta.events()) == 1


def test_send_with_refresh_parks_what_no_refresh_can_mend(world: World) -> None:
    app = world.an_app(world.meta.create_token(expires_in=-60))
    event = {
        "event_name": "PageView",
        "event_source_url": "https://shop.example/",
        "user_data": {"client_user_agent": "Mozilla/5.0", "em": ["b" * 64]},
    }
    done = send_with_refresh(world.service(), app.id, [event])
    assert (done[0].state, done[0].failure) == ("parked", "token_expired")


MOVES = st.lists(st.sampled_from(sorted(outbox.MOVES)), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(verbs=MOVES)
def test_only_legal_moves_are_made(verbs: list[str], sqlite_world: World) -> None:
    app = sqlite_world.an_app()
    event = sqlite_world.event(sqlite_world.an_event(app))
    state = "due"
    for verb in verbs:
        origins, target = outbox.MOVES[verb]
        if state in origins:
            with writing(sqlite_world.engine) as conn:
                outbox.move(conn, verb, [event.id])
            state = target
        else:
            with pytest.raises(Conflict), writing(sqlite_world.engine) as conn:
                outbox.move(conn, verb, [event.id])
        assert sqlite_world.state_of(event.event_id) == state


def _time_passes(world: World) -> None:
    with writing(world.engine) as conn:
        conn.execute(capi_pixel.update().values(wait_until=None))
        conn.execute(capi_outbox.update().values(next_attempt_at=world.clock() - timedelta(seconds=1)))
