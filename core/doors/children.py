"""Child processes of `up`: started, listened to, started again when they die, stopped together."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import typer

from core.doors.cli_shell import WRONG_SETUP, complain, say

GRACE = 15.0
PATIENCE = 60.0
# A child that lived this long has recovered: its next fall starts from the shortest wait again.
STEADY = 60.0
LONGEST_WAIT = 30.0
_LOOK = 0.2
_COLOURS = {"endpoint": "cyan", "worker": "green", "console": "magenta", "sandbox": "yellow", "demo": "blue"}


@dataclass
class Child:
    """One of our processes: how to start it, how to know that it answers, and how often it fell."""

    title: str
    command: Sequence[str]
    answers: Callable[[Child], bool]
    process: subprocess.Popen[str] | None = None
    started: float = 0.0
    falls: int = 0
    start_at: float = 0.0
    last_line: str = ""
    reader: threading.Thread | None = field(default=None, repr=False)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Starts children in order, waits until each answers, restarts those that die, stops all of them."""

    def __init__(self, environment: Mapping[str, str], *, out: Callable[[str], None] = say) -> None:
        self.environment, self.out = dict(environment), out
        self.children: list[Child] = []
        # A plain flag: a signal handler that sets it can never wait for a lock that it has interrupted.
        self.stopping = False

    def start(self, child: Child) -> bool:
        """Until it answers; False when it never did, or when we were told to stop."""
        self.children.append(child)
        self._spawn(child)
        give_up = time.monotonic() + PATIENCE
        while not self.stopping and time.monotonic() < give_up:
            if not child.running:
                return False
            if child.answers(child):
                return True
            time.sleep(_LOOK)
        return False

    def watch(self) -> int:
        """Until we are told to stop (0) or a child's settings are wrong (2)."""
        while not self.stopping:
            time.sleep(_LOOK)
            for child in self.children:
                if not self.stopping and not child.running and self._fell(child) == WRONG_SETUP:
                    return WRONG_SETUP
        return 0

    def stop(self) -> None:
        """SIGTERM to all at once, 15 s for what is in flight, then SIGKILL."""
        self.stopping = True
        for child in self.children:
            if child.process is not None and child.running:
                child.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + GRACE
        for child in self.children:
            if child.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(max(0.1, end - time.monotonic()))
                if child.running:
                    child.process.kill()
                    child.process.wait()
            if child.reader is not None:
                child.reader.join(2)

    def _spawn(self, child: Child) -> None:
        child.process = subprocess.Popen(
            [sys.executable, *child.command],
            env=self.environment | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches us only, and we say when each is to stop
        )
        child.started, child.start_at = time.monotonic(), 0.0
        child.reader = threading.Thread(target=self._read, args=(child, child.process), daemon=True)
        child.reader.start()

    def _read(self, child: Child, process: subprocess.Popen[str]) -> None:
        prefix = typer.style(f"{child.title:<8} │ ", fg=_COLOURS.get(child.title))
        assert process.stdout is not None
        for line in process.stdout:
            text = line.rstrip("\n")
            child.last_line = text or child.last_line
            self.out(prefix + text)

    def _fell(self, child: Child) -> int:
        """Its exit code; a new try is made when its time has come, later after every fall."""
        assert child.process is not None
        code = int(child.process.returncode)
        now = time.monotonic()
        if child.start_at == 0.0:
            if code == WRONG_SETUP:
                return code
            child.falls = 1 if now - child.started > STEADY else child.falls + 1
            wait = min(2.0 ** (child.falls - 1), LONGEST_WAIT)
            child.start_at = now + wait
            complain(f"{child.title} ended with exit code {code}; it is started again in {wait:.0f} s")
        elif now >= child.start_at:
            self._spawn(child)
        return code
