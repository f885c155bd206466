"""A doctor to ask, and an installation that is well: for the tests of the diagnosis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core import __version__
from core.desk import diagnosis
from core.desk.diagnosis import Check
from core.desk.operators import Operator
from core.secret import Secret
from core.services import checkup
from core.services.policy import Policy
from core.settings import load
from core.store import tokens, workers
from core.store.database import writing
from tests.world import APP_ID, APP_SECRET, World

SUPPORT, VIEWER = Operator("sam", "support"), Operator("vera", "viewer")
POLICY = Policy(app_id=APP_ID)
SET = {
    "FACEBOOK_APP_ID": APP_ID,
    "FACEBOOK_APP_SECRET": APP_SECRET,
    "SHOPIFY_API_SECRET": "shopify-secret-value",
    "CAPI_PUBLIC_URL": "https://events.example.com",
    "CAPI_ALERT_URLS": "json://alerts.example.com/hook",
    "CAPI_HEARTBEAT_URL": "https://beat.example.com/x",
}
Ask = Callable[..., dict[str, Check]]


@pytest.fixture
def ask(world: World) -> Ask:
    """The checks by name; `secret=` for another app secret, `given=` for other settings."""

    def ask(app: Any = None, secret: str = APP_SECRET, given: dict[str, str] | None = None, **more: Any) -> Any:
        settings = load(SET | {"CAPI_GRAPH_URL": world.meta.url} | (given or {}))
        order: dict[str, Any] = {"by": SUPPORT, "now": world.clock(), "app": app.public_id if app else None} | more
        checks = diagnosis.diagnose(world.engine, settings, world.graph(secret), **order)
        shown = " ".join(f"{one.words} {one.do}" for one in checks)
        for hidden in (APP_SECRET, "another-secret-value", "shopify-secret-value", "EAA"):
            assert hidden not in shown
        assert all(one.do for one in checks if one.state == "failed"), "a fault without a next step"
        return {one.name: one for one in checks}

    return ask


@pytest.fixture
def a_worker(world: World) -> None:
    with writing(world.engine) as conn:
        workers.beat(conn, "worker@a:1:x", started_at=world.clock(), version=__version__, now=world.clock())


def healthy(world: World, **made: Any) -> tuple[Any, Secret]:
    token = world.meta.create_token(**made)
    app = world.an_app(token)
    with writing(world.engine) as conn:
        tokens.see(conn, token.fingerprint, user_id=app.user_id, now=world.clock(), next_refresh_at=None)
    checkup.check(world.engine, world.graph(), POLICY, token.fingerprint, now=world.clock())
    return app, token


def states(checks: dict[str, Check]) -> dict[str, str]:
    return {name: one.state for name, one in checks.items() if one.state != "ok"}
