"""The stand-in for Meta in a process of its own, which also tells who called: each worker is given a Graph version of
its own (v24.1, v24.2, …), and the stand-in takes any.

    python -m core.drills.meta --port 8091
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import requests
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.drills.processes import HOME, eventually, free_port
from core.drills.shops import APP_ID, APP_SECRET
from core.sandbox.app import create_app
from core.sandbox.client import Sandbox
from core.sandbox.state import State
from core.secret import Secret

CALLERS = "/_sandbox/callers"


def version(worker: int) -> str:
    """The Graph version by which this worker is known."""
    return f"v24.{worker}"


class Callers:
    """Around the stand-in: how many events were acknowledged to whom, and when each last called."""

    def __init__(self, inner: ASGIApp) -> None:
        self.inner, self.acknowledged, self.requests = inner, Counter[str](), Counter[str]()
        # When, by whom, for which pixel, how many events were acknowledged (0: refused or spoiled).
        self.log: deque[tuple[float, str, str, int]] = deque(maxlen=200_000)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == CALLERS:
            told = orjson.dumps({"acknowledged": self.acknowledged, "requests": self.requests, "log": list(self.log)})
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": told})
            return
        parts = scope.get("path", "").strip("/").split("/")
        is_batch = scope["type"] == "http" and parts[-1] == "events" and parts[0] != "_sandbox"

        async def noted(message: Message) -> None:
            await send(message)
            if is_batch and message["type"] == "http.response.body":
                self._note(parts[0], parts[1], message.get("body", b""))

        # The sandbox finds the connection through `send`'s owner, to break it on request.
        noted.__self__ = getattr(send, "__self__", None)  # type: ignore[attr-defined]
        await self.inner(scope, receive, noted)

    def _note(self, caller: str, pixel: str, body: bytes) -> None:
        count = int(orjson.loads(body)["events_received"]) if body.startswith(b'{"events_received":') else 0
        self.requests[caller] += 1
        self.acknowledged[caller] += count
        self.log.append((time.time(), caller, pixel, count))


@dataclass
class Meta:
    """The stand-in as a drill sees it."""

    sandbox: Sandbox
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return int(self.sandbox.url.rsplit(":", 1)[1])

    def callers(self) -> dict[str, Any]:
        """`acknowledged`: events by caller, `requests` by caller, `log`: (when, caller, pixel, events) of each."""
        told: dict[str, Any] = requests.get(self.sandbox.url + CALLERS, timeout=30).json()
        return told


@contextmanager
def standing_in(folder: Path, *, host: str = "127.0.0.1") -> Iterator[Meta]:
    """Started, answering, and ended with the block; `host` is the address that it listens on."""
    port = free_port()
    with (folder / "meta.log").open("ab") as log:
        command = [sys.executable, "-m", "core.drills.meta", "--host", host, "--port", str(port)]
        process = subprocess.Popen(command, cwd=HOME, stdout=log, stderr=log)
    client = Sandbox(f"http://127.0.0.1:{port}", timeout=120)
    try:
        eventually(lambda: _answers(client), saying=(folder / "meta.log").read_text)
        yield Meta(client, process)
    finally:
        client.close()
        process.kill()
        process.wait()


def _answers(client: Sandbox) -> bool:
    try:
        return bool(client.stats())
    except requests.ConnectionError:
        return False


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, required=True)
    given = options.parse_args()
    state = State(app_id=APP_ID, app_secret=Secret(APP_SECRET), kept_events=2_000_000)
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "date_header": False, "lifespan": "off"}
    uvicorn.run(Callers(create_app(state)), host=given.host, port=given.port, **quiet)


if __name__ == "__main__":
    main()
