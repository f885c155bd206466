"""The program of before beside this one, on one PostgreSQL: the way many machines are brought up to date.

    python -m tests.rolling [--from REVISION] [--events 20000]

An endpoint and two workers of the older program take and deliver events; the database is migrated under them; this
program's endpoint, worker and console join; then the older endpoint goes, and an older worker stays to the end. Tokens
that Meta refuses are mended on the way, by whoever comes first. `--from` is a revision of this repository; without it,
the last one before the newest migration.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import requests
from sqlalchemy import Engine, text

from core.drills.meta import Meta, standing_in, version
from core.drills.processes import HOME, Process, end_in_order, environment, eventually, free_port, is_ready
from core.drills.reckoning import Ledger, reckon, table
from core.drills.storefront import Call, Storefront
from core.secret import Secret
from core.store import migrate
from core.store.apps import App
from core.store.database import open_engine, reading
from tests.drills.server import postgres
from tests.world import DAY, World

SHOPS, IN_A_CALL = 40, 5
# Workers of the older program, by the number that Meta's stand-in knows them by; the third is this one's.
OLD, NEW = (1, 2), 3


@dataclass(frozen=True)
class Programs:
    """Where the older one lies, what both are given, and where their lines go."""

    older: Path
    url: str
    meta: Meta
    folder: Path

    def start(self, name: str, *command: str, old: bool = False, **more: str) -> Process:
        env = environment(self.url, self.meta.sandbox.url, CAPI_RATE_APP="0", **more)
        if old:
            env |= {"PYTHONPATH": str(self.older)}
        return Process(*command, env=env, log=self.folder / f"{name}.log")

    def worker(self, n: int) -> Process:
        return self.start(f"worker-{n}", "worker", old=n in OLD, CAPI_GRAPH_VERSION=version(n))

    def migrated_by_the_older(self) -> None:
        done = self.start("migrate", "migrate", old=True)
        if done.popen.wait(60):
            raise SystemExit(done.log.read_text())


@dataclass(frozen=True)
class Result:
    """What was seen; `before` and `after`: revisions of the database."""

    before: str
    after: str
    ledger: Ledger
    by_worker: dict[int, int]
    exchanges: Counter[int]
    fell: list[str]
    console: str

    @property
    def holds(self) -> bool:
        together = all(self.by_worker[n] for n in (OLD[0], NEW)) and set(self.exchanges) == {1}
        return self.ledger.balances and together and self.before != self.after and not self.fell

    def table(self) -> str:
        led = self.ledger
        rows = {
            "database": f"from {self.before} to {self.after} under the older program",
            "accepted by us": f"{led.promised:,} events",
            "lost": str(len(led.lost)),
            "duplicates at Meta": f"{led.extra:,}",
            "ledger": led.account(),
            "sent by the older workers": " and ".join(f"{self.by_worker[n]:,}" for n in OLD),
            "sent by this one": f"{self.by_worker[NEW]:,}",
            "exchanges of refused tokens": ", ".join(f"{n} for each of {count}" for n, count in self.exchanges.items()),
            "this console": self.console,
            "processes that fell": "; ".join(self.fell) or "none",
        }
        return table(rows, holds=self.holds)


def trial(url: str, older: Path, folder: Path, *, events: int) -> Result:
    """On this empty PostgreSQL database."""
    with standing_in(folder) as meta, contextlib.ExitStack() as ends:
        engine = open_engine(url)
        ends.callback(engine.dispose)
        programs = Programs(older, url, meta, folder)
        programs.migrated_by_the_older()
        before = _revision(engine)
        shops, refused = _shops(World(engine, meta.sandbox))
        first = {f"worker-{n}": programs.worker(n) for n in OLD}
        ports = [free_port(), free_port()]
        first["endpoint"] = programs.start("endpoint-1", "endpoint", old=True, CAPI_ENDPOINT_PORT=str(ports[0]))
        processes = dict(first)
        ends.callback(lambda: [one.kill() for one in processes.values() if one.popen.poll() is None])
        front = Storefront([f"http://127.0.0.1:{port}" for port in ports[:1]])
        eventually(lambda: is_ready(front.urls[0]), within=60, saying=first["endpoint"].log.read_text)
        calls = _calls(shops, events)
        quarter = len(calls) // 4
        front.report(calls[:quarter])
        migrate.migrate(engine)
        front.report(calls[quarter : 2 * quarter])
        processes |= {
            "new endpoint": programs.start("endpoint-2", "endpoint", CAPI_ENDPOINT_PORT=str(ports[1])),
            "new worker": programs.worker(NEW),
        }
        front.urls = [f"http://127.0.0.1:{port}" for port in ports]
        eventually(lambda: is_ready(front.urls[1]), within=60, saying=processes["new endpoint"].log.read_text)
        console = _console(programs, processes)
        for token in refused:
            meta.sandbox.fault("events", "error", token=token, error={"code": 190, "subcode": 463})
        front.report(calls[2 * quarter : 3 * quarter])
        front.urls = front.urls[1:]
        fell = _fallen(processes)
        for name in ("endpoint", "worker-2"):
            processes.pop(name).stop()
        front.report(calls[3 * quarter :])
        _drained(engine)
        sent, asked = meta.callers()["acknowledged"], meta.sandbox.calls("exchange")
        exchanged = Counter(call["fingerprint"] for call in asked)
        return Result(
            before,
            _revision(engine),
            reckon(engine, front.answered, meta.sandbox.events()),
            {n: sent.get(version(n), 0) for n in (*OLD, NEW)},
            Counter(exchanged[token.fingerprint] for token in refused),
            [*fell, *_fallen(processes)],
            console,
        )


def _shops(world: World) -> tuple[list[App], list[Secret]]:
    """Each with a token of its own; of one in ten Meta will refuse it."""
    found, refused = [], []
    for n in range(SHOPS):
        token = world.meta.create_token(user=str(3000 + n), expires_in=20 * 86_400)
        found.append(world.an_app(token, expires_in=20 * DAY, email=f"owner{n}@example.com"))
        if n % 10 == 3:
            refused.append(token)
    return found, refused


def _calls(shops: list[App], events: int) -> list[Call]:
    chance = random.Random(20)
    ids = [f"event-{n}" for n in range(events)]
    return [Call(chance.choice(shops), tuple(ids[at : at + IN_A_CALL])) for at in range(0, events, IN_A_CALL)]


def _console(programs: Programs, processes: dict[str, Process]) -> str:
    """Started, and what its first page answers."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    console = processes["new console"] = programs.start("console", "console", CAPI_CONSOLE_PORT=str(port))

    def answers() -> int:
        with contextlib.suppress(requests.RequestException):
            return requests.get(url, timeout=5).status_code
        return 0

    return f"answers with HTTP {eventually(answers, within=60, saying=console.log.read_text)}"


