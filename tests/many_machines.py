"""Two endpoints and four workers on one PostgreSQL, as on many machines: killed and refused while shops report.

    python -m tests.many_machines [--events 100000] [--pixels 200]

Every process is the product's own. Shops report by HTTP, one event or twenty in a call, and send again what was not
answered. Midway one worker and one endpoint are killed with SIGKILL; the endpoint is started again, as a service
manager does it, the worker is not. Meta, played by the sandbox, spoils five requests in a hundred.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from core.drills.meta import Meta, standing_in, version
from core.drills.processes import Process, end_in_order, environment, eventually, free_port, is_ready
from core.drills.reckoning import Ledger, reckon, table
from core.drills.storefront import Call, Storefront
from core.secret import Secret
from core.store import apps
from core.store.apps import App
from core.store.database import open_engine, reading, writing
from tests.drills.server import postgres
from tests.world import DAY, World

# What goes wrong at Meta, as a share of the requests. The second row is a request that is carried out after our
# patience, the third to fifth are carried out and their answer is spoiled: from these duplicates come.
TROUBLE: tuple[tuple[str, float, dict[str, Any]], ...] = (
    ("transient_1", 0.010, {}),
    ("latency", 0.003, {"seconds": 11.0}),
    ("reset_after_accept", 0.012, {}),
    ("truncated", 0.004, {}),
    ("short_ack", 0.002, {}),
    ("html_502", 0.008, {}),
    ("transient_2", 0.008, {}),
    ("rate_613", 0.003, {"minutes": 0, "headers": {"Retry-After": "20"}}),
)
# Of every twenty tokens: one is past its stored end, one is refused by Meta until it is exchanged; of every hundred one
# is gone for good, and its events wait.
IN_ONE_BATCH, BATCH = 0.8, 20


@dataclass
class Plan:
    """How much of it."""

    events: int = 100_000
    pixels: int = 200
    workers: int = 4
    endpoints: int = 2
    slow: bool = True  # requests that Meta answers after our patience, limits and leases that are waited for


@dataclass
class Cast:
    """The shops, and the tokens that are in trouble."""

    shops: list[App]
    ended: list[Secret] = field(default_factory=list)
    refused: list[Secret] = field(default_factory=list)
    gone: list[Secret] = field(default_factory=list)
    # Fingerprints of those that the killed worker was about to mend: Meta may have been asked, and is asked again.
    interrupted: set[str] = field(default_factory=set)


@dataclass
class Result:
    """What was seen."""

    ledger: Ledger
    calls: Counter[str]
    by_worker: dict[str, int]
    requests: int
    refused: int
    exchanges: dict[str, int]
    interrupted: set[str]
    intake_seconds: float
    seconds: float
    stuck: str = ""

    @property
    def holds(self) -> bool:
        once = all(count == 1 or (count == 2 and of in self.interrupted) for of, count in self.exchanges.items())
        return not self.stuck and self.ledger.balances and once

    def table(self) -> str:
        led, calls = self.ledger, self.calls
        broke = {
            name: n for name, n in calls.items() if name not in ("calls", "new") and not name.startswith("dropped")
        }
        pace, spoiled = led.promised / self.intake_seconds, self.refused / self.requests
        rows = {
            "accepted by us": f"{led.promised:,} events in {calls['calls']:,} calls ({pace:,.0f} events/s)",
            "calls sent again": ", ".join(f"{n:,} {name}" for name, n in sorted(broke.items())) or "none",
            "of which known already": f"{calls['dropped: duplicate']:,} events",
            "accepted at Meta": f"{led.at_meta:,} different events",
            "lost": str(len(led.lost)),
            "duplicates at Meta": f"{led.extra:,} of {led.twins:,} events, each with its twin's event_id",
            "at Meta under an id never sent": str(len(led.strange)),
            "ledger": led.account(),
            "accounts that disagree": ", ".join(f"{p}: {w}" for p, w in led.broken.items()) or "none",
            "acknowledged to each worker": ", ".join(f"{n:,}" for n in self.by_worker.values())
            + " (the first was killed)",
            "requests with events": f"{self.requests:,}, of which {spoiled:.1%} were refused or spoiled",
            "exchanges for each broken token": self._exchanged(),
            "duration": f"{self.seconds:,.0f} s, {led.promised / self.seconds:,.0f} events/s from shop to Meta",
            "machine": f"{os.cpu_count()} cores for all of it, Python {sys.version.split()[0]}",
        }
        return table(rows | ({"stuck": self.stuck} if self.stuck else {}), holds=self.holds)

    def _exchanged(self) -> str:
        counted = Counter(self.exchanges.values())
        told = ", ".join(f"{count} of {tokens} tokens" for count, tokens in sorted(counted.items()))
        return f"{told} (of {len(self.interrupted)} tokens the killed worker was mending)" if self.interrupted else told


def trial(url: str, folder: Path, plan: Plan) -> Result:
    """The trial on this migrated, empty PostgreSQL database."""
    with standing_in(folder) as meta, contextlib.ExitStack() as ends:
        engine = open_engine(url)
        ends.callback(engine.dispose)
        cast = _cast(World(engine, meta.sandbox), plan)
        machines = Machines(url, meta, folder, plan)
        ends.callback(machines.kill)
        machines.start()
        front = Storefront(machines.urls)
        started = time.monotonic()
        calls = list(_calls(cast, plan))
        quarter, half = len(calls) // 4, len(calls) // 2
        front.report(calls[:quarter], threads=16)
        _end(engine, cast)
        front.report(calls[quarter:half], threads=16)
        midway = threading.Thread(target=_kill, args=(engine, machines, cast, plan), name="midway")
        midway.start()
        front.report(calls[half:], threads=16)
        intake = time.monotonic() - started
        midway.join()
        stuck = _drained(engine, meta, plan)
        return _result(engine, front, meta, cast, machines, (intake, time.monotonic() - started), stuck)


class Machines:
    """The processes, each with a log of its own."""

    def __init__(self, url: str, meta: Meta, folder: Path, plan: Plan) -> None:
        self.url, self.meta, self.folder = url, meta, folder
        self.ports = [free_port() for _ in range(plan.endpoints)]
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports]
        self.endpoints: list[Process] = []
        self.workers: list[Process] = []
        self.count = plan.workers

    def start(self) -> None:
        self.workers = [self._worker(n) for n in range(1, self.count + 1)]
        self.endpoints = [self._endpoint(port) for port in self.ports]
        for url in self.urls:
            eventually(lambda url=url: is_ready(url), within=60, saying=self.endpoints[0].log.read_text)
        for worker in self.workers:
            log = worker.log
            eventually(lambda log=log: "worker started" in log.read_text(), within=60, saying=log.read_text)

    def lose_an_endpoint(self) -> None:
        """It is killed, and comes back as a service manager brings it back."""
        self.endpoints[0].kill()
        time.sleep(1)
        self.endpoints[0] = self._endpoint(self.ports[0])
        eventually(lambda: is_ready(self.urls[0]), within=60, saying=self.endpoints[0].log.read_text)

    def kill(self) -> None:
        for process in (*self.workers, *self.endpoints):
            if process.popen.poll() is None:
                process.kill()

    def _worker(self, n: int) -> Process:
        own = {"CAPI_GRAPH_VERSION": version(n), "CAPI_LOG_LEVEL": "WARNING" if n > 9 else "INFO"}
        env = environment(self.url, self.meta.sandbox.url, **own)
        return Process("worker", env=env, log=self.folder / f"worker-{n}.log")

    def _endpoint(self, port: int) -> Process:
        env = environment(self.url, self.meta.sandbox.url, CAPI_ENDPOINT_PORT=str(port), CAPI_RATE_APP="0")
        return Process("endpoint", env=env, log=self.folder / f"endpoint-{port}.log")


def _cast(world: World, plan: Plan) -> Cast:
    """Two shops hold each token, as the apps of one user do; some tokens are in trouble."""
    cast = Cast([])
    for n in range((plan.pixels + 1) // 2):
        token = world.meta.create_token(user=str(2000 + n), expires_in=20 * 86_400)
        for _ in range(min(2, plan.pixels - 2 * n)):
            cast.shops.append(world.an_app(token, expires_in=20 * DAY, email=f"owner{n}@example.com"))
        if n % 20 == 3:
            cast.ended.append(token)
        elif n % 20 == 7:
            cast.refused.append(token)
        elif n % 100 == 5:
            cast.gone.append(token)
    for token in cast.refused:
        world.meta.fault("events", "error", token=token, error={"code": 190, "subcode": 463})
    for token in cast.gone:
        world.meta.kill(token)
    for kind, rate, more in TROUBLE:
        if plan.slow or kind != "latency":
            hurry = {} if plan.slow or "headers" not in more else {"headers": {"Retry-After": "1"}}
            world.meta.fault("events", kind, rate=rate, **(more | hurry))
    return cast


def _calls(cast: Cast, plan: Plan) -> Iterator[Call]:
    """Most events in calls of twenty, the others one by one; of a hundred shops' visitors one is a bot."""
    chance = random.Random(6)
    serial = itertools.count(1)
    left = plan.events
    while left:
        size = min(left, BATCH if chance.random() < IN_ONE_BATCH / (IN_ONE_BATCH + BATCH * (1 - IN_ONE_BATCH)) else 1)
        ids = tuple(f"event-{next(serial)}" for _ in range(size))
        yield Call(chance.choice(cast.shops), ids, bot=chance.random() < 0.01)
        left -= size


