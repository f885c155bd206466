"""The doctor and the database: a healthy installation passes, and what breaks is named with what to do about it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text, update

from core.desk import diagnosis
from core.secret import Secret
from core.services import checkup, doctor, incidents
from core.settings import load
from core.store import cases, database, rekey, workers
from core.store import incidents as kept
from core.store.database import reading, writing
from core.store.schema import capi_audit, capi_outbox, capi_token
from tests.desk.patients import POLICY, SET, SUPPORT, Ask, a_worker, ask, healthy, states
from tests.world import World

__all__ = ["a_worker", "ask"]


def test_a_healthy_installation_passes(world: World, ask: Ask, a_worker: None) -> None:
    app, token = healthy(world)
    checks = ask(app)
    faults = states(checks)
    faults.pop("encryption", None)  # a PostgreSQL database stays readable to the platform, and so do tests' files
    assert faults == {"alert channels": "warning"}, "no address took a message yet"
    assert token.fingerprint in checks["token"].words
    assert "ads_management" in checks["permissions"].words
    assert not diagnosis.failed(list(checks.values()))


def test_the_database_away(world: World, ask: Ask) -> None:
    away = database.open_engine("postgresql://u:geheim@127.0.0.1:1/x")
    settings = load(SET)
    found = diagnosis.diagnose(away, settings, world.graph(), app="app_1", by=SUPPORT, now=world.clock())
    checks = {one.name: one for one in found}
    assert checks["database"].state == "failed"
    assert "geheim" not in str(found)
    assert checks["app"].state == "not checked"
    assert checks["Meta app"].state == "ok"


def test_an_old_schema(world: World, ask: Ask) -> None:
    with writing(world.engine) as conn:
        conn.execute(text("UPDATE capi_alembic_version SET version_num = '0001'"))
    schema = ask()["schema"]
    assert schema.state == "failed"
    assert "0001" in schema.words
    assert "capi-console migrate" in schema.do


def test_a_platform_table_that_is_gone(world: World, ask: Ask) -> None:
    with writing(world.engine) as conn:
        conn.execute(text('ALTER TABLE "AppSettings" RENAME COLUMN "metaTokenExpiresAt" TO "gone"'))
    platform = ask()["platform's tables"]
    assert platform.state == "failed"
    assert "metaTokenExpiresAt" in platform.words


def test_a_database_that_takes_no_writes(sqlite_world: World) -> None:
    from core.desk import diagnosis_store

    with sqlite_world.engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA query_only = ON")
    checks = {one.name: one for one in diagnosis_store.check_database(sqlite_world.engine, sqlite_world.clock())}
    assert checks["writing"].state == "failed"
    assert "full" in checks["writing"].do


def test_the_look_at_the_database_leaves_nothing_behind(world: World, ask: Ask) -> None:
    ask()
    with reading(world.engine) as conn:
        assert conn.scalar(text("SELECT count(*) FROM capi_schedule")) == 0


def test_no_worker_and_one_that_fell_silent(world: World, ask: Ask) -> None:
    assert "none ever ran" in ask()["workers"].words
    with writing(world.engine) as conn:
        at = world.clock() - timedelta(hours=1)
        workers.beat(conn, "worker@a:1:x", started_at=at, version="1", now=at)
    workers_ = ask()["workers"]
    assert workers_.state == "failed"
    assert "last was heard of" in workers_.words
    assert "capi-console worker" in workers_.do


@pytest.mark.parametrize(("minutes", "state"), [(1, "ok"), (5, "warning"), (60, "failed")])
def test_work_that_nobody_does(world: World, ask: Ask, a_worker: None, minutes: int, state: str) -> None:
    app, _ = healthy(world)
    world.an_event(app)
    late = world.clock() - timedelta(minutes=minutes)
    with writing(world.engine) as conn:
        conn.execute(update(capi_token).values(next_refresh_at=late))
        conn.execute(update(capi_outbox).values(next_attempt_at=late))
    checks = ask()
    assert (checks["due events"].state, checks["due refreshes"].state) == (state, state)


def test_an_open_incident_is_told_with_metas_words(world: World, ask: Ask, a_worker: None) -> None:
    with writing(world.engine) as conn:
        now = world.clock()
        kept.note(
            conn, incidents.APP_CONFIG, now=now, probe_at=now, code=190, words="Invalid signature", trace_id="Atrace"
        )
    incident = ask()["incident"]
    assert incident.state == "failed"
    assert "Invalid signature (190, trace Atrace)" in incident.words


def test_an_alert_address_that_takes_nothing(world: World, ask: Ask, a_worker: None) -> None:
    with writing(world.engine) as conn:
        conn.execute(
            text("INSERT INTO capi_channel (channel, title, told_up_to, failures, error) VALUES ('c', 't', 0, 1, 'no')")
        )
    check = ask()["alert channel"]
    assert check.state == "failed"
    assert "alerts test" in check.do


def test_a_dead_token(world: World, ask: Ask, a_worker: None) -> None:
    app, token = healthy(world)
    world.meta.kill(token, 460)
    checkup.check(world.engine, world.graph(), POLICY, token.fingerprint, now=world.clock())
    with writing(world.engine) as conn:
        cases.open_(conn, token.fingerprint, user_id=app.user_id, failure="token_dead", words="x", now=world.clock())
    checks = ask(app)
    assert (checks["token"].state, checks["token at Meta"].state) == ("failed", "failed")
    assert "changed the password" in checks["token"].words
    assert "reconnect" in checks["token at Meta"].do
    assert checks["case"].state == "warning"
    assert checks["pixel"].state == "not checked"


def test_a_test_event_goes_out_with_its_code_and_is_audited(world: World, ask: Ask, a_worker: None) -> None:
    app, _ = healthy(world)
    check = ask(app, test_event_code="TEST123")["test event"]
    assert check.state == "ok"
    assert "counts" in check.words
    (event,) = world.meta.events(app.pixel_id)
    assert event["event_name"] == doctor.TEST_EVENT
    with reading(world.engine) as conn:
        (line,) = conn.execute(capi_audit.select())
    assert (line.by, line.action, line.reason) == ("sam", "diagnose", "TEST123")
    assert world.states() == {}, "it is no event of a shop"


def test_keys_that_are_missing(world: World, ask: Ask, a_worker: None) -> None:
    key = Secret("k" * 43)
    rekey.use(world.engine, [key])
    app, _ = healthy(world)
    assert world.app(app).token is not None
    rekey.take_up(world.engine, ())
    check = ask()["encryption"]
    assert check.state == "failed"
    assert "keys are missing" in check.words
