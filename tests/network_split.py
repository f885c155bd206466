"""One of two workers is cut off from the database for a minute, mid-drain, and finds its way back.

    python -m tests.network_split [--seconds 60]

Each worker lives in a network namespace of its own (root and `ip` are needed), with one wire to the database and one
to Meta. The cut takes the first away without a word: no packet passes, no connection is closed. `tests/trials/` has the
same with a relay that falls silent, which runs everywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine, text

from core.clock import now as real_now
from core.drills.meta import Meta, standing_in, version
from core.drills.processes import Process, end_in_order, environment, eventually
from core.drills.reckoning import Ledger, reckon, table
from core.store import acceptance
from core.store.apps import App
from core.store.database import open_engine, reading, writing
from core.store.pixels import LEASE
from tests.drills.server import postgres
from tests.world import World

THREADS = 8
CUT_OFF, OTHER = 1, 2


class Wires(Protocol):
    """How each worker reaches the database and Meta, and how the first wire is taken away."""

    prefix: dict[int, tuple[str, ...]]

    def database_url(self, _worker: int) -> str: ...
    def graph_url(self, _worker: int) -> str: ...
    def cut(self, worker: int) -> None: ...
    def heal(self, worker: int) -> None: ...


@dataclass
class Plan:
    """`hasten`: leases of the worker that is cut off are over at once, instead of half a minute later."""

    seconds: float = 60.0
    pixels: int = 150
    backlog: int = 40
    latency: float = 0.7
    hasten: bool = False


@dataclass
class Split:
    """What was seen. Times in seconds: `taken_over` since the cut, `noticed` since the cut, `back` since it was healed.

    `during`: requests that the cut-off worker made more than one request's time after the cut; `held`: pixels that it
    had a lease of; `again`: events that Meta has twice, by pixel.
    """

    plan: Plan
    ledger: Ledger
    held: set[str]
    again: dict[str, int]
    during: int
    taken_over: dict[str, float] = field(default_factory=dict)
    noticed: float | None = None
    back: float | None = None
    alone: int = 0

    @property
    def holds(self) -> bool:
        bounded = set(self.again) <= self.held and len(self.again) <= THREADS
        returned = self.back is not None and self.alone > 0
        in_time = not self.taken_over or max(self.taken_over.values()) <= LEASE.total_seconds() + 25
        return self.ledger.balances and not self.ledger.states["due"] and bounded and returned and in_time

    def table(self) -> str:
        slowest = f"{max(self.taken_over.values()):.1f} s" if self.taken_over else "nothing was left"
        rows = {
            "cut off for": f"{self.plan.seconds:g} s",
            "ledger": self.ledger.account(),
            "lost": str(len(self.ledger.lost)),
            "pixels the cut-off worker held": str(len(self.held)),
            "taken over by the other, last of them after": slowest,
            "sent twice": f"{sum(self.again.values())} events of {len(self.again)} pixels ({THREADS} threads)",
            "of pixels that were not held": str(len(set(self.again) - self.held)),
            "requests of the cut-off worker meanwhile": str(self.during),
            "it noticed after": "it never did" if self.noticed is None else f"{self.noticed:.1f} s",
            "it worked again after the wire was back": "never" if self.back is None else f"{self.back:.1f} s",
            "and delivered alone, the other one stopped": f"{self.alone} events",
        }
        return table(rows, holds=self.holds)


@dataclass
class Feed:
    """Backlog and fresh events, written as the endpoint writes them; every id that was."""

    world: World
    shops: list[App]
    ids: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def one(self, shop: App) -> None:
        self.ids.append(self.world.an_event(shop))

    def pile_up(self, each: int) -> None:
        """So many events of every shop, all at once: both workers have enough to do."""
        events = [self.world.new_event(shop) for shop in self.shops for _ in range(each)]
        with writing(self.world.engine) as conn:
            acceptance.accept(conn, events, now=real_now())
        self.ids += [event.event_id for event in events]

    def go_on(self) -> None:
        """Two events a second until `ended`."""
        while not self.ended.wait(0.5):
            self.one(random.choice(self.shops))


def trial(engine: Engine, meta: Meta, wires: Wires, folder: Path, plan: Plan) -> Split:
    """The trial on this migrated, empty PostgreSQL database."""
    world = World(engine, meta.sandbox)
    feed = Feed(world, [world.an_app(meta.sandbox.create_token()) for _ in range(plan.pixels)])
    meta.sandbox.fault("events", "latency", seconds=plan.latency)
    with contextlib.ExitStack() as ends:
        one, two = workers = [_worker(n, wires, folder, ends) for n in (CUT_OFF, OTHER)]
        for worker in workers:
            eventually(lambda log=worker.log: "worker started" in log.read_text(), within=60)
        feed.pile_up(plan.backlog)
        eventually(lambda: len(_held(engine, one)) >= THREADS // 2, within=60, saying=one.log.read_text)
        time.sleep(plan.latency / 2)  # requests are under way
        feeding = threading.Thread(target=feed.go_on, name="feed")
        feeding.start()
        ends.callback(feeding.join)
        ends.callback(feed.ended.set)
        held, cut_at = _held(engine, one), time.time()
        wires.cut(CUT_OFF)
        held |= _held(engine, one)
        taken_over, noticed = _watch(engine, one, held, cut_at, plan)
        wires.heal(CUT_OFF)
        healed_at = time.time()
        back = _back(meta, healed_at)
        feed.ended.set()
        feeding.join()
        _drain(engine, two)
        two.stop(60)
        alone = _alone(engine, meta, feed)
        log = meta.callers()["log"]
        ends.pop_all().close()
    late = cut_at + plan.latency + 1.0
    during = sum(caller == version(CUT_OFF) and late < at < healed_at for at, caller, *_ in log)
    heard = meta.sandbox.events()
    return Split(plan, reckon(engine, feed.ids, heard), held, _again(heard), during, taken_over, noticed, back, alone)


def _worker(n: int, wires: Wires, folder: Path, ends: contextlib.ExitStack) -> Process:
    own = {"CAPI_GRAPH_VERSION": version(n), "CAPI_WORKER_THREADS": str(THREADS), "CAPI_ALLOW_ANY_GRAPH_URL": "true"}
    env = environment(wires.database_url(n), wires.graph_url(n), **own)
    worker = Process("worker", env=env, log=folder / f"worker-{n}.log", prefix=wires.prefix.get(n, ()))
    ends.callback(lambda: worker.popen.poll() is None and worker.kill())
    return worker


def _held(engine: Engine, worker: Process) -> set[str]:
    held = "SELECT pixel_id FROM capi_pixel WHERE lease_by LIKE :mine"
    with reading(engine) as conn:
        return set(conn.scalars(text(held), {"mine": f"%:{worker.popen.pid}:%"}))


def _watch(
    engine: Engine, cut_off: Process, held: set[str], cut_at: float, plan: Plan
) -> tuple[dict[str, float], float | None]:
    """While the cut lasts: when the other had taken each pixel over, and when the log said: the database is away."""
    taken_over: dict[str, float] = {}
    noticed: float | None = None
    if plan.hasten:
        time.sleep(2 * plan.latency)
        with writing(engine) as conn:
            over = "UPDATE capi_pixel SET lease_until = NULL WHERE lease_by LIKE :mine"
            conn.execute(text(over), {"mine": f"%:{cut_off.popen.pid}:%"})
    while time.time() < cut_at + plan.seconds or (plan.hasten and not taken_over and time.time() < cut_at + 60):
        for pixel in held - set(taken_over) - _held(engine, cut_off):
            taken_over[pixel] = time.time() - cut_at
        if noticed is None and "the database is away" in cut_off.log.read_text():
            noticed = time.time() - cut_at
        time.sleep(0.1)
    return taken_over, noticed


def _back(meta: Meta, healed_at: float) -> float | None:
    """When the worker made its first request that began after the wire was back."""
    end = time.time() + 180
    while time.time() < end:
        for at, caller, *_ in meta.callers()["log"]:
            if caller == version(CUT_OFF) and at > healed_at + 1.0:
                return float(at - healed_at)
        time.sleep(0.2)
    return None


def _drain(engine: Engine, worker: Process) -> None:
    def is_empty() -> bool:
        with reading(engine) as conn:
            return not conn.scalar(text("SELECT count(*) FROM capi_outbox WHERE state = 'due'"))

    eventually(is_empty, within=180, saying=worker.log.read_text)


def _alone(engine: Engine, meta: Meta, feed: Feed) -> int:
    """Events that only the worker that was cut off can deliver."""
    before = meta.callers()["acknowledged"].get(version(CUT_OFF), 0)
    for shop in feed.shops[:20]:
        feed.one(shop)
    with contextlib.suppress(AssertionError):
        eventually(lambda: meta.callers()["acknowledged"].get(version(CUT_OFF), 0) >= before + 20, within=60)
    time.sleep(1)
    return int(meta.callers()["acknowledged"].get(version(CUT_OFF), 0) - before)


def _again(heard: list[dict[str, Any]]) -> dict[str, int]:
    times = Counter((event["pixel"], event["event_id"]) for event in heard)
    again: Counter[str] = Counter()
    for (pixel, _), count in times.items():
        again[pixel] += count - 1
    return {pixel: count for pixel, count in again.items() if count}


class Namespaces:
    """Two bridges, and for each worker a namespace with a wire to both."""

    SUBNET = "10.231"

    def __init__(self, database_port: int, meta_port: int) -> None:
        self.database_port, self.meta_port = database_port, meta_port
        self.prefix = {n: ("ip", "netns", "exec", f"capi-w{n}") for n in (CUT_OFF, OTHER)}

    def database_url(self, _worker: int) -> str:
        return f"postgresql://postgres@{self.SUBNET}.1.1:{self.database_port}/postgres"

    def graph_url(self, _worker: int) -> str:
        return f"http://{self.SUBNET}.2.1:{self.meta_port}"

    def cut(self, worker: int) -> None:
        _ip(f"link set capi1-{worker} nomaster")

    def heal(self, worker: int) -> None:
        _ip(f"link set capi1-{worker} master capi-br1")

    def make(self) -> None:
        for net in (1, 2):
            _ip(f"link add capi-br{net} type bridge", f"addr add {self.SUBNET}.{net}.1/24 dev capi-br{net}")
            _ip(f"link set capi-br{net} up")
        for n in self.prefix:
            _ip(f"netns add capi-w{n}", f"netns exec capi-w{n} ip link set lo up")
            for net in (1, 2):
                host, inside = f"capi{net}-{n}", f"wire{net}"
                _ip(f"link add {host} type veth peer name {inside} netns capi-w{n}")
                _ip(f"link set {host} master capi-br{net} up")
                _ip(f"-n capi-w{n} addr add {self.SUBNET}.{net}.{10 + n}/24 dev {inside}")
                _ip(f"-n capi-w{n} link set {inside} up")

    def remove(self) -> None:
        for n in self.prefix:
            subprocess.run(["ip", "netns", "del", f"capi-w{n}"], check=False, stderr=subprocess.DEVNULL)
        for net in (1, 2):
            subprocess.run(["ip", "link", "del", f"capi-br{net}"], check=False, stderr=subprocess.DEVNULL)


def _ip(*commands: str) -> None:
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)


@contextlib.contextmanager
def namespaces(database_port: int, meta_port: int) -> Iterator[Namespaces]:
    made = Namespaces(database_port, meta_port)
    try:
        made.make()
        yield made
    finally:
        made.remove()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=Plan.seconds)
    options.add_argument("--logs", type=Path, help="a folder that keeps the processes' logs")
    given = options.parse_args()
    if os.geteuid() != 0 or shutil.which("ip") is None:
        sys.exit("network namespaces need root and the command `ip` (package iproute2)")
    logging.disable(logging.CRITICAL)
    end_in_order()
    with contextlib.ExitStack() as ends:
        folder = given.logs or Path(ends.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        server = ends.enter_context(postgres(networks=f"{Namespaces.SUBNET}.0.0/16"))
        meta = ends.enter_context(standing_in(folder, host="0.0.0.0"))
        wires = ends.enter_context(namespaces(server.port, meta.port))
        engine = open_engine(server.url())
        ends.callback(engine.dispose)
        split = trial(engine, meta, wires, folder, Plan(seconds=given.seconds))
    print(split.table())
    sys.exit(0 if split.holds else 1)


if __name__ == "__main__":
    main()
