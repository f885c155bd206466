"""kill -9 anywhere: two endpoints and two workers are killed at random while shops report and tokens break.

Whoever was killed is started again, over and over. Then each failpoint is hit (`core.drills.crash_places`), and in the
end every event that was answered with success must be at Meta or in our hands.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sqlalchemy import func, select, text

from core.drills.crash_places import Places
from core.drills.crew import PATIENCE, Crew
from core.drills.processes import eventually
from core.drills.reckoning import reckon
from core.drills.report import Report
from core.drills.stage import Stage
from core.drills.storefront import Call, Storefront
from core.secret import Secret
from core.store import keyring, pixels, rekey
from core.store.apps import App
from core.store.database import is_embedded, reading
from core.store.schema import capi_outbox, capi_token

ENDPOINTS, WORKERS = ("endpoint-1", "endpoint-2"), ("worker-1", "worker-2")
FORM = "the product's own processes; what a killed one held is free at once, as if its lease were over"
# One kill in so many comes while the process is still starting.
WHILE_STARTING = 6
# What a killed worker held must be gone so soon after its lease is over, in seconds.
AFTER_LEASE = 5.0


@dataclass
class Plan:
    """`kills` at random; each failpoint so many `times`; `shops` that report, `every` seconds a token that breaks.

    `recovery`: one kill whose leases run out by themselves, timed.
    """

    kills: int = 500
    times: int = 20
    shops: int = 24
    every: float = 1.0
    recovery: bool = True


SHORT = Plan(kills=8, times=1, shops=8, every=0.5, recovery=False)


@dataclass
class Trade:
    """What goes on meanwhile: shops report, and now and then a merchant's token passes its stored end."""

    stage: Stage
    front: Storefront
    plan: Plan
    broken: list[Secret] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    _serial: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def hands(self, number: int) -> Iterator[ThreadPoolExecutor]:
        """Threads of which whoever asks hears the result; when anything fails, the others end instead of waiting."""
        with ThreadPoolExecutor(number, "drill") as pool:
            try:
                yield pool
            except BaseException:
                self.ended.set()
                self.front.stopped.set()
                raise

    def report(self, app: App, count: int = 1) -> None:
        """One call, sent again until it is answered."""
        with self._lock:
            first = self._serial
            self._serial += count
        self.front.call(Call(app, tuple(f"drill-{n}" for n in range(first, first + count))))

    def go_on(self, apps: list[App]) -> None:
        """Calls of one to five events until `ended`."""
        chance = random.Random()
        while not self.ended.wait(chance.uniform(0.05, 0.25)):
            self.report(chance.choice(apps), chance.randint(1, 5))

    def break_tokens(self) -> None:
        """A merchant with two apps, whose token is past its stored end and works at Meta, every so often."""
        while not self.ended.wait(self.plan.every):
            for app in self.a_broken_merchant():
                self.report(app)

    def a_broken_merchant(self) -> list[App]:
        shops, n = self.stage.shops, len(self.broken)
        token = shops.meta.create_token(user=str(5_000 + n), expires_in=20 * 86_400)
        self.broken.append(token)
        return [shops.an_app(token, expires_in=-timedelta(hours=1), email=f"broken{n}@example.com") for _ in range(2)]


def trial(stage: Stage, plan: Plan) -> Report:
    """The drill on this stage."""
    keys = [keyring.new_key(), keyring.new_key()]
    rekey.use(stage.engine, [Secret(key) for key in keys])
    crew = Crew(stage, more={"CAPI_ENCRYPTION_KEYS": ",".join(keys)})
    trade = Trade(stage, Storefront([crew.url(name) for name in ENDPOINTS]), plan)
    stage.meta.sandbox.fault("events", "latency", seconds=0.03)
    stage.meta.sandbox.fault("exchange", "latency", seconds=0.1)
    try:
        killed = _at_random(crew, trade, plan) if plan.kills else 0
        answered = len(trade.front.answered)
        waited = _calm(crew, trade)
        places = Places(crew, trade, keys)
        for n in range(plan.times):
            stage.tell(f"failpoints: round {n + 1} of {plan.times}")
            places.round()
        recovered = _recovery(crew, trade) if plan.recovery else None
        report = _reckoned(crew, trade, places, plan, waited, recovered)
        return played(report, plan, killed, answered)
    finally:
        trade.ended.set()
        crew.end()


def played(report: Report, plan: Plan, killed: int, answered: int) -> Report:
    """Nothing is shown by a drill that hardly took place: fewer kills than asked for, or no event beside them."""
    more = {"killed at random": f"{killed:,} times (asked for: {plan.kills:,}), {answered:,} events answered meanwhile"}
    enough = killed >= plan.kills and (answered > 0 or not plan.kills)
    return replace(report, holds=report.holds and enough, more=more | dict(report.more))


