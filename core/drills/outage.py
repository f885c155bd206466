"""Meta is away for hours: how often it is called meanwhile, and how what waited comes back.

Time-lapsed, with the product's services, database and HTTP and a moved clock: what a worker's sweep does, every few
seconds of its clock. `core.drills.outage_real` shows the same machinery in processes of its own, for minutes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, func, select

from core.drills.reckoning import Ledger, reckon
from core.drills.report import Report
from core.drills.shops import APP_ID, APP_SECRET, Shops
from core.drills.timelapse import Clock
from core.meta.graph import Graph
from core.sandbox.background import running as standing_here
from core.sandbox.state import State
from core.secret import Secret
from core.services import probing, watch
from core.services.delivery import deliver
from core.services.policy import Policy
from core.store import acceptance
from core.store import incidents as kept_incidents
from core.store.apps import App
from core.store.database import reading, writing
from core.store.schema import capi_event
from core.store.wake import Work

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
CALLS: Final = ("events", "debug", "exchange", "pixel")
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
    real: bool = False  # in processes of its own, by the clock on the wall


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
    alert_after: float | None = None

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

    def report(self) -> Report:
        assert self.ledger is not None
        share = f"{self.while_open / self.normal:.1%} of before (allowed: {WHILE_OPEN:.0%})"
        sent = "never" if self.drained is None else f"{self.drained:.1f} minutes (allowed: {DRAINED_WITHIN:g})"
        more = {
            "calls a minute before": f"{self.normal:.1f}",
            "everybody stopped after": "never" if self.opened is None else f"{self.opened * 60:.0f} s",
            "calls a minute while it was open": f"{self.while_open:.2f}, {share}",
            "waiting when Meta was back": f"{self.waited:,} events",
            "sent within": sent,
            "calls in one minute on return, at most": f"{self.fastest}, {self.fastest / self.normal:.2f} × before",
            "calls by minute": self.line(),
            "duration": f"{self.seconds:,.0f} s",
        }
        figures = {"minutes_away": self.plan.away, "while_open": round(self.while_open / self.normal, 4)}
        figures |= {"on_return": round(self.fastest / self.normal, 2)}
        backlog = None if self.drained is None else self.drained * 60
        seen = {"alert_after": self.alert_after, "backlog_after": backlog, "form": self.form}
        return Report(self.holds, self.ledger, **seen, more=more, figures=figures)  # type: ignore[arg-type]

    def table(self) -> str:
        return self.report().table()

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
        shops = Shops(engine, meta, clock=clock)
        graph = Graph(base_url=meta.url, version="v24.0", app_id=APP_ID, app_secret=Secret(APP_SECRET))
        flow = Flow(shops, [shops.an_app(meta.create_token()) for _ in range(plan.shops)], plan)
        gone, back = START + plan.before * MINUTE, START + (plan.before + plan.away) * MINUTE
        seen = 0
        while clock() < back + plan.after * MINUTE:
            if bool(state.faults) is not (gone <= clock() < back):
                meta.clear_faults() if state.faults else meta.fault("any", "transient_2")
            flow.until(clock())
            look(engine, outage, clock(), gone, back)
            _sweep(shops, graph)
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
            _sweep(shops, graph)
        outage.ledger = reckon(engine, flow.ids, meta.events(), now=clock())
        graph.close()
    outage.seconds = time.monotonic() - started
    return outage


@dataclass
class Flow:
    """Each shop has an event every so often."""

    shops: Shops
    apps: list[App]
    plan: Plan
    ids: list[str] = field(default_factory=list)

    def until(self, now: datetime) -> None:
        """What has happened since the start and is not written yet; the shops take turns."""
        due = range(len(self.ids), int((now - START) / SECOND / self.plan.every * len(self.apps)))
        events = [self.shops.new_event(self.apps[n % len(self.apps)]) for n in due]
        if events:
            with writing(self.shops.engine) as conn:
                acceptance.accept(conn, events, now=self.shops.clock())
        self.ids += [event.event_id for event in events]


def _sweep(shops: Shops, graph: Graph) -> None:
    """What a worker does, at this moment."""
    policy = Policy(app_id=APP_ID)
    road: dict[str, Any] = {"policy": policy, "by": "worker-1", "clock": shops.clock}
    probing.probe_incidents(shops.engine, graph, **road)
    for work, subject in watch.due_work(shops.engine, now=shops.clock()):
        if work is Work.DELIVER:
            deliver(shops.engine, graph, subject, **road)


def look(engine: Engine, outage: Outage, now: datetime, gone: datetime, back: datetime) -> None:
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
