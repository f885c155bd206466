"""A console server of its own, started from another folder, and a real Chromium to look at it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import Engine

from core import clock
from core.store import database, migrate
from tests.browser.screens import chromium
from tests.desk.rows import seed
from tests.processes import free_port
from tests.world import APP_ID, APP_SECRET

ROOT = Path(__file__).parents[2]
_SERVE = "from core.doors import console; from core.settings import load; console.run(load())"


@dataclass
class Console:
    """A running console and its database."""

    url: str
    engine: Engine
    log: Path


@contextmanager
def a_console(folder: Path, **more: str) -> Iterator[Console]:
    """A fresh server, its database and its log in this folder; `more` are settings."""
    address = f"sqlite:///{folder / 'console.db'}"
    engine = database.open_engine(address)
    migrate.prepare(engine)
    seed(engine, now=clock.now(), apps=60, events=400)
    port = free_port()
    ours = {"FACEBOOK_APP_ID": APP_ID, "FACEBOOK_APP_SECRET": APP_SECRET, "CAPI_GRAPH_URL": "http://127.0.0.1:9"}
    own = {"PYTHONPATH": str(ROOT), "DATABASE_URL": address, "CAPI_CONSOLE_PORT": str(port)}
    env = {**os.environ, **ours, **own, **more}
    log = folder / "console.log"
    with log.open("wb") as out:
        server = subprocess.Popen([sys.executable, "-c", _SERVE], cwd=folder, env=env, stdout=out, stderr=out)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(f"{url}/_stcore/health", server)
            yield Console(url, engine, log)
        finally:
            server.terminate()
            server.wait(10)
            engine.dispose()


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    """A fresh server: nothing was asked of it before the test does."""
    with a_console(tmp_path) as console:
        yield console


@pytest.fixture
def page() -> Iterator[Any]:
    with chromium() as browser:
        size = {"width": 1440, "height": 900}
        context = browser.new_context(viewport=size, accept_downloads=True, timezone_id="Europe/Berlin")
        yield context.new_page()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and server.poll() is None:
        try:
            if requests.get(url, timeout=1).ok:
                return
        except requests.RequestException:
            time.sleep(0.1)
    raise AssertionError("the console did not start")