def _kill(engine: Engine, machines: Machines, cast: Cast, plan: Plan) -> None:
    """One process of each kind, while shops go on reporting."""
    killed = {"mine": f"%:{machines.workers[0].popen.pid}:%"}
    machines.workers[0].kill()
    with writing(engine) as conn:
        interrupted = conn.scalars(text("SELECT fingerprint FROM capi_token WHERE refresh_by LIKE :mine"), killed)
        cast.interrupted |= set(interrupted)
        if not plan.slow:  # half a minute later
            conn.execute(text("UPDATE capi_pixel SET lease_until = NULL WHERE lease_by LIKE :mine"), killed)
            conn.execute(text("UPDATE capi_token SET refresh_until = NULL WHERE refresh_by LIKE :mine"), killed)
    machines.lose_an_endpoint()


def _end(engine: Engine, cast: Cast) -> None:
    """Some tokens pass their stored end, as the platform's own recipe has it; Meta still takes them."""
    with reading(engine) as conn:
        ended = [app.id for app in apps.of_ids(conn, [shop.id for shop in cast.shops]) if app.token in cast.ended]
    with writing(engine) as conn:
        past = """UPDATE "AppSettings" SET "metaTokenExpiresAt" = NOW() - INTERVAL '1 day' WHERE "appId" = :app"""
        for app_id in ended:
            conn.execute(text(past), {"app": app_id})


