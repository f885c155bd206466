"""Alerts at the shell, and in real processes: a worker that tells, a monitor that hears it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from core import clock
from core.doors.cli import app as cli
from core.secret import Secret
from core.store import apps, database, tokens, workers
from core.store.database import writing
from tests.processes import ROOT, environment, eventually, running
from tests.services.alerting import (
    DAY,
    HOUR,
    MINUTE,
    MailServer,
    a_receiver,
    break_tokens,
    channels_for,
    many_apps,
    mend_tokens,
    scan_and_tell,
    wait_events,
)

Run = Callable[..., Result]


@pytest.fixture
def run(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("alerts", "list", to="json://…")`: with these alert addresses."""

    def run(*args: str, to: str = "") -> Result:
        for name, value in environment(sqlite_url, "http://127.0.0.1:1", CAPI_ALERT_URLS=to).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("CAPI_ALLOW_PRIVATE_URLS", "true")
        return CliRunner().invoke(cli, ["alerts", *args])

    return run


def test_the_test_command_tells_which_address_works(run: Run) -> None:
    with a_receiver() as hook, MailServer() as mail:
        done = run("test", "--json", to=f"{mail.address} json://127.0.0.1:9/hook/s3cret-path")
        assert done.exit_code == 1
        results = json.loads(done.stdout)
        assert [row["channel"] for row in results] == ["mailto 127.0.0.1", "json 127.0.0.1"]
        assert results[0]["result"] == "ok"
        assert results[1]["result"] == "Connection refused"
        assert "s3cret" not in done.output
        fine = run("test", to=hook.address)
        assert (fine.exit_code, fine.stdout.split()[-1], len(hook.bodies), len(mail.mails)) == (0, "ok", 1, 1)
    none = run("test")
    assert none.exit_code == 1
    assert none.stderr == "capi-console: no alert address is set: put one or more into CAPI_ALERT_URLS\n"


def test_alerts_are_listed_the_worst_first_and_so_are_channels(run: Run, sqlite_engine: Engine) -> None:
    now = clock.now()
    assert run("list").stdout == "nothing is wrong\n"
    assert run("channels").stdout.startswith("no worker has seen an alert address yet")
    first, second = many_apps(sqlite_engine, 2, now=now)
    many_apps(sqlite_engine, 1, now=now, ends_in=6 * DAY, start=10)
    break_tokens(sqlite_engine, [first, second], now=now - HOUR)
    wait_events(sqlite_engine, 0, 1, now=now, left=5 * HOUR)
    scan_and_tell(sqlite_engine, channels_for("json://127.0.0.1:9/s3cret-path"), now)
    mend_tokens(sqlite_engine, [second])
    scan_and_tell(sqlite_engine, [], now + MINUTE)
    found = json.loads(run("list", "--json").stdout)
    assert [(row["kind"], row["alert"].split(",")[0]) for row in found] == [
        ("deadline", "Shop 0 (shop0.example)"),
        ("needs reconnect", "Shop 0 (shop0.example)"),
        ("expiring", "Shop 10 (shop10.example)"),
    ]
    assert found[0]["alert"].endswith(": 6 hours left at most")
    assert sum(row["ended"] is not None for row in json.loads(run("list", "--history", "--json").stdout)) == 1
    (channel,) = json.loads(run("channels", "--json").stdout)
    assert (channel["channel"], channel["failed"], channel["last sent"]) == ("json 127.0.0.1", 1, None)
    assert "Connection refused" in channel["error"]


def test_a_worker_tells_of_a_dead_one_and_of_a_broken_token_and_beats(sqlite_url: str, tmp_path: Path) -> None:
    """Real processes: what the tables say reaches a mailbox, and a monitor hears the heartbeat."""
    engine = database.open_engine(sqlite_url)
    now = clock.now()
    with writing(engine) as conn:
        workers.beat(conn, "worker@gone:1:ab", started_at=now - 9 * MINUTE, version="1", now=now - 5 * MINUTE)
        app = apps.add(conn, name="Tea", email="ann@example.com", shop_domain="tea.example", pixel_id="77")
        token = Secret("EAAtea" + "x" * 40)
        tokens.see(conn, token.fingerprint, user_id=app.user_id, now=now, next_refresh_at=None)
        tokens.give_up_on(conn, token.fingerprint, failure="token_dead", words="changed password", now=now)
        apps.write_token(conn, app.id, token, expires_at=now + 30 * DAY)
    engine.dispose()
    with MailServer() as mail, a_receiver() as monitor:
        env = environment(
            sqlite_url,
            "http://127.0.0.1:1",
            CAPI_ALERT_URLS=mail.address,
            CAPI_ALLOW_PRIVATE_URLS="true",
            CAPI_HEARTBEAT_URL=f"http://127.0.0.1:{monitor.port}/ping/4711-secret",
            CAPI_ALERT_MINUTES="0",
        )
        with running("worker", env=env, log=tmp_path / "worker.log") as worker:
            told = eventually(lambda: _all_told(mail), within=90, saying=lambda: worker.log.read_text())
            eventually(lambda: monitor.paths, within=90, saying=lambda: worker.log.read_text())
            assert worker.stop() == 0
    assert "capi-console: 1 worker is silent" in told
    assert 'Meta: "changed password"' in told
    assert monitor.paths[0] == "/ping/4711-secret"
    assert "4711-secret" not in worker.log.read_text()


def _all_told(mail: MailServer) -> str:
    """Subjects and bodies of all mails, once they tell of worker and merchant."""
    text = "".join(f"{one['subject']}\n{one.get_content()}" for one in mail.mails)
    return text if "worker@gone" in text and "Tea (tea.example), ann@example.com" in text else ""


def test_apprise_is_loaded_by_nobody_who_sends_no_alert() -> None:
    look = "import sys, core.doors.endpoint, core.doors.worker, core.doors.cli; print('apprise' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, timeout=60, env=env, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("False", 0)
