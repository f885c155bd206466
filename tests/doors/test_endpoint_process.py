from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import requests
from sqlalchemy import func, select

from core.store import database, migrate
from core.store.database import reading
from core.store.schema import capi_event
from tests.inbound.bodies import BROWSER, tracking
from tests.inbound.serving import an_installed_app
from tests.processes import free_port

_PROGRAM = """
import sys
from core import logs
from core.doors.endpoint import create_app, run
from core.settings import Settings
from core.store import database
logs.setup()
run(create_app(database.open_engine(sys.argv[1]), Settings()), host="127.0.0.1", port=int(sys.argv[2]))
print(sorted({name.split(".")[0] for name in sys.modules} & {"streamlit", "pandas", "plotly"}))
"""


def test_a_process_serves_at_once_finishes_on_sigterm_and_stays_light(tmp_path: Path) -> None:
    port = free_port()
    url = f"sqlite:///{tmp_path / 'capi.db'}"
    engine = database.open_engine(url)
    migrate.prepare(engine)
    an_installed_app(engine)
    command = [sys.executable, "-c", _PROGRAM, url, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        with requests.Session() as session:
            _until_alive(session, port)
            took = sorted(_one_call(session, port) for _ in range(30))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=15)
    finally:
        process.kill()
    assert took[15] < 0.04, "a kept connection waits for a delayed ACK"
    assert (process.returncode, "Traceback" in err) == (0, False)
    assert out.strip() == "[]"
    with reading(engine) as conn:
        assert conn.scalar(select(func.count()).select_from(capi_event)) == 30


def _until_alive(session: requests.Session, port: int) -> None:
    for _ in range(400):
        try:
            if session.get(f"http://127.0.0.1:{port}/healthz", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    raise AssertionError("the endpoint did not come up")


def _one_call(session: requests.Session, port: int) -> float:
    answer = session.post(
        f"http://127.0.0.1:{port}/api/track", json=tracking(), headers={"User-Agent": BROWSER}, timeout=5
    )
    assert answer.status_code == 200
    return answer.elapsed.total_seconds()
