"""Where the processes of a drill are born: forked from one that has loaded the program already.

They are processes like any other, with an environment, a log and a death of their own; but to start one takes a
twentieth of a second and not one or two, so that five hundred of them can be killed in minutes.

    python -m core.drills.nursery      takes orders as lines of JSON, and answers each with one
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from core.drills.processes import HOME

# By name: drills stand below the doors, and start them as anybody at a shell does.
DOOR = "core.doors.cli"
LOADED = (DOOR, "core.doors.worker", "core.doors.endpoint", "core.desk.alert_message")


class Nursery:
    """The drill's end of it. Safe to share between threads."""

    def __init__(self) -> None:
        command = [sys.executable, "-u", "-m", "core.drills.nursery"]
        own = {"PYTHONPATH": str(HOME)}
        self._process = subprocess.Popen(
            command, cwd=HOME, env={**os.environ, **own}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._lock = threading.Lock()

    def start(self, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> Born:
        """A `capi-console` command in a process of its own; its lines go to `log`, whose folder it works in."""
        return Born(self, int(self.ask({"start": list(command), "env": dict(env), "log": str(log)})))

    def ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Whoever is still alive dies."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


class Born:
    """One process of the nursery, as `subprocess.Popen` shows it."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery, self.pid, self.returncode = nursery, pid, None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired([str(self.pid)], timeout or 0.0)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


@contextmanager
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    try:
        yield made
    finally:
        made.close()


def main() -> None:
    run: Callable[..., Any] = importlib.import_module(DOOR).app
    for name in LOADED:
        importlib.import_module(name)
    alive: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        answer: int | None
        if "start" in order:
            answer = os.fork()
            if answer == 0:
                _live(run, order)
            alive.add(answer)
        else:
            answer = _code(order["poll"])
            if answer is not None:
                alive.discard(order["poll"])
        print(json.dumps(answer), flush=True)
    for pid in alive:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _code(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _live(run: Callable[..., Any], order: dict[str, Any]) -> None:
    """From here on this is a process of its own, and ends as one."""
    code = 1
    try:
        log = Path(order["log"])
        out, nothing = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, out), (2, out)):
            os.dup2(source, target)
        os.chdir(log.parent)
        os.environ.clear()
        os.environ.update(order["env"])
        run(args=order["start"], prog_name="capi-console")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
