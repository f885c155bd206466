"""A stored token that cannot be opened: nothing is sent with it, its events wait, and its owner is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlalchemy import Engine, select, text

from core.desk import keys, queries
from core.desk.operators import Operator
from core.meta.answers import TokenFacts
from core.sandbox.client import Sandbox
from core.secret import Secret
from core.services import checkup, schedule, watch
from core.services.ladder import Outcome
from core.services.policy import Policy
from core.store import apps, database, keyring, migrate, rekey, tokens
from core.store.apps import App
from core.store.database import reading, writing
from core.store.health import Health
from core.store.schema import capi_case
from tests.lock_order import LockOrder
from tests.world import APP_ID, DAY, World

KEY, NEWER = Secret(keyring.new_key()), Secret(keyring.new_key())
POLICY = Policy(app_id=APP_ID)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """As the shared one, with encryption on PostgreSQL too."""
    engine = database.open_engine(database_url)
    migrate.prepare(engine, (KEY,))
    order = LockOrder()
    order.watch(engine)
    yield engine
    engine.dispose()
    assert order.broken == [], "a deadlock is possible"


@dataclass
class Copied:
    """Two apps of two people; the second one's row holds the first one's ciphertext."""

    source: App
    app: App
    token: Secret


@pytest.fixture
def copied(world: World) -> Copied:
    token = world.meta.create_token()
    source, app = world.an_app(token), world.an_app(world.meta.create_token())
    with writing(world.engine) as conn:
        conn.execute(
            text("""UPDATE "AppSettings" SET "metaAccessToken" =
                    (SELECT "metaAccessToken" FROM "AppSettings" WHERE "appId" = :source) WHERE "appId" = :app"""),
            {"source": source.id, "app": app.id},
        )
    return Copied(source, world.app(app), token)


def cases(world: World) -> list[tuple[str, str]]:
    with reading(world.engine) as conn:
        return [tuple(row) for row in conn.execute(select(capi_case.c.fingerprint, capi_case.c.state))]  # type: ignore[misc]


def health(world: World, app: App) -> tuple[Health, str | None]:
    with reading(world.engine) as conn:
        rows = queries.token_health(conn, now=world.clock(), soon=7 * DAY, window=30 * DAY)
    return next((row.health, row.broken_failure) for row in rows if row.app_id == app.id)


def test_its_events_are_parked_and_meta_hears_nothing(world: World, copied: Copied) -> None:
    sent, other = world.an_event(copied.app), world.an_event(copied.source)
    world.deliver(copied.app)
    world.deliver(copied.source)
    assert (world.state_of(sent), world.event(sent).failure) == ("parked", "token_dead")
    assert world.state_of(other) == "delivered"
    assert watch.release_replaced(world.engine, now=world.clock()) == 0, "it would be parked again and again"


def test_it_shows_as_needs_reconnect_with_one_case(world: World, copied: Copied) -> None:
    for _ in range(2):
        watch.notice_tokens(world.engine, POLICY, now=world.clock())
    assert health(world, copied.app) == (Health.NEEDS_RECONNECT, "token_dead")
    assert health(world, copied.source)[0] is Health.VALID
    assert cases(world) == [(copied.app.fingerprint, "made")]
    assert "cannot be opened" in world.token(copied.app.fingerprint or "").broken_words


def test_whose_token_it_was_is_not_forgotten(world: World, copied: Copied) -> None:
    """Meta cannot be asked about it any more, and the owner's next login is held against this."""
    before, now = str(copied.app.seen), world.clock()
    facts = world.graph().debug_token(world.meta.create_token(user="7001"))
    with writing(world.engine) as conn:
        tokens.see(conn, before, user_id=copied.app.user_id, now=now, next_refresh_at=None)
        tokens.learn(conn, before, facts, now=now)
    watch.notice_tokens(world.engine, POLICY, now=world.clock())
    assert world.token(copied.app.fingerprint or "").meta_user_id == "7001"


def test_a_text_of_a_key_that_we_never_had_is_damage_as_any_other(world: World) -> None:
    app = world.an_app(world.meta.create_token())
    with writing(world.engine) as conn:
        foreign = {"text": f"capi1.deadbeef.{'A' * 40}", "app": app.id}
        conn.execute(text('UPDATE "AppSettings" SET "metaAccessToken" = :text WHERE "appId" = :app'), foreign)
    app = world.app(app)
    sent = world.an_event(app)
    world.deliver(app)
    watch.notice_tokens(world.engine, POLICY, now=world.clock())
    assert (world.state_of(sent), world.event(sent).failure) == ("parked", "token_dead")
    assert cases(world) == [(app.fingerprint, "made")]
    assert health(world, app)[0] is Health.NEEDS_RECONNECT


@pytest.mark.parametrize("trigger", ["manual", "scheduled", "on_error"])
def test_a_refresh_and_a_check_ask_nobody(world: World, copied: Copied, trigger: str) -> None:
    watch.notice_tokens(world.engine, POLICY, now=world.clock())
    name = copied.app.fingerprint or ""
    assert world.service().refresh(name, trigger=trigger, by="test").outcome is Outcome.NEEDS_RECONNECT
    assert world.service().check_and_refresh_token(copied.app.id).outcome is Outcome.NEEDS_RECONNECT
    checkup.check(world.engine, world.graph(), POLICY, name, now=world.clock())
    assert [world.meta.count(call) for call in ("exchange", "debug_token")] == [0, 0]
    assert cases(world) == [(name, "made")]
    assert health(world, copied.app)[0] is Health.NEEDS_RECONNECT