def _drained(engine: Engine, meta: Meta, plan: Plan) -> str:
    """Waits until nothing is due; words when that never came."""
    if not plan.slow:  # the tokens that Meta refuses stay refused, or nobody would have to mend them
        meta.sandbox.clear_faults(general=True)
    end = time.monotonic() + (600 if plan.slow else 60)
    while time.monotonic() < end:
        with reading(engine) as conn:
            due = conn.scalar(text("SELECT count(*) FROM capi_outbox WHERE state = 'due'"))
            held = conn.scalar(text("SELECT count(*) FROM capi_pixel WHERE lease_until > NOW()"))
        if not due and not held:
            return ""
        time.sleep(0.25)
    return f"{due:,} events are still due"


def _result(
    engine: Engine,
    front: Storefront,
    meta: Meta,
    cast: Cast,
    machines: Machines,
    seconds: tuple[float, float],
    stuck: str,
) -> Result:
    callers = meta.callers()
    exchanged = Counter(call["fingerprint"] for call in meta.sandbox.calls("exchange"))
    with reading(engine) as conn:
        refused = conn.scalar(text("SELECT count(*) FROM capi_attempt WHERE failure IS NOT NULL"))
    return Result(
        ledger=reckon(engine, front.answered, meta.sandbox.events()),
        calls=front.seen,
        by_worker={version(n): callers["acknowledged"].get(version(n), 0) for n in range(1, machines.count + 1)},
        requests=meta.sandbox.count("events"),
        refused=int(refused or 0),
        interrupted=cast.interrupted,
        exchanges={token.fingerprint: exchanged[token.fingerprint] for token in (*cast.ended, *cast.refused)},
        intake_seconds=seconds[0],
        seconds=seconds[1],
        stuck=stuck,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--events", type=int, default=Plan.events)
    options.add_argument("--pixels", type=int, default=Plan.pixels)
    options.add_argument("--logs", type=Path, help="a folder that keeps the processes' logs")
    given = options.parse_args()
    logging.disable(logging.CRITICAL)
    end_in_order()
    with tempfile.TemporaryDirectory() as scratch, postgres() as server:
        folder = given.logs or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        result = trial(server.url(), folder, Plan(events=given.events, pixels=given.pixels))
    print(result.table())
    sys.exit(0 if result.holds else 1)


if __name__ == "__main__":
    main()
