"""The doctor and Meta: each thing that breaks between us is named, with what to do about it and without a secret."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from core.desk import diagnosis
from core.errors import Forbidden, Refused
from core.meta.graph import Graph
from core.secret import Secret
from core.services import doctor
from core.settings import load
from core.store.database import writing
from tests.desk.patients import SET, SUPPORT, VIEWER, Ask, a_worker, ask, healthy, states
from tests.world import APP_ID, APP_SECRET, World

__all__ = ["a_worker", "ask"]


@pytest.fixture
def engine(sqlite_engine: Engine) -> Engine:
    """What Meta says does not depend on the database."""
    return sqlite_engine


def test_without_an_app_only_what_is_common_is_checked(ask: Ask, a_worker: None) -> None:
    assert "token" not in ask()


@pytest.mark.parametrize("missing", ["FACEBOOK_APP_ID", "FACEBOOK_APP_SECRET"])
def test_missing_secrets_fail_and_the_rest_is_checked_all_the_same(world: World, a_worker: None, missing: str) -> None:
    settings = load({name: value for name, value in SET.items() if name != missing})
    from core.doors import wiring

    graph = wiring.make_graph(settings)
    app, _ = healthy(world)
    found = diagnosis.diagnose(world.engine, settings, graph, app=app.public_id, by=SUPPORT, now=world.clock())
    checks = {one.name: one for one in found}
    assert (checks["settings"].state, checks["Meta app"].state) == ("failed", "failed")
    assert missing in checks["settings"].words
    assert (checks["clock"].state, checks["token at Meta"].state) == ("not checked", "not checked")
    assert checks["writing"].state == "ok"


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("SHOPIFY_API_SECRET", "Shopify's secret"),
        ("CAPI_PUBLIC_URL", "public address"),
        ("CAPI_ALERT_URLS", "alert addresses"),
        ("CAPI_HEARTBEAT_URL", "heartbeat"),
    ],
)
def test_what_one_can_live_without_is_a_warning(setting: str, name: str) -> None:
    settings = load({key: value for key, value in SET.items() if key != setting})
    checks = {one.name: one for one in diagnosis.check_settings(settings)}
    assert states(checks) == {name: "warning"}
    assert setting in checks[name].do


def test_a_wrong_app_secret(world: World, ask: Ask, a_worker: None) -> None:
    checks = ask(secret="another-secret-value")
    assert checks["Meta app"].state == "failed"
    assert "FACEBOOK_APP_SECRET" in checks["Meta app"].do
    assert "signature" in checks["Meta app"].words
    assert checks["clock"].state == "ok", "a refusal has a date, too"


def test_a_wrong_app_id(world: World, ask: Ask, a_worker: None) -> None:
    graph = Graph(base_url=world.meta.url, version="v24.0", app_id="42", app_secret=Secret(APP_SECRET))
    (first, _) = doctor.meta_app(graph, now=world.clock())
    assert first.state == "failed"
    assert "FACEBOOK_APP_ID" in first.do


def test_meta_away(world: World, ask: Ask, a_worker: None) -> None:
    app, _ = healthy(world)
    world.meta.fault("any", "transient_2")
    checks = ask(app)
    assert checks["Meta app"].state == "failed"
    assert "metastatus.com" in checks["Meta app"].do
    assert (checks["token at Meta"].state, checks["pixel"].state) == ("not checked", "not checked")
    assert checks["token"].state == "ok", "what is stored is told all the same"


def test_meta_cannot_be_reached(world: World) -> None:
    graph = Graph(base_url="http://127.0.0.1:9", version="v24.0", app_id=APP_ID, app_secret=Secret(APP_SECRET))
    first, clock = doctor.meta_app(graph, now=world.clock())
    assert (first.state, clock.state) == ("failed", "not checked")
    assert "could not be reached" in first.words


@pytest.mark.parametrize(("seconds", "state"), [(20, "ok"), (120, "warning"), (-120, "warning"), (400, "failed")])
def test_a_clock_that_is_off(world: World, ask: Ask, a_worker: None, seconds: int, state: str) -> None:
    world.meta.advance(seconds)
    clock = ask()["clock"]
    assert clock.state == state
    if state != "ok":
        assert ("behind" if seconds > 0 else "ahead of") in clock.words
        assert "NTP" in clock.do


@pytest.mark.parametrize(
    ("version", "day", "state"),
    [
        ("v24.0", datetime(2026, 11, 23, tzinfo=UTC), "ok"),
        ("v24.0", datetime(2027, 12, 1, tzinfo=UTC), "warning"),
        ("v24.0", datetime(2028, 2, 18, tzinfo=UTC), "failed"),
        ("v20.0", datetime(2026, 11, 23, tzinfo=UTC), "failed"),
        ("v26.0", datetime(2026, 11, 23, tzinfo=UTC), "ok"),
        ("v99.0", datetime(2026, 11, 23, tzinfo=UTC), "warning"),
    ],
)
def test_the_graph_versions_end(version: str, day: datetime, state: str) -> None:
    check = doctor.graph_version(version, now=day)
    assert check.state == state
    assert version in check.words
    assert bool(check.do) == (state != "ok")


def test_an_app_that_does_not_exist(world: World, ask: Ask, a_worker: None) -> None:
    settings = load(SET | {"CAPI_GRAPH_URL": world.meta.url})
    found = diagnosis.diagnose(world.engine, settings, world.graph(), app="app_none", by=SUPPORT, now=world.clock())
    assert [one.state for one in found if one.name == "app"] == ["failed"]


def test_an_app_without_a_token(world: World, ask: Ask, a_worker: None) -> None:
    checks = ask(world.an_app())
    assert checks["token"].state == "failed"
    assert "token set" in checks["token"].do


def test_a_missing_permission(world: World, ask: Ask, a_worker: None) -> None:
    app, _ = healthy(world, scopes=["ads_read"])
    checks = ask(app)
    assert checks["permissions"].state == "failed"
    assert "ads_management" in checks["permissions"].words
    assert checks["finding"].state == "failed"


def test_a_token_of_another_meta_app(world: World, ask: Ask, a_worker: None) -> None:
    app, _ = healthy(world, app_id="999", never=True)
    checks = ask(app)
    assert (checks["token at Meta"].state, checks["pixel"].state) == ("warning", "ok")


def test_a_pixel_out_of_reach(world: World, ask: Ask, a_worker: None) -> None:
    app, _ = healthy(world, pixels=["1"])
    pixel = ask(app)["pixel"]
    assert pixel.state == "failed"
    assert "trace" in pixel.words
    assert "Business settings" in pixel.do


def test_an_app_without_a_pixel(world: World, ask: Ask, a_worker: None) -> None:
    app, _ = healthy(world)
    with writing(world.engine) as conn:
        conn.execute(text('UPDATE "AppSettings" SET "metaPixelId" = NULL'))
    assert ask(app)["pixel"].words == "the app has no pixel"


@pytest.mark.parametrize("code", ["", " ", "TEST 1", "a/b"])
def test_a_test_event_without_a_code_is_refused(world: World, ask: Ask, code: str) -> None:
    app, _ = healthy(world)
    with pytest.raises(Refused, match="Events Manager"):
        ask(app, test_event_code=code)
    with pytest.raises(Refused, match="one app"):
        ask(test_event_code="TEST123")
    assert world.meta.events() == []


def test_a_test_event_that_meta_refuses(world: World, ask: Ask, a_worker: None) -> None:
    app, _ = healthy(world)
    world.meta.fault("events", "rate_613", count=1)
    check = ask(app, test_event_code="TEST123")["test event"]
    assert check.state == "failed"
    assert "613" in check.words


def test_a_viewer_may_not(ask: Ask) -> None:
    with pytest.raises(Forbidden):
        ask(by=VIEWER)
