"""Events that Meta will never take, among others: alone, three in a batch, and a whole shop full of them.

They are written past the endpoint, which lets none of them in; fresh events of other shops are reported by HTTP
meanwhile. https://developers.facebook.com/docs/marketing-api/conversions-api/using-the-api: one bad event has Meta
refuse its whole batch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from core import clock
from core.drills.crash import is_quiet
from core.drills.crew import Crew
from core.drills.processes import eventually
from core.drills.reckoning import reckon
from core.drills.report import Report
from core.drills.stage import Stage
from core.drills.storefront import Call, Storefront
from core.store import acceptance
from core.store.apps import App
from core.store.database import chunks, reading, writing
from core.store.schema import capi_event

CREW = ("endpoint-1", "worker-1")
# In an event's personal data, which must be hashed.
POISON: dict[str, Any] = {"user_data": {"client_user_agent": "Mozilla/5.0", "em": ["plain@example.com"]}}
# The promise: bad events of a thousand → requests in all, at most.
MOST = {1: 21, 3: 60}
FRESH_WITHIN = 5.0


@dataclass
class Plan:
    """`batch`: events of the shops that have few bad ones; `full`: of the shop that has nothing else; `fresh`: of
    others, one every `pace` seconds."""

    batch: int = 1_000
    full: int = 200
    fresh: int = 400
    pace: float = 0.05


SHORT = Plan(full=60, fresh=60)


def trial(stage: Stage, plan: Plan) -> Report:
    """The drill on this stage."""
    shops, meta = stage.shops, stage.meta.sandbox
    one, three, full, *others = (shops.an_app(meta.create_token()) for _ in range(8))
    written = [*_write(stage, one, plan.batch, 1), *_write(stage, three, plan.batch, 3)]
    written += _write(stage, full, plan.full, plan.full)
    bad = [id_ for id_ in written if id_.startswith("bad-")]
    crew = Crew(stage)
    front = Storefront([crew.url(CREW[0])])
    try:
        crew.up(*CREW)
        started = time.monotonic()
        for n in range(plan.fresh):
            front.call(Call(others[n % len(others)], (f"fresh-{n}",)))
            time.sleep(plan.pace)
        eventually(lambda: is_quiet(stage), within=120, saying=lambda: str(shops.states()))
        drained = time.monotonic() - started
    finally:
        crew.end()
    heard = meta.events()
    at = {event["event_id"]: event["at"] for event in heard}
    slowest = max(at[id_] - sent for id_, sent in front.sent.items())
    ledger = reckon(stage.engine, [*front.answered, *written], heard)
    asked = Counter(call["pixel"] for call in meta.calls("events"))
    few = {count: asked[str(app.pixel_id)] for count, app in ((1, one), (3, three))}
    dead = _dead(stage)
    within = all(few[count] <= MOST[count] for count in MOST) and slowest <= FRESH_WITHIN
    holds = ledger.balances and within and dead == set(bad) and not ledger.states["due"]
    more = {
        "ended as dead": f"{len(dead & set(bad)):,} of {len(bad):,} bad events, {len(dead - set(bad))} others",
        "fresh events meanwhile": f"{len(front.sent):,}, at Meta within {slowest:.2f} s (allowed: {FRESH_WITHIN:g} s)",
        "database": stage.database,
    }
    more |= {
        f"requests for {plan.batch:,} events, {count} bad": f"{found} (allowed: {MOST[count]})"
        for count, found in few.items()
    }
    figures = {"requests_one_bad": few[1], "requests_three_bad": few[3], "fresh_slowest": round(slowest, 3)}
    return Report(holds, ledger, backlog_after=drained, more=more, figures=figures)


def _write(stage: Stage, app: App, count: int, bad: int) -> list[str]:
    """So many events of a shop, the bad ones spread among them; their ids."""
    every = max(1, count // bad)
    spoiled = set(range(every // 2, count, every)[:bad])
    shops = stage.shops
    events = [
        shops.new_event(app, event_id=f"bad-{app.id}-{n}", **POISON)
        if n in spoiled
        else shops.new_event(app, event_id=f"good-{app.id}-{n}")
        for n in range(count)
    ]
    # At once, so that Meta gets them in one batch.
    with writing(stage.engine) as conn:
        for some in chunks(events, 500):
            acceptance.accept(conn, some, now=clock.now())
    return [event.event_id for event in events]


def _dead(stage: Stage) -> set[str]:
    e = capi_event.c
    ended: Sequence[str]
    with reading(stage.engine) as conn:
        ended = conn.scalars(select(e.event_id).where(e.state == "dead", e.failure == "invalid_event")).all()
    return set(ended)
