"""Meta is away for minutes, by the clock on the wall: two worker processes, and events that keep coming in."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from sqlalchemy import Engine

from core.drills.meta import Meta
from core.drills.outage import CALLS, MINUTE, START, Flow, Outage, Plan, look
from core.drills.processes import environment, eventually, running
from core.drills.reckoning import first_alert, reckon
from core.drills.shops import Shops


def trial(engine: Engine, url: str, meta: Meta, folder: Path, plan: Plan) -> Outage:
    """The trial on this migrated, empty database."""
    started = time.monotonic()
    outage = Outage(plan, f"two worker processes, {plan.away:g} minutes of real time")
    shops = Shops(engine, meta.sandbox)
    flow = Flow(shops, [shops.an_app(meta.sandbox.create_token()) for _ in range(plan.shops)], plan)
    env = environment(url, meta.sandbox.url)
    with contextlib.ExitStack() as ends:
        for n in (1, 2):
            worker = ends.enter_context(running("worker", env=env, log=folder / f"worker-{n}.log"))
            worker.started()
        _play(flow, outage)
        outage.ledger = reckon(engine, flow.ids, meta.sandbox.events())
    outage.seconds = time.monotonic() - started
    return outage


def _play(flow: Flow, outage: Outage) -> None:
    """Before, away, back, by the clock on the wall."""
    plan, shops = outage.plan, flow.shops
    began = shops.clock()
    gone, back = began + plan.before * MINUTE, began + (plan.before + plan.away) * MINUTE
    faulty = False
    seen = 0
    while (now := shops.clock()) < back + plan.after * MINUTE:
        if faulty is not (gone <= now < back):
            shops.meta.clear_faults() if faulty else shops.meta.fault("any", "transient_2")
            faulty = not faulty
        if now >= gone and outage.alert_after is None:
            outage.alert_after = first_alert(shops.engine, since=gone)
        flow.until(START + (now - began))
        made = sum(shops.meta.stats()["calls"].get(kind, 0) for kind in CALLS)
        minute = int((now - gone) // MINUTE)
        outage.minutes[minute] = outage.minutes.get(minute, 0) + made - seen
        seen = made
        look(shops.engine, outage, now, gone, back)
        if outage.drained is not None and now > back + (outage.drained + 3) * MINUTE:
            break
        time.sleep(0.25)
    with contextlib.suppress(AssertionError):
        eventually(lambda: set(shops.states()) == {"delivered"}, within=120)