def _at_random(crew: Crew, trade: Trade, plan: Plan) -> int:
    """Every process has somebody who kills it and starts it again, until there were enough kills; how many."""
    stage = crew.stage
    apps = [stage.shops.an_app(stage.meta.sandbox.create_token()) for _ in range(plan.shops)]
    crew.up(*ENDPOINTS, *WORKERS)
    with trade.hands(9 + len((*ENDPOINTS, *WORKERS))) as pool:
        work = [pool.submit(trade.go_on, apps) for _ in range(8)] + [pool.submit(trade.break_tokens)]
        killers = [pool.submit(_kill_on, crew, trade, name) for name in (*ENDPOINTS, *WORKERS)]
        while not all(killer.done() for killer in killers):
            wait([*work, *killers], timeout=5 if plan.kills > 50 else 0.2, return_when=FIRST_EXCEPTION)
            for one in (*work, *killers):
                if one.done():
                    one.result()
            answered = len(trade.front.answered)
            stage.tell(f"random kills: {crew.kills.total()} of {plan.kills}, {answered:,} events answered")
        killed = crew.kills.total()
        crew.up(*(name for name in (*ENDPOINTS, *WORKERS) if name not in crew.running))
        trade.ended.set()
        for one in (*work, *killers):
            one.result()
    return killed


def _kill_on(crew: Crew, trade: Trade, name: str) -> None:
    """Kill it, now and then while it is still starting, else while it works; start it again."""
    chance = random.Random()
    while crew.kills.total() < trade.plan.kills and not trade.ended.is_set():
        if chance.randrange(WHILE_STARTING):
            end = time.monotonic() + PATIENCE
            while not crew.answers(name) and crew.running[name].popen.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(chance.uniform(0.0, 1.0))
        else:
            time.sleep(chance.uniform(0.0, 2.0))
        crew.kill(name)
        crew.start(name)


def _calm(crew: Crew, trade: Trade) -> float:
    """Everybody works again and nothing is due; the seconds that this took."""
    started = time.monotonic()
    trade.ended.set()
    crew.up(*(name for name in (ENDPOINTS[0], WORKERS[0]) if name not in crew.running))
    eventually(lambda: is_quiet(crew.stage), within=2 * PATIENCE, saying=crew.running[WORKERS[0]].log.read_text)
    took = time.monotonic() - started
    for name in [name for name in crew.running if name != ENDPOINTS[0]]:
        crew.kill(name)
    return took


def is_quiet(stage: Stage) -> bool:
    """Whether nothing is due and no token waits for its refresh."""
    o, t = capi_outbox.c, capi_token.c
    broken = t.broken_since.is_not(None) & t.needs_reconnect.is_(False)
    with reading(stage.engine) as conn:
        due = conn.scalar(select(func.count()).where(o.state == "due"))
        return not due and not conn.scalar(select(func.count()).where(broken))


def _recovery(crew: Crew, trade: Trade) -> float:
    """A worker dies in the middle of its requests, and nobody ends its leases: seconds until all has gone out."""
    stage = crew.stage
    apps = [stage.shops.an_app(stage.meta.sandbox.create_token()) for _ in range(8)]
    stage.meta.sandbox.fault("events", "latency", seconds=1.0)
    crew.up(WORKERS[0])
    for app in apps:
        trade.report(app, 3)
    before = stage.meta.sandbox.count("events")
    eventually(lambda: _held(stage), within=PATIENCE)
    crew.hasten = False
    crew.kill(WORKERS[0])
    started = time.monotonic()
    crew.up(WORKERS[1])
    eventually(lambda: is_quiet(stage), within=2 * PATIENCE, saying=lambda: str(stage.shops.states()))
    took = time.monotonic() - started
    stage.tell(f"recovery after {took:.1f} s, {stage.meta.sandbox.count('events') - before} requests")
    return took


def _held(stage: Stage) -> bool:
    with reading(stage.engine) as conn:
        return bool(conn.scalar(text("SELECT count(*) FROM capi_pixel WHERE lease_by IS NOT NULL")))


def _reckoned(crew: Crew, trade: Trade, places: Places, plan: Plan, waited: float, recovered: float | None) -> Report:
    stage = crew.stage
    ledger = reckon(stage.engine, [*trade.front.answered, *places.written], stage.meta.sandbox.events())
    called = [call["fingerprint"] for call in stage.meta.sandbox.calls("exchange")]
    exchanges = {one.fingerprint: called.count(one.fingerprint) for one in [*trade.broken, *places.broken]}
    allowed = pixels.LEASE.total_seconds() + AFTER_LEASE
    hits = sum(places.hits.values())
    more = {
        "killed at a failpoint": f"{hits:,} times, at each of {len(places.hits)} places {plan.times}",
        "fell by themselves": ", ".join(crew.fell) or "none",
        "places not reached, or not mended": ", ".join(places.missed) or "none",
        "database": f"{stage.database}, {_whole(stage)}",
    }
    if recovered is not None:
        more["recovery of what a killed worker held"] = f"{recovered:.1f} s (allowed: {allowed:g} s)"
    figures: dict[str, float | int | str] = {"kills": sum(crew.kills.values()), "failpoint_hits": hits}
    figures |= {} if recovered is None else {"recovery": round(recovered, 1)}
    report = Report(True, ledger, exchanges, crew.cut_short, None, waited, form=FORM, more=more, figures=figures)
    sound = not (crew.fell or places.missed or report.twice) and ledger.balances and _whole(stage) == "whole"
    mended = all(exchanges.values()) and (recovered is None or recovered <= allowed)
    return replace(report, holds=sound and mended)


def _whole(stage: Stage) -> str:
    """What SQLite says about its file after all that; PostgreSQL looks after its own."""
    if not is_embedded(stage.engine):
        return "whole"
    with reading(stage.engine) as conn:
        said = str(conn.scalar(text("PRAGMA integrity_check")))
    return "whole" if said == "ok" else said