def _fallen(processes: dict[str, Process]) -> list[str]:
    return [f"{name} (exit code {one.popen.poll()})" for name, one in processes.items() if one.popen.poll() is not None]


def _drained(engine: Engine) -> None:
    def nothing_due() -> bool:
        with reading(engine) as conn:
            return not conn.scalar(text("SELECT count(*) FROM capi_outbox WHERE state = 'due'"))

    eventually(nothing_due, within=120)


def _revision(engine: Engine) -> str:
    with reading(engine) as conn:
        return migrate.current(conn) or "none"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=HOME, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {' '.join(words)}: {done.stderr.strip()}\nThis needs the repository with its history.")
    return done.stdout.strip()


def before_the_newest_migration() -> str:
    """The last revision of the repository that does not have it."""
    folder = HOME / "core" / "store" / "migrations" / "versions"
    newest = max(folder.glob("[0-9]*.py"))
    added = _git("log", "--diff-filter=A", "--format=%H", "-1", "--", str(newest.relative_to(HOME)))
    return f"{added}~1"


@contextlib.contextmanager
def checked_out(revision: str):
    """A folder with the repository as it was."""
    with tempfile.TemporaryDirectory(prefix="capi-older-") as folder:
        _git("worktree", "add", "--detach", "--force", folder, revision)
        try:
            yield Path(folder)
        finally:
            _git("worktree", "remove", "--force", folder)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--from", dest="revision", help="a revision of the repository")
    options.add_argument("--events", type=int, default=20_000)
    options.add_argument("--logs", type=Path, help="a folder that keeps the processes' logs")
    given = options.parse_args()
    logging.disable(logging.CRITICAL)
    end_in_order()
    with (
        tempfile.TemporaryDirectory() as scratch,
        checked_out(given.revision or before_the_newest_migration()) as older,
        postgres() as server,
    ):
        folder = given.logs or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        engine = open_engine(server.url())
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.execute(text("CREATE DATABASE rolling"))
        engine.dispose()
        began = time.monotonic()
        result = trial(server.url(name="rolling"), older, folder, events=given.events)
    print(result.table())
    print(f"{time.monotonic() - began:,.0f} s, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    sys.exit(0 if result.holds else 1)


if __name__ == "__main__":
    main()
