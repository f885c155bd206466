"""The doctor and a token in full at the shell: words, JSON, exit codes, and no secret in either."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.doors.cli import app
from core.services import checkup
from core.services.policy import Policy
from core.store import tokens
from core.store.database import writing
from tests.world import APP_ID, APP_SECRET, World

Run = Callable[..., Result]


@pytest.fixture
def run(world: World, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    given = {"DATABASE_URL": database_url, "FACEBOOK_APP_ID": APP_ID, "FACEBOOK_APP_SECRET": APP_SECRET}
    for name, value in (given | {"CAPI_GRAPH_URL": world.meta.url}).items():
        monkeypatch.setenv(name, value)

    def run(*args: str, typed: str | None = None) -> Result:
        done = CliRunner().invoke(app, args, input=typed)
        assert APP_SECRET not in done.output
        assert "EAA" not in done.output
        assert "Traceback" not in done.output
        return done

    return run


def test_the_doctor_shows_no_password_of_a_database(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/shop?user=capi&password=hush-hush")
    done = run("doctor", "--json")
    assert _checks(done)["database"]["words"].startswith("postgresql+psycopg://127.0.0.1:1/shop cannot be used")
    assert "hush-hush" not in done.output


def _checks(done: Result) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(done.stdout)}


def _known(world: World, **made: Any) -> Any:
    token = world.meta.create_token(**made)
    found = world.an_app(token, email="owner@example.com")
    with writing(world.engine) as conn:
        tokens.see(conn, token.fingerprint, user_id=found.user_id, now=world.clock(), next_refresh_at=None)
    checkup.check(world.engine, world.graph(), Policy(app_id=APP_ID), token.fingerprint, now=world.clock())
    return found


def test_a_fault_is_shown_with_what_to_do_and_ends_with_1(run: Run, world: World) -> None:
    found = _known(world, scopes=["ads_read"])
    done = run("doctor", "--app", found.public_id)
    assert done.exit_code == 1
    assert "FAILED      permissions: missing: ads_management" in done.stdout
    assert "→ Send the reconnect link" in done.stdout
    checks = _checks(run("doctor", "--app", found.public_id, "--json"))
    assert (checks["permissions"]["state"], checks["Meta app"]["state"]) == ("failed", "ok")


def test_without_a_fault_it_ends_with_0(run: Run, world: World) -> None:
    from core.store import workers

    with writing(world.engine) as conn:
        workers.beat(conn, "worker@a:1:x", started_at=world.clock(), version="1", now=world.clock())
    done = run("doctor", "--app", _known(world).public_id)
    assert done.exit_code == 0, done.stdout


def test_settings_that_cannot_be_read_are_a_check_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPI_REFRESH_WINDOW_DAYS", "many")
    done = run("doctor", "--json")
    assert done.exit_code == 1
    assert "CAPI_REFRESH_WINDOW_DAYS" in _checks(done)["settings"]["words"]


@pytest.mark.parametrize("url", ["mysql://x", "postgresql://u:geheim@127.0.0.1:1/x", "sqlite:////proc/none/capi.db"])
def test_a_database_that_is_away_is_said(run: Run, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    done = run("doctor", "--app", "app_1", "--json")
    assert done.exit_code == 1
    assert "geheim" not in done.output
    failed = [row for row in json.loads(done.stdout) if row["state"] == "failed"]
    assert any("database" in row["name"] for row in failed)
    assert all(row["do"] for row in failed)


def test_it_makes_no_database(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/none/new.db")
    done = run("doctor", "--json")
    assert done.exit_code == 1
    assert not (tmp_path / "none").exists()


def test_a_test_event_needs_an_app_and_a_code(run: Run, world: World) -> None:
    found = _known(world)
    assert run("doctor", "--test-event", "TEST1").exit_code == 1
    assert run("doctor", "--app", found.public_id, "--test-event", "no code").exit_code == 1
    assert world.meta.events() == []
    checks = _checks(run("doctor", "--app", found.public_id, "--test-event", "TEST1", "--json"))
    assert checks["test event"]["state"] == "ok"
    assert len(world.meta.events()) == 1


def test_a_token_in_full(run: Run, world: World) -> None:
    found = _known(world, scopes=["ads_read"], pixels=["1"])
    shown = run("token", "show", "--app", found.public_id)
    assert shown.exit_code == 0, shown.output
    for words in ("owner@example.com", "USER", "missing: ads_management", "trace", "NOT REACHED", "→ Send"):
        assert words in shown.stdout
    told = json.loads(run("token", "show", "--app", found.public_id, "--json").stdout)
    assert told["fingerprint"] == found.fingerprint
    assert {one["whose"] for one in told["findings"]} == {"Merchant"}


def test_a_broken_token_is_shown_with_metas_words(run: Run, world: World) -> None:
    found = _known(world)
    world.meta.kill(found.fingerprint, 460)
    world.service().broke(found, "token_dead", "the password was changed")  # type: ignore[arg-type]
    world.service().refresh(found.fingerprint, trigger="on_error", by="test")
    shown = run("token", "show", "--app", found.public_id).stdout
    assert "Broken since" in shown
    assert "changed the password" in shown
    assert "needs_reconnect" in shown
    assert "Reconnect case" in shown


def test_a_given_token_is_told_of(run: Run, world: World) -> None:
    found = _known(world)
    sibling = world.an_app(world.app(found).token, email="owner@example.com")
    new = world.meta.create_token()
    done = run("token", "set", "--app", found.public_id, "--reason", "by mail", typed=new.reveal())
    assert done.exit_code == 0, done.output
    assert "1 other app(s)" in done.stdout
    assert world.app(sibling).token == new
    other = world.meta.create_token(user="2002")
    refused = run("token", "set", "--app", found.public_id, typed=other.reveal())
    assert refused.exit_code == 1
    assert "--accept-other-user" in refused.stderr
    taken = run("token", "set", "--app", found.public_id, "--accept-other-user", "--json", typed=other.reveal())
    assert json.loads(taken.stdout)["apps updated"] == 2


def test_an_app_without_a_token_has_none_to_show(run: Run, world: World) -> None:
    done = run("token", "show", "--app", world.an_app().public_id)
    assert done.exit_code == 1
    assert "token set" in done.stderr


def test_an_event_in_full(run: Run, world: World) -> None:
    found = _known(world)
    world.meta.fault("events", "error", error={"code": 100, "subcode": 2804050, "message": "Too little"})
    sent = world.event(world.an_event(found)).id
    world.deliver(found)
    shown = run("event", str(sent)).stdout
    assert "invalid_event" in shown
    assert "Too little (100/2804050, trace " in shown
    assert "whose move    Shop" in shown
    told = json.loads(run("event", str(sent), "--json").stdout)
    assert (told["id"], told["explanation"]["whose"]) == (str(sent), "Shop")
    assert "a@" not in str(told)
    assert run("event", "1").exit_code == 1
