"""`up`: children are looked after, and the sandbox tells its story within a minute."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from sqlalchemy import Engine, text

from core import clock
from core.desk import queries
from core.doors import children
from core.doors.children import Child, Supervisor
from core.sandbox.client import Sandbox
from core.sandbox.demo_past import seed
from core.services.policy import Policy
from core.store import database
from core.store.database import reading
from tests.processes import environment, eventually, free_port
from tests.world import APP_ID


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def supervisor(lines: list[str]) -> Iterator[Supervisor]:
    made = Supervisor({}, out=lines.append)
    yield made
    made.stop()


def a_child(code: str) -> Child:
    return Child("worker", ("-c", code), answers=lambda child: "up" in child.last_line)


def test_a_child_answers_and_its_lines_are_prefixed(supervisor: Supervisor, lines: list[str]) -> None:
    assert supervisor.start(a_child("import time; print('up'); time.sleep(60)"))
    assert "worker   │ " in lines[0]
    assert lines[0].endswith("up")


def test_a_child_that_dies_before_it_answers(supervisor: Supervisor) -> None:
    assert not supervisor.start(a_child("print('no'); raise SystemExit(3)"))


def test_a_child_that_dies_is_started_again_later_each_time(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LONGEST_WAIT", 0.1)
    starts = tmp_path / "starts"
    child = a_child(f"import time; open({str(starts)!r}, 'a').write('x'); print('up'); time.sleep(0.3)")
    assert supervisor.start(child)

    def third_start() -> bool:
        if not child.running:
            supervisor._fell(child)
        return starts.read_text() == "xxx"

    eventually(third_start, within=20)
    assert child.falls == 2


def test_a_child_whose_settings_are_wrong_ends_everything(supervisor: Supervisor) -> None:
    assert supervisor.start(a_child("import time; print('up', flush=True); time.sleep(0.3); raise SystemExit(2)"))
    assert supervisor.watch() == 2


def test_a_child_that_does_not_stop_is_killed(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "GRACE", 0.3)
    deaf = a_child("import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)")
    assert supervisor.start(deaf)
    supervisor.stop()
    assert deaf.process is not None
    assert deaf.process.returncode == -signal.SIGKILL


@pytest.fixture
def sandbox_up(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str], Path]]:
    """`capi-console up --sandbox` in a folder of its own, where real settings lie about."""
    ports = {name: str(free_port()) for name in ("CAPI_ENDPOINT_PORT", "CAPI_CONSOLE_PORT", "CAPI_SANDBOX_PORT")}
    env = environment(f"sqlite:///{tmp_path}/real.db", "https://graph.facebook.com", **ports)
    (tmp_path / ".env").write_text("SHOPIFY_API_SECRET=the-real-one\nFACEBOOK_APP_SECRET=the-real-one\n")
    log = tmp_path / "up.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "core.doors.cli", "up", "--sandbox"], env=env, stdout=out, stderr=out, cwd=tmp_path
        )
    yield process, ports, log
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.mark.timeout(240)
def test_the_sandbox_tells_its_story(sandbox_up: tuple[subprocess.Popen[bytes], dict[str, str], Path]) -> None:
    process, ports, log = sandbox_up
    eventually(lambda: "Ctrl-C stops everything" in log.read_text(), within=60, saying=log.read_text)
    assert requests.get(f"http://127.0.0.1:{ports['CAPI_ENDPOINT_PORT']}/readyz", timeout=5).ok
    assert requests.get(f"http://127.0.0.1:{ports['CAPI_CONSOLE_PORT']}/", timeout=5).ok

    engine = database.open_engine(f"sqlite:///{log.parent}/data/sandbox.db")
    assert _count(engine, '"App"') == 60
    lately = "> datetime('now', '-2 minutes')"
    mended = f"capi_refresh WHERE trigger = 'on_error' AND outcome = 'extended' AND started_at {lately}"
    lost = f"capi_token WHERE needs_reconnect AND broken_since {lately}"
    dead = f"capi_event WHERE state = 'dead' AND received_at {lately}"
    late = f"capi_event WHERE after_refresh AND delivered_at {lately}"
    for what in (mended, lost, dead, late):
        eventually(lambda what=what: _count(engine, what), within=90, saying=log.read_text)
    engine.dispose()

    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert time.monotonic() - started < 20
    said = log.read_text()
    assert "worker stopped" in said
    assert "Traceback" not in said
    assert "EAA" not in said
    assert not (log.parent / "real.db").exists()


def _count(engine: Engine, what: str) -> int:
    with reading(engine) as conn:
        return int(conn.execute(text(f"SELECT count(*) FROM {what}")).scalar_one())


def test_the_demo_opens_with_every_health_and_every_state(sqlite_engine: Engine, meta: Sandbox) -> None:
    moment = clock.now()
    policy = Policy(app_id=APP_ID)
    seed(sqlite_engine, meta, policy, now=moment, chance=random.Random(1))
    with reading(sqlite_engine) as conn:
        seen = queries.overview(conn, now=moment, soon=policy.soon, window=policy.window)
        history = queries.refresh_history(conn)
    assert sum(seen.health.values()) == 60
    assert all(seen.health.values()), seen.health
    assert min(seen.delivered, seen.after_refresh, seen.refused, seen.waiting, seen.dead) > 0
    assert len({row.outcome for row in history}) >= 5
    assert [row.started_at for row in history] == sorted((row.started_at for row in history), reverse=True)