def test_a_new_token_of_its_owner_replaces_it_and_sets_its_events_free(world: World, copied: Copied) -> None:
    sent = world.an_event(copied.app)
    world.deliver(copied.app)
    watch.notice_tokens(world.engine, POLICY, now=world.clock())
    fresh = world.meta.create_token()
    facts: TokenFacts = world.graph().debug_token(fresh)
    done = world.service().take_over(
        copied.app.fingerprint or "", fresh, facts, trigger="reconnect", by="merchant", user_id=copied.app.user_id
    )
    assert (done.outcome, done.apps_updated, done.events_released) == (Outcome.RECONNECTED, 1, 1)
    world.deliver(copied.app)
    assert world.state_of(sent) == "delivered"
    assert world.app(copied.app).token == fresh
    assert cases(world) == [(copied.app.fingerprint, "done")]


def test_what_the_platform_writes_over_it_sets_its_events_free(world: World, copied: Copied) -> None:
    sent = world.an_event(copied.app)
    world.deliver(copied.app)
    watch.notice_tokens(world.engine, POLICY, now=world.clock())
    with writing(world.engine) as conn:
        conn.execute(
            text('UPDATE "AppSettings" SET "metaAccessToken" = :token WHERE "appId" = :app'),
            {"token": world.meta.create_token().reveal(), "app": copied.app.id},
        )
    watch.notice_tokens(world.engine, POLICY, now=world.clock())
    assert watch.release_replaced(world.engine, now=world.clock()) == 1
    world.deliver(copied.app)
    assert world.state_of(sent) == "delivered"
    assert cases(world) == [(copied.app.fingerprint, "done")]


def test_without_its_key_a_process_leaves_a_token_alone(world: World, database_url: str, meta: Sandbox) -> None:
    """Keys are rotated, and this process was not started again yet."""
    ahead = database.open_engine(database_url)
    migrate.prepare(ahead, (NEWER, KEY))
    token = world.meta.create_token()
    app = World(ahead, meta).an_app(token)
    World(ahead, meta).an_event(app, event_id="before")
    World(ahead, meta).deliver(app)
    known = world.token(token.fingerprint)
    sent = world.an_event(app)
    world.deliver(app)
    assert (world.state_of(sent), world.event(sent).failure) == ("parked", "locked_token")
    watch.notice_tokens(world.engine, POLICY, now=world.clock())
    assert cases(world) == []
    assert world.token(token.fingerprint) == known is not None

    assert watch.release_replaced(ahead, now=world.clock()) == 0, "not at once: it would be parked again"
    assert watch.release_replaced(ahead, now=world.clock() + timedelta(minutes=2)) == 1
    helped = World(ahead, meta, clock=lambda: world.clock() + timedelta(minutes=2))
    helped.deliver(app)
    assert world.state_of(sent) == "delivered"
    ahead.dispose()


def test_locked_tokens_do_not_hold_up_the_schedule(world: World, database_url: str, meta: Sandbox) -> None:
    ahead = database.open_engine(database_url)
    migrate.prepare(ahead, (NEWER, KEY))
    locked = [World(ahead, meta).an_app(meta.create_token(), expires_in=20 * DAY) for _ in range(6)]
    ahead.dispose()
    app = world.an_app(meta.create_token(), expires_in=20 * DAY)
    start = world.clock()
    with writing(world.engine) as conn:
        for turn, one in enumerate((*locked, app)):
            due = start - timedelta(minutes=9 - turn)
            tokens.see(conn, one.fingerprint or "", user_id=one.user_id, now=start, next_refresh_at=due)
    service = world.service()
    begun = [
        service.refresh(found, trigger="scheduled", by="worker").usable
        for _ in range(2)
        for found in schedule.due_refreshes(world.engine, POLICY, now=start)
    ]
    assert begun == [False] * 6 + [True], "each once in ten minutes"


def test_a_key_given_up_makes_one_case_for_all_apps_of_its_token(world: World, database_url: str) -> None:
    token = world.meta.create_token()
    shops = [world.an_app(token, email="one@example.com") for _ in range(3)]
    lost = next(iter(keyring.of(world.engine))).id
    engine = database.open_engine(database_url)
    rekey.take_up(engine, (NEWER,))
    assert keys.abandon(engine, [lost], by=Operator("Ada", "admin"), now=world.clock()) == 3
    migrate.prepare(engine, (NEWER,))
    watch.notice_tokens(engine, POLICY, now=world.clock())
    assert cases(world) == [(token.fingerprint, "made")]
    with reading(engine) as conn:
        assert {one.id for one in apps.holders(conn, token.fingerprint)} == {shop.id for shop in shops}
    engine.dispose()


def test_a_refresh_stores_the_new_token_encrypted(world: World) -> None:
    token = world.meta.create_token(expires_in=5 * 24 * 3600)
    app = world.an_app(None, expires_in=5 * DAY)
    with writing(world.engine) as conn:
        conn.execute(
            text('UPDATE "AppSettings" SET "metaAccessToken" = :token WHERE "appId" = :app'),
            {"token": token.reveal(), "app": app.id},
        )
    watch.notice_tokens(world.engine, POLICY, now=world.clock())
    assert world.service().refresh(token.fingerprint, trigger="manual", by="test").outcome is Outcome.EXTENDED
    with reading(world.engine) as conn:
        stored = conn.execute(text('SELECT "metaAccessToken" FROM "AppSettings"')).scalar_one()
    assert stored.startswith("capi1.")
    assert world.app(app).fingerprint not in (None, token.fingerprint)
