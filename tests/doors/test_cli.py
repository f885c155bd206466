"""The commands, through Typer's own runner, on a real database and against the sandbox."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core import clock
from core.doors.cli import app
from core.store import apps
from core.store.database import reading, writing
from tests.desk.rows import receive
from tests.world import APP_ID, APP_SECRET, DAY, World

Run = Callable[..., Result]


@pytest.fixture
def run(world: World, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("tokens", "--json")`, with `typed=` as standard input."""
    given = {"DATABASE_URL": database_url, "FACEBOOK_APP_ID": APP_ID, "FACEBOOK_APP_SECRET": APP_SECRET}
    for name, value in (given | {"CAPI_GRAPH_URL": world.meta.url}).items():
        monkeypatch.setenv(name, value)

    def run(*args: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(app, args, input=typed)

    return run


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def an_app(run: Run) -> str:
    added = run("app", "add", "--name", "Café Zoë", "--user-email", "zoe@example.com", "--pixel", "900100", "--json")
    return str(json.loads(added.stdout)["appId"])


def test_the_whole_road(run: Run, world: World, tmp_path: Path) -> None:
    app_id = an_app(run)
    token = world.meta.create_token()
    stored = run("token", "set", "--app", app_id, typed=token.reveal() + "\n")
    assert stored.exit_code == 0, stored.output
    assert token.reveal() not in stored.output
    assert token.fingerprint in stored.stdout

    event = {"event_name": "Lead", "event_id": "lead-1", "user_data": {"em": ["a" * 64], "client_user_agent": "x"}}
    event |= {"event_source_url": "https://zoe.example/"}
    assert rows(run("send", "--app", app_id, "--json", typed=json.dumps([event])))[0]["state"] == "delivered"
    listed = rows(run("events", "--app", app_id, "--state", "delivered", "--json"))
    assert [(row["event_id"], row["event"]) for row in listed] == [("lead-1", "Lead")]
    assert [row["health"] for row in rows(run("tokens", "--json"))] == ["Valid"]

    assert run("export", "expiry", "--out", str(tmp_path / "report.csv")).exit_code == 0
    report = list(csv.reader(io.StringIO((tmp_path / "report.csv").read_text(encoding="utf-8-sig"))))
    assert report[1][1:3] == ["Café Zoë", app_id]
    assert token.reveal() not in str(report)


def test_a_token_that_meta_does_not_take_is_not_stored(run: Run, world: World) -> None:
    app_id = an_app(run)
    token = world.meta.create_token(expires_in=-60)
    refused = run("token", "set", "--app", app_id, typed=token.reveal())
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "nothing was stored" in refused.stderr
    assert token.reveal() not in refused.stderr
    assert run("token", "set", "--app", app_id, "--no-verify", typed=token.reveal()).exit_code == 0


@pytest.mark.parametrize("typed", ["", "two words", "tökén", "x" * 5000])
def test_what_is_no_token_is_refused_without_being_repeated(run: Run, typed: str) -> None:
    refused = run("token", "set", "--app", "any", "--no-verify", typed=typed)
    assert refused.exit_code == 1
    assert "standard input" in refused.stderr
    assert not typed or typed not in refused.stderr


def test_refresh_of_one_app_mends_its_siblings_too(run: Run, world: World) -> None:
    token = world.meta.create_token(expires_in=2 * DAY.total_seconds())
    app, sibling = (world.an_app(token, expires_in=2 * DAY, email="owner@example.com") for _ in range(2))
    done = rows(run("refresh", "--app", app.public_id, "--json"))
    assert [(row["outcome"], row["apps updated"]) for row in done] == [("extended", 2)]
    assert world.app(app).token == world.app(sibling).token != token


def test_refresh_of_a_merchant_that_cannot_be_mended_fails(run: Run, world: World) -> None:
    token = world.meta.create_token(expires_in=-60)
    app = world.an_app(token, email="owner@example.com")
    done = run("refresh", "--user", "owner@example.com", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)[0]["outcome"] == "needs_reconnect"
    assert world.app(app).token == token


def test_bulk_work_without_a_worker_says_so(run: Run, world: World) -> None:
    world.an_app(world.meta.create_token(), expires_in=DAY)
    done = run("refresh", "--due")
    assert done.exit_code == 1
    assert "no worker runs" in done.stderr


def test_a_retry_asks_with_the_exact_number(run: Run, world: World) -> None:
    app = world.an_app(world.meta.create_token())
    world.meta.fault("events", "error", error={"code": 100, "subcode": 2804087, "message": "bad click id"})
    for number in range(3):
        world.an_event(app, event_id=f"event-{number}")
    world.deliver(app)
    assert world.states() == {"dead": 3}
    asked = run("retry", "--state", "dead", typed="n\n")
    assert "Send 3 event(s) again?" in asked.output
    assert asked.exit_code == 1
    assert world.states() == {"dead": 3}
    assert "no such event" in run("retry", "--state", "dead", "--until", "yesterday").stderr
    ids = [row["id"] for row in rows(run("events", "--state", "dead", "--json"))]
    with writing(world.engine) as conn:
        of_yesterday, _ = (receive(conn, int(id_), clock.now() - DAY) for id_ in ids[:2])
    yesterday = run("retry", "--state", "dead", "--since", "yesterday", "--until", "today", typed="n\n")
    assert "Send 2 event(s) again?" in yesterday.output
    ordered = run("retry", "--event", str(of_yesterday), "--yes")
    assert "no worker runs" in ordered.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("refresh",), "exactly one of --app, --user, --due, --all"),
        (("refresh", "--app", "nobody"), "there is no app nobody"),
        (("refresh", "--due"), "no token is due"),
        (("events", "--state", "lost"), "is none of: due, sending, parked"),
        (("retry", "--state", "parked"), "parked events go by themselves"),
        (("retry",), "say what to send again"),
        (("retry", "--event", "1", "--since", "today"), "--event says already which"),
        (("retry", "--state", "dead", "--since", "soon"), "--since: 'soon' is no time that can be read"),
        (("retry", "--state", "dead", "--time-zone", "Berlin"), "--time-zone: 'Berlin' is no time zone"),
        (("tokens", "--health", "Fine"), "is none of: Needs reconnect"),
        (("send", "--app", "nobody"), "holds no JSON"),
        (("app", "add", "--name", "x", "--user-email", "nobody"), "the e-mail is missing"),
        (("app", "add", "--name", "x", "--user-email", "a@b", "--pixel", "12/../x"), "the pixel is no number"),
        (("api-key", "revoke", "none"), "there is no live API key none"),
    ],
)
def test_an_order_that_makes_no_sense_is_one_line(run: Run, command: tuple[str, ...], words: str) -> None:
    done = run(*command)
    assert done.exit_code == 1
    assert words in done.stderr
    assert done.stderr.startswith("capi-console: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("typed", ["[1]", "{}[", '{"data": []}', '[{"event_time": "soon"}]', '[{"event_time": 1e3}]'])
def test_events_that_cannot_be_read_are_refused_whole(run: Run, world: World, typed: str) -> None:
    app_id = an_app(run)
    assert run("send", "--app", app_id, typed=typed).exit_code == 1
    assert world.states() == {}


def test_an_api_key_is_shown_once(run: Run) -> None:
    key = run("api-key", "add", "--title", "platform").stdout.strip()
    assert key.startswith("capi_")
    assert key not in run("api-key", "list").stdout
    assert run("api-key", "revoke", "platform").exit_code == 0
    assert rows(run("api-key", "list", "--json"))[0]["revoked_at"]


def test_settings_name_their_source_and_hide_secrets(run: Run) -> None:
    shown = {row["name"]: row for row in rows(run("settings", "--json"))}
    assert shown["FACEBOOK_APP_SECRET"]["value"].startswith("set (fp_")
    assert shown["FACEBOOK_APP_SECRET"]["source"] == "environment"
    assert shown["CAPI_WORKER_THREADS"]["source"] == "default"
    assert APP_SECRET not in run("settings").output


def test_settings_show_neither_a_databases_password_nor_a_monitors_address(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://db.example.com/shop?user=capi&password=hush-db-pw")
    monkeypatch.setenv("CAPI_HEARTBEAT_URL", "https://hc-ping.com/hush-4711-monitor")
    done = run("settings", "--json")
    shown = {row["name"]: row["value"] for row in rows(done)}
    assert shown["DATABASE_URL"] == "postgresql://db.example.com/shop"
    assert shown["CAPI_HEARTBEAT_URL"] == "set (hc-ping.com)"
    for output in (done.output, run("settings").output, run("tokens").output, run("migrate").output):
        assert "hush" not in output


def test_a_name_cannot_steer_the_terminal(run: Run, world: World) -> None:
    with reading(world.engine) as conn:
        assert apps.every(conn) == []
    run("app", "add", "--name", "\x1b[2Jgone", "--user-email", "a@example.com")
    assert "\x1b" not in run("app", "list").stdout
    assert "gone" in run("tokens").stdout


def test_migrate_says_where_the_database_is(run: Run) -> None:
    done = run("migrate")
    assert done.exit_code == 0
    assert "is at revision" in done.stdout
