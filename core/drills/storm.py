"""Many tokens end at once, while their shops report: each is mended once, and what can never be is told of.

All pass their stored end at the same moment; Meta still takes most of them, and refuses the others for good.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update

from core import clock
from core.drills.crash import is_quiet
from core.drills.crew import Crew
from core.drills.processes import eventually
from core.drills.reckoning import first_alert, reckon
from core.drills.report import Report
from core.drills.shops import DAY
from core.drills.stage import Stage
from core.drills.storefront import Call, Storefront
from core.secret import Secret
from core.store.apps import App
from core.store.database import reading, writing
from core.store.platform_tables import app_settings
from core.store.schema import capi_token

CREW = ("endpoint-1", "worker-1", "worker-2")
# The alerts' own clockwork looks every quarter of a minute.
ALERT_WITHIN = 30.0


@dataclass
class Plan:
    """So many `tokens`, each held by two apps of one merchant; one in `gone` is refused by Meta for good."""

    tokens: int = 500
    gone: int = 10
    calls: int = 4
    drained_within: float = 300.0


SHORT = Plan(tokens=30, calls=2, drained_within=60.0)


@dataclass
class Cast:
    """The apps, the tokens that Meta still takes (`broken`), and those that it refuses for good (`gone`)."""

    apps: list[App]
    broken: list[Secret]
    gone: list[Secret]


def trial(stage: Stage, plan: Plan) -> Report:
    """The drill on this stage."""
    cast = _cast(stage, plan)
    stage.meta.sandbox.fault("exchange", "latency", seconds=0.2)
    crew = Crew(stage)
    front = Storefront([crew.url(CREW[0])])
    calls = (Call(app, (f"{app.id}-{n}",)) for n in range(plan.calls) for app in cast.apps)
    try:
        crew.up(*CREW)
        began, started = clock.now(), time.monotonic()
        _end_all(stage, cast, began)
        front.report(calls, threads=16)
        eventually(lambda: is_quiet(stage), within=plan.drained_within, saying=lambda: str(stage.shops.states()))
        drained = time.monotonic() - started
        told = {"since": began, "kind": "needs_reconnect"}
        alert = eventually(lambda: first_alert(stage.engine, **told), within=2 * ALERT_WITHIN)  # type: ignore[arg-type]
    finally:
        crew.end()
    return _report(stage, cast, front, plan, float(alert), drained)


def _cast(stage: Stage, plan: Plan) -> Cast:
    shops = stage.shops
    made = [shops.meta.create_token(user=str(2_000 + n), expires_in=20 * 86_400) for n in range(plan.tokens)]
    owned = [(token, f"owner{n}@example.com") for n, token in enumerate(made) for _ in range(2)]
    apps = [shops.an_app(token, expires_in=20 * DAY, email=owner) for token, owner in owned]
    return Cast(apps, [one for n, one in enumerate(made) if n % plan.gone], made[:: plan.gone])


def _end_all(stage: Stage, cast: Cast, now: datetime) -> None:
    for token in cast.gone:
        stage.meta.sandbox.kill(token)
    with writing(stage.engine) as conn:
        conn.execute(update(app_settings).values(metaTokenExpiresAt=now - timedelta(seconds=1)))


def _report(stage: Stage, cast: Cast, front: Storefront, plan: Plan, alert: float, drained: float) -> Report:
    meta = stage.meta.sandbox
    ledger = reckon(stage.engine, front.answered, meta.events())
    called = [call["fingerprint"] for call in meta.calls("exchange")]
    exchanges = {token.fingerprint: called.count(token.fingerprint) for token in cast.broken}
    with reading(stage.engine) as conn:
        asked = set(conn.scalars(select(capi_token.c.fingerprint).where(capi_token.c.needs_reconnect.is_(True))))
    sound = ledger.balances and not ledger.states["due"] and ledger.states["parked"] == len(cast.gone) * 2 * plan.calls
    holds = sound and set(exchanges.values()) == {1} and alert <= ALERT_WITHIN
    more = {
        "tokens that ended at once": f"{plan.tokens:,}, of {len(cast.apps):,} apps",
        "asked to connect again": f"{len(asked)} of {len(cast.gone)} that Meta refuses for good",
        "calls in all": f"{len(called):,} exchanges, {meta.count('debug'):,} questions about a token",
        "database": stage.database,
    }
    holds = holds and asked == {token.fingerprint for token in cast.gone}
    return Report(holds, ledger, exchanges, {}, alert, drained, more=more, figures={"tokens": plan.tokens})
