"""The main road with real processes, on SQLite and PostgreSQL."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text

from core.secret import Secret
from core.store.database import writing
from tests.processes import environment, eventually, running
from tests.world import DAY, World


@pytest.fixture
def env(world: World, database_url: str) -> dict[str, str]:
    return environment(database_url, world.meta.url)


def test_expired_in_the_database_but_valid_at_meta(world: World, env: dict[str, str], tmp_path: Path) -> None:
    token = world.meta.create_token()
    app = world.an_app(token, email="owner@example.com")
    sibling = world.an_app(token, email="owner@example.com")
    with running("worker", env=env, log=tmp_path / "worker.log") as worker:
        eventually(lambda: "worker started" in worker.log.read_text(), saying=worker.log.read_text)
        with writing(world.engine) as conn:  # the platform's own recipe, in both dialects
            past = "NOW() - INTERVAL '1 day'" if conn.dialect.name == "postgresql" else "datetime('now', '-1 day')"
            conn.execute(
                text(f'UPDATE "AppSettings" SET "metaTokenExpiresAt" = {past} WHERE "appId" = :app'), {"app": app.id}
            )
        sent = world.an_event(app)
        eventually(lambda: world.state_of(sent) == "delivered", saying=worker.log.read_text)
        assert worker.stop() == 0
    assert world.event(sent).after_refresh
    assert world.app(app).token == world.app(sibling).token != token
    assert world.meta.count("exchange") == 1
    told = [re.sub(r"  (pixel|events)=.*", "", line[line.index("[T") :]) for line in worker.lines if "[T" in line]
    assert told == [
        "[Track] Detected token error, attempting to refresh token...",
        f"[Token Refresh] Token for app {app.public_id} expired or expiring soon, refreshing...",
        f"[Token Refresh] ✅ Token refreshed successfully for app {app.public_id}",
        "[Track] ✅ Token refreshed, retrying event send...",
        "[Track] ✅ SUCCESS (after token refresh): Event sent to Facebook CAPI",
    ]


def test_truly_expired_then_a_new_token_by_sql(world: World, env: dict[str, str], tmp_path: Path) -> None:
    token = world.meta.create_token()
    app = world.an_app(token)
    world.meta.expire(token)
    sent = world.an_event(app)
    with running("worker", env=env, log=tmp_path / "worker.log") as worker:
        eventually(lambda: _needs_reconnect(world, token), saying=worker.log.read_text)
        event = world.event(sent)
        assert (event.state, event.attempts) == ("parked", 0)
        # Said a moment after it is written.
        eventually(lambda: "[Token Refresh] ❌ Failed to refresh token for app" in worker.log.read_text())

        fresh = world.meta.create_token()
        started = time.monotonic()
        with writing(world.engine) as conn:
            conn.execute(
                text('UPDATE "AppSettings" SET "metaAccessToken" = :token WHERE "appId" = :app'),
                {"token": fresh.reveal(), "app": app.id},
            )
        eventually(lambda: world.state_of(sent) == "delivered", within=10, saying=worker.log.read_text)
        assert time.monotonic() - started < 10
        assert world.meta.count("exchange") == 1


def test_two_hundred_events_on_one_expired_token_and_two_workers(
    world: World, env: dict[str, str], tmp_path: Path
) -> None:
    """The users' apps have pixels of their own, so that both workers find out at once."""
    token = world.meta.create_token()
    shops = [world.an_app(token, expires_in=-DAY, email="owner@example.com") for _ in range(20)]
    world.meta.fault("exchange", "latency", seconds=0.5)
    with (
        running("worker", env=env, log=tmp_path / "one.log") as one,
        running("worker", env=env, log=tmp_path / "two.log") as two,
    ):
        for log in (one.log, two.log):
            eventually(lambda log=log: "worker started" in log.read_text(), saying=log.read_text)
        sent = [world.an_event(shop) for shop in shops for _ in range(10)]
        eventually(lambda: world.states() == {"delivered": 200}, saying=lambda: str(world.states()))
    assert world.meta.count("exchange") == 1, ([tuple(r)[2:] for r in world.refreshes()], world.meta.calls("exchange"))
    assert Counter(event["event_id"] for event in world.meta.events()) == Counter(sent)
    assert {world.app(shop).token for shop in shops} == {world.app(shops[0]).token}


def test_a_worker_that_is_killed_leaves_everything_to_the_next(
    world: World, env: dict[str, str], tmp_path: Path
) -> None:
    token = world.meta.create_token()
    shops = [world.an_app(token) for _ in range(4)]
    sent = [world.an_event(shop) for shop in shops for _ in range(100)]
    world.meta.fault("events", "latency", seconds=0.5)
    with running("worker", env=env, log=tmp_path / "one.log") as one:
        eventually(lambda: world.meta.count("events") > 0, saying=one.log.read_text)
        one.kill()
    world.meta.clear_faults()
    with writing(world.engine) as conn:  # a minute later
        conn.execute(text("UPDATE capi_pixel SET lease_until = NULL"))
    with running("worker", env=env, log=tmp_path / "two.log") as two:
        eventually(lambda: world.states() == {"delivered": 400}, within=40, saying=lambda: two.log.read_text())
    accepted = Counter(event["event_id"] for event in world.meta.events())
    assert set(accepted) == set(sent)


def test_a_worker_told_to_stop_finishes_what_is_in_flight(world: World, env: dict[str, str], tmp_path: Path) -> None:
    app = world.an_app(world.meta.create_token())
    sent = world.an_event(app)
    world.meta.fault("events", "latency", seconds=1.5)
    with running("worker", env=env, log=tmp_path / "worker.log") as worker:
        eventually(lambda: any(call for call in world.meta.calls("events")) or _in_flight(world))
        assert worker.stop() == 0
    assert world.state_of(sent) == "delivered"
    with writing(world.engine) as conn:
        assert conn.execute(text("SELECT lease_by FROM capi_pixel")).scalars().all() == [None]
        assert conn.execute(text("SELECT count(*) FROM capi_heartbeat WHERE stopped_at IS NOT NULL")).scalar() == 1


def _needs_reconnect(world: World, token: Secret) -> bool:
    known = world.token(token.fingerprint)
    return known is not None and known.needs_reconnect


def _in_flight(world: World) -> bool:
    with writing(world.engine) as conn:
        return conn.execute(text("SELECT count(*) FROM capi_pixel WHERE lease_by IS NOT NULL")).scalar() == 1
