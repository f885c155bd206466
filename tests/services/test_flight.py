"""Many who want one token mended cost one exchange: real processes, real HTTP, SQLite and PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from core.store import tokens
from tests.processes import ROOT, environment, eventually
from tests.world import DAY, World

PROCESSES, HANDLERS = 4, 500
# 100 where there is time for it: `LONG_TESTS=1 pytest tests/services/test_flight.py`.
TOKENS, TIMES = 100 if os.environ.get("LONG_TESTS") else 20, 20


class Handlers:
    """One process of handlers."""

    def __init__(self, world: World, url: str, *more: str) -> None:
        command = [sys.executable, "-m", "tests.services.handlers", url, world.meta.url, *more]
        env = environment(url, world.meta.url)
        pipe = subprocess.PIPE
        self.popen = subprocess.Popen(command, env=env, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        assert self.popen.stdin
        assert self.popen.stdout
        self.stdin, self.stdout = self.popen.stdin, self.popen.stdout

    def wait(self) -> None:
        assert self.stdout.readline() == "ready\n"

    def order(self, calls: list[tuple[str, str]], threads: int) -> None:
        self.stdin.write(json.dumps({"calls": calls, "threads": threads}) + "\n")
        self.stdin.flush()

    def answers(self) -> list[tuple[float, float, bool]]:
        return [(began, ended, usable) for began, ended, usable in json.loads(self.stdout.readline())]


@contextmanager
def processes(world: World, url: str, count: int, *more: str) -> Iterator[list[Handlers]]:
    started = [Handlers(world, url, *more) for _ in range(count)]
    try:
        for one in started:
            one.wait()
        yield started
    finally:
        for one in started:
            one.popen.send_signal(signal.SIGCONT)
            one.popen.kill()
            one.popen.wait()
            one.stdin.close()
            one.stdout.close()


@contextmanager
def delays() -> Iterator[list[float]]:
    """How much later than asked for this machine, with all that it does besides, wakes a thread, in seconds."""
    late, over = [0.0], threading.Event()

    def nap() -> None:
        while not over.is_set():
            began = time.monotonic()
            time.sleep(0.05)
            late.append(time.monotonic() - began - 0.05)

    napping = threading.Thread(target=nap)
    napping.start()
    yield late
    over.set()
    napping.join()


def test_a_crowd_in_four_processes_costs_one_exchange_for_each_token(world: World, database_url: str) -> None:
    token = world.meta.create_token(expires_in=5 * 86_400)
    app = world.an_app(token, expires_in=5 * DAY)
    many = [world.meta.create_token(expires_in=5 * 86_400) for _ in range(TOKENS)]
    shops = [world.an_app(one, expires_in=5 * DAY, email=f"shop{n}@example.com") for n, one in enumerate(many)]
    with processes(world, database_url, PROCESSES) as crowd:
        world.meta.fault("exchange", "latency", seconds=2.0)
        for one in crowd:
            one.order([(app.id, token.fingerprint)] * (HANDLERS // PROCESSES), HANDLERS // PROCESSES)
        with delays() as late:
            answers = [answer for one in crowd for answer in one.answers()]
        assert (len(answers), {usable for *_, usable in answers}) == (HANDLERS, {True})
        assert world.meta.count("exchange") == 1
        first = min(ended for _, ended, _ in answers)
        waited = [ended - first for began, ended, _ in answers if began < first]
        assert len(waited) > HANDLERS / 5
        assert max(waited) <= 1 + 4 * max(late), "whoever waited goes on when the call has ended"

        world.meta.clear_faults()
        for one in crowd:
            one.order([(shop.id, shop.fingerprint or "") for shop in shops for _ in range(TIMES // PROCESSES)], 5)
        answers = [answer for one in crowd for answer in one.answers()]
        outcomes = Counter((row.outcome, row.words) for row in world.refreshes())
        assert (len(answers), {usable for *_, usable in answers}) == (TOKENS * TIMES, {True}), outcomes
    asked = Counter(call["fingerprint"] for call in world.meta.calls("exchange"))
    assert asked == Counter(one.fingerprint for one in (token, *many))
    assert all(world.app(shop).token not in (None, one) for shop, one in zip(shops, many, strict=True))


def test_an_owner_that_stands_still_is_overtaken_and_overwrites_nothing(
    world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = 1.5
    monkeypatch.setattr(tokens, "LEASE", timedelta(seconds=lease))
    token = world.meta.create_token(expires_in=5 * 86_400)
    app = world.an_app(token, expires_in=5 * DAY)
    with processes(world, database_url, 1, str(lease)) as (owner,):
        world.meta.fault("exchange", "latency", seconds=0.8, count=1)
        owner.order([(app.id, token.fingerprint)], 1)
        eventually(lambda: world.meta.count("debug") and world.token(token.fingerprint).refresh_by)
        threading.Event().wait(0.2)
        os.kill(owner.popen.pid, signal.SIGSTOP)

        def mended() -> bool:
            return world.service("second").refresh(token.fingerprint, trigger="on_error", by="second").usable

        eventually(mended)
        stored = world.app(app).token
        assert stored != token
        os.kill(owner.popen.pid, signal.SIGCONT)
        assert owner.answers()[0][2] is True, "the token that the other one stored can be used"
    assert world.app(app).token == stored
    assert world.meta.count("exchange") <= 2
    assert [row.outcome for row in world.refreshes()] == ["extended"]
    held = world.token(stored.fingerprint if stored else "")
    assert (held.broken_since, held.needs_reconnect) == (None, False)
