"""Meta is away for two hours: how often it is called meanwhile, and how what waited comes back.

    python -m tests.outage [--hours 2]          time-lapsed: the product's services, database and HTTP, a moved clock
    python -m tests.outage --real [--minutes 10] an endpoint's events, two worker processes, the clock on the wall

The time-lapsed form does what a worker's sweep does, every two seconds of its clock. The real form shows the same
machinery in processes of its own, with a shorter outage.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from core.meta.graph import Graph
from core.sandbox.background import running as standing_here
from core.sandbox.state import State
from core.secret import Secret
from core.services import probing, watch
from core.services.delivery import deliver
from core.services.policy import Policy
from core.store import acceptance, migrate
from core.store import incidents as kept_incidents
from core.store.apps import App
from core.store.database import open_engine, reading, writing
from core.store.schema import capi_event
from core.store.wake import Work
from tests.drills.meta import standing_in
from tests.drills.reckoning import Ledger, reckon, table
from tests.drills.server import postgres
from tests.processes import end_in_order, environment, eventually, running
from tests.services.interleavings import hasten
from tests.services.timed import Clock
from tests.world import APP_ID, APP_SECRET, World

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
CALLS = ("events", "debug", "exchange", "pixel")
# The promise.
WHILE_OPEN, DRAINED_WITHIN, ON_RETURN = 0.05, 30.0, 1.5


@dataclass
class Plan:
    """`every`: seconds between two events of one shop; `before`, `away`: minutes; `tick`: seconds between sweeps."""

    shops: int = 12
    every: float = 6.0
    before: float = 15.0
    away: float = 120.0
    after: float = 35.0
    tick: float = 2.0


@dataclass
class Outage:
    """Calls by minute, minute 0 the first in which Meta is away. `opened`: minutes after which everybody stopped."""

    plan: Plan
    form: str
    minutes: dict[int, int] = field(default_factory=dict)
    waited: int = 0
    opened: float | None = None
    drained: float | None = None
    ledger: Ledger | None = None
    seconds: float = 0.0

    @property
    def normal(self) -> float:
        """Calls a minute before, without the first minutes, in which the flow begins."""
        counted = [self.minutes.get(m, 0) for m in range(-int(self.plan.before) + 2, 0)]
        return sum(counted) / len(counted)

    @property
    def while_open(self) -> float:
        """Calls a minute from the first whole minute in which the incident was open."""
        first, last = int(self.opened or 0) + 1, int(self.plan.away)
        return sum(self.minutes.get(m, 0) for m in range(first, last)) / max(1, last - first)

    @property
    def fastest(self) -> int:
        """The most calls in one minute after Meta was back."""
        return max((count for m, count in self.minutes.items() if m >= int(self.plan.away)), default=0)

    @property
    def most(self) -> float:
        """What may be called in a minute on return: so slow a flow that nobody minds is not slowed down."""
        return max(ON_RETURN * self.normal, probing.FEWEST)

    @property
    def holds(self) -> bool:
        assert self.ledger is not None
        whole = self.ledger.balances and set(self.ledger.states) == {"delivered"}
        few = self.opened is not None and self.while_open <= WHILE_OPEN * self.normal
        soon = self.drained is not None and self.drained <= DRAINED_WITHIN
        # A window of ten seconds is counted off; a minute that begins in one's middle holds a part of it more.
        return whole and few and soon and self.fastest <= self.most * 7 / 6

    def table(self) -> str:
        assert self.ledger is not None
        share = f"{self.while_open / self.normal:.1%} of before (allowed: {WHILE_OPEN:.0%})"
        rows = {
            "form": self.form,
            "calls a minute before": f"{self.normal:.1f}",
            "everybody stopped after": "never" if self.opened is None else f"{self.opened * 60:.0f} s",
            "calls a minute while it was open": f"{self.while_open:.2f}, {share}",
            "waiting when Meta was back": f"{self.waited:,} events",
            "sent within": "never"
            if self.drained is None
            else f"{self.drained:.1f} minutes (allowed: {DRAINED_WITHIN:g})",
            "calls in one minute on return, at most": f"{self.fastest}, {self.fastest / self.normal:.2f} × before",
            "ledger": self.ledger.account(),
            "lost": str(len(self.ledger.lost)),
            "calls by minute": self.line(),
            "duration": f"{self.seconds:,.0f} s",
        }
        return table(rows, holds=self.holds)

    def line(self) -> str:
        """Every minute from the last five before to the drained one, runs of one number drawn together."""
        last = int(self.plan.away + (self.drained or 0) + 4)
        parts = [
            f"{what} " + " ".join(_runs([self.minutes.get(m, 0) for m in span]))
            for what, span in (
                ("before", range(-5, 0)),
                ("| away", range(int(self.plan.away))),
                ("| back", range(int(self.plan.away), last)),
            )
        ]
        return " ".join(parts)


def _runs(counts: list[int]) -> Iterator[str]:
    for count, run in itertools.groupby(counts):
        length = len(list(run))
        yield f"{count}" if length == 1 else f"{count}×{length}"


def simulate(engine: Engine, plan: Plan) -> Outage:
    """Time-lapsed, on this migrated, empty database."""
    started = time.monotonic()
    outage = Outage(plan, f"time-lapsed, {plan.away / 60:g} hours, a sweep every {plan.tick:g} s")
    state = State(app_id=APP_ID, app_secret=Secret(APP_SECRET))
    with standing_here(state) as meta:
        clock = Clock(START)
        state.set_clock(START.timestamp())
        world = World(engine, meta, clock=clock)
        graph = world.graph()
        flow = Flow(world, [world.an_app(meta.create_token()) for _ in range(plan.shops)], plan)
        gone, back = START + plan.before * MINUTE, START + (plan.before + plan.away) * MINUTE
        seen = 0
        while clock() < back + plan.after * MINUTE:
            if bool(state.faults) is not (gone <= clock() < back):
                meta.clear_faults() if state.faults else meta.fault("any", "transient_2")
            flow.until(clock())
            _look(engine, outage, clock(), gone, back)
            _sweep(world, graph)
            made = sum(state.counts[kind] for kind in CALLS)
            minute = int((clock() - gone) // MINUTE)
            outage.minutes[minute] = outage.minutes.get(minute, 0) + made - seen
            seen = made
            if outage.drained is not None and clock() > back + (outage.drained + 5) * MINUTE:
                break
            clock.on(plan.tick * SECOND)
            state.set_clock(clock().timestamp())
        for _ in range(40):  # what is left of the flow goes out
            clock.on(10 * SECOND)
            _sweep(world, graph)
        outage.ledger = reckon(engine, flow.ids, meta.events())
        graph.close()
    outage.seconds = time.monotonic() - started
    return outage


@dataclass
class Flow:
    """Each shop has an event every so often."""

    world: World
    shops: list[App]
    plan: Plan
    ids: list[str] = field(default_factory=list)

    def until(self, now: datetime) -> None:
        """What has happened since the start and is not written yet; the shops take turns."""
        due = range(len(self.ids), int((now - START) / SECOND / self.plan.every * len(self.shops)))
        events = [self.world.new_event(self.shops[n % len(self.shops)]) for n in due]
        if events:
            with writing(self.world.engine) as conn:
                acceptance.accept(conn, events, now=self.world.clock())
        self.ids += [event.event_id for event in events]


def _sweep(world: World, graph: Graph) -> None:
    """What a worker does, at this moment."""
    policy = Policy(app_id=APP_ID)
    road: dict[str, Any] = {"policy": policy, "by": "worker-1", "clock": world.clock}
    probing.probe_incidents(world.engine, graph, **road)
    for work, subject in watch.due_work(world.engine, now=world.clock()):
        if work is Work.DELIVER:
            deliver(world.engine, graph, subject, **road)


def _look(engine: Engine, outage: Outage, now: datetime, gone: datetime, back: datetime) -> None:
    """When the incident opened, how much waited at the end, and when all of that had been sent."""
    if outage.opened is not None and (now < back or outage.drained is not None):
        return
    with reading(engine) as conn:
        if outage.opened is None and kept_incidents.is_open(conn):
            outage.opened = (now - gone) / MINUTE
        if now >= back and outage.drained is None:
            e = capi_event.c
            old = select(func.count()).where(e.state == "due", e.received_at < back)
            left = conn.scalar(old) or 0
            outage.waited = max(outage.waited, left)
            outage.drained = (now - back) / MINUTE if not left else None


def real(plan: Plan, folder: Path) -> Outage:
    """With processes of its own, and the clock on the wall."""
    started = time.monotonic()
    outage = Outage(plan, f"two worker processes on PostgreSQL, {plan.away:g} minutes of real time")
    with contextlib.ExitStack() as ends:
        server = ends.enter_context(postgres())
        meta = ends.enter_context(standing_in(folder))
        engine = open_engine(server.url())
        ends.callback(engine.dispose)
        world = World(engine, meta.sandbox)
        flow = Flow(world, [world.an_app(meta.sandbox.create_token()) for _ in range(plan.shops)], plan)
        env = environment(server.url(), meta.sandbox.url)
        for n in (1, 2):
            worker = ends.enter_context(running("worker", env=env, log=folder / f"worker-{n}.log"))
            log = worker.log
            eventually(lambda log=log: "worker started" in log.read_text(), within=60, saying=log.read_text)
        _play(world, flow, outage)
        outage.ledger = reckon(engine, flow.ids, meta.sandbox.events())
    outage.seconds = time.monotonic() - started
    return outage


def _play(world: World, flow: Flow, outage: Outage) -> None:
    """Before, away, back, by the clock on the wall."""
    plan, began = outage.plan, world.clock()
    gone, back = began + plan.before * MINUTE, began + (plan.before + plan.away) * MINUTE
    faulty = False
    seen = 0
    while (now := world.clock()) < back + plan.after * MINUTE:
        if faulty is not (gone <= now < back):
            world.meta.clear_faults() if faulty else world.meta.fault("any", "transient_2")
            faulty = not faulty
        flow.until(START + (now - began))
        made = sum(world.meta.stats()["calls"].get(kind, 0) for kind in CALLS)
        minute = int((now - gone) // MINUTE)
        outage.minutes[minute] = outage.minutes.get(minute, 0) + made - seen
        seen = made
        _look(world.engine, outage, now, gone, back)
        if outage.drained is not None and now > back + (outage.drained + 3) * MINUTE:
            break
        time.sleep(0.25)
    with contextlib.suppress(AssertionError):
        eventually(lambda: set(world.states()) == {"delivered"}, within=120)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--hours", type=float, default=2.0, help="of the time-lapsed form")
    options.add_argument("--real", action="store_true")
    options.add_argument("--minutes", type=float, default=10.0, help="of the real form")
    given = options.parse_args()
    logging.disable(logging.CRITICAL)
    end_in_order()
    with tempfile.TemporaryDirectory() as folder:
        if given.real:
            outage = real(Plan(before=12.0, away=given.minutes), Path(folder))
        else:
            engine = open_engine(f"sqlite:///{Path(folder) / 'outage.db'}")
            hasten(engine)
            migrate.prepare(engine)
            outage = simulate(engine, Plan(away=60 * given.hours))
            engine.dispose()
    print(outage.table())
    sys.exit(0 if outage.holds else 1)


if __name__ == "__main__":
    main()
