"""Real processes of the product, started and ended by drills and tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import requests

import core
from core.drills.shops import APP_ID, APP_SECRET

# Where the product is imported from.
HOME = Path(str(core.__file__)).parent.parent


# What keeps the ports that were given out: sockets that are bound and never listen.
_KEPT: list[socket.socket] = []


def free_port() -> int:
    """A port that is this process's until it ends: nobody else on the machine is given it, and a program that is told
    to can listen there.

    On Linux a bound socket that does not listen keeps a port from everybody who asks for any, also for an outgoing
    connection, and lets in whoever asks for this one with SO_REUSEADDR, as servers do
    (https://man7.org/linux/man-pages/man7/socket.7.html). Elsewhere the port is only free at this moment.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    port = int(kept.getsockname()[1])
    if sys.platform == "linux":
        _KEPT.append(kept)
    else:
        kept.close()
    return port


def environment(database_url: str, graph_url: str, **more: str) -> dict[str, str]:
    """The settings of a process, and nothing of the machine's own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CAPI_", "FACEBOOK_", "SHOPIFY_"))}
    own = {
        "DATABASE_URL": database_url,
        "FACEBOOK_APP_ID": APP_ID,
        "FACEBOOK_APP_SECRET": APP_SECRET,
        "CAPI_GRAPH_URL": graph_url,
        "CAPI_DIALOG_URL": graph_url,
        "PYTHONPATH": str(HOME),
        "PYTHONUNBUFFERED": "1",
    }
    return clean | own | more


class Handle(Protocol):
    """What is needed of `subprocess.Popen`."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...


class Process:
    """A `capi-console` command in a process of its own, its lines kept in a file; `prefix` stands before it.

    `born`: how it is started instead of by the interpreter anew.
    """

    def __init__(
        self,
        *command: str,
        env: dict[str, str],
        log: Path,
        prefix: Sequence[str] = (),
        born: Callable[..., Handle] | None = None,
    ) -> None:
        self.log = log
        self.popen: Handle
        if born is not None:
            self.popen = born(command, env=env, log=log)
            return
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                [*prefix, sys.executable, "-m", "core.doors.cli", *command],
                env=env,
                stdout=out,
                stderr=out,
                cwd=log.parent,
            )

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def started(self, within: float = 60) -> None:
        """Wait until a worker says that it works; AssertionError with its lines when it never does."""
        eventually(lambda: "worker started" in self.log.read_text(), within=within, saying=self.log.read_text)

    def kill(self) -> None:
        """As a crash does it."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def stop(self, seconds: float = 20) -> int:
        """As a service manager does it; the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout=seconds)


@contextmanager
def running(*command: str, env: dict[str, str], log: Path) -> Iterator[Process]:
    process = Process(*command, env=env, log=log)
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.kill()


def end_in_order() -> None:
    """A command that is told to stop leaves no process behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def eventually(what: Callable[[], Any], *, within: float = 20, saying: Callable[[], str] = str) -> Any:
    """Ask until the answer is true; AssertionError after `within` seconds."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {within} s {saying()}")


def is_ready(url: str) -> bool:
    """Whether an endpoint answers and reaches its database."""
    try:
        return requests.get(f"{url}/readyz", timeout=5).ok
    except requests.RequestException:
        return False
