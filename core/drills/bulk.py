"""A bulk job over many events, whose worker is killed again and again: each row is done once, as the preview said."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, func, select

from core import clock
from core.desk import commands, queries
from core.desk.operators import Operator
from core.drills.crash import is_quiet
from core.drills.crew import Crew
from core.drills.processes import eventually
from core.drills.reckoning import reckon
from core.drills.report import Report
from core.drills.stage import Stage
from core.store import acceptance, outbox
from core.store.apps import App
from core.store.database import chunks, reading, writing
from core.store.schema import capi_event, capi_job, capi_job_item

BY = Operator("drill", "admin")
WORKER = "worker-1"
# Meta takes no event that is older.
TOO_OLD = timedelta(days=7)


@dataclass
class Plan:
    """`rows` of the job, one in `hopeless` of which no retry can help; `kills`, spread over it; `within`: seconds."""

    rows: int = 100_000
    hopeless: int = 10
    kills: int = 10
    within: float = 3_600.0


SHORT = Plan(rows=600, kills=3, within=90.0)


def trial(stage: Stage, plan: Plan) -> Report:
    """The drill on this stage."""
    apps = [stage.shops.an_app(stage.meta.sandbox.create_token()) for _ in range(20)]
    written = _bury(stage, apps, plan)
    with reading(stage.engine) as conn:
        ids = list(conn.scalars(select(capi_event.c.id)))
        preview = queries.retry_preview(conn, ids, now=clock.now())
    order = [commands.order_retry(stage.engine, ids, by=BY, reason="drill", now=clock.now()) for _ in range(2)]
    crew = Crew(stage)
    started = time.monotonic()
    try:
        _killed_on_the_way(crew, order[0], plan)
        eventually(lambda: _job(stage, order[0]).state == "done", within=plan.within)
        took = time.monotonic() - started
        eventually(lambda: is_quiet(stage), within=120, saying=lambda: str(stage.shops.states()))
    finally:
        crew.end()
    ledger = reckon(stage.engine, written, stage.meta.sandbox.events())
    job, outcomes = _job(stage, order[0]), _outcomes(stage)
    hopeless = sum(preview.skipped.values())
    as_said = outcomes == Counter({"ok": preview.retried, "skipped": hopeless})
    counted = (job.done, job.skipped, job.failed) == (plan.rows, hopeless, 0)
    holds = ledger.balances and as_said and counted and len(set(order)) == 1 and not crew.fell
    more = {
        "previewed": f"{preview.retried:,} to be sent again, {hopeless:,} that no retry can help",
        "done": ", ".join(f"{count:,} {what}" for what, count in sorted(outcomes.items())),
        "counted by the job": f"{job.done:,} of {job.total:,}",
        "ordered twice": f"{len(set(order))} job",
        "worker killed": f"{sum(crew.kills.values())} times on the way",
        "pace": f"{plan.rows / took:,.0f} rows/s, kills and starts included",
        "database": stage.database,
    }
    figures = {"rows": plan.rows, "kills": sum(crew.kills.values())}
    return Report(holds, ledger, backlog_after=took, more=more, figures=figures)


def _bury(stage: Stage, apps: list[App], plan: Plan) -> list[str]:
    """Events that are dead, some of them too old for Meta; their ids."""
    written: list[str] = []
    for some in chunks(range(plan.rows), 500):
        events = [stage.shops.new_event(apps[n % len(apps)], age=_age(n, plan)) for n in some]
        with writing(stage.engine) as conn:
            acceptance.accept(conn, events, now=clock.now())
            due = list(conn.scalars(select(capi_event.c.id).where(capi_event.c.state == "due")))
            outbox.move(conn, "bury", due, failure="invalid_event")
        written += [event.event_id for event in events]
    return written


def _age(n: int, plan: Plan) -> timedelta:
    return TOO_OLD if n % plan.hopeless == 0 else timedelta(0)


def _killed_on_the_way(crew: Crew, job_id: int, plan: Plan) -> None:
    """The worker dies each time another share of the rows is done."""
    crew.up(WORKER)
    for n in range(plan.kills):
        share = plan.rows * (n + 1) // (plan.kills + 1)
        eventually(lambda share=share: _job(crew.stage, job_id).done >= share, within=plan.within)  # type: ignore[misc]
        crew.stage.tell(f"kill {n + 1} of {plan.kills}, {_job(crew.stage, job_id).done:,} of {plan.rows:,} rows done")
        crew.kill(WORKER)
        crew.up(WORKER)


def _job(stage: Stage, job_id: int) -> Row[Any]:
    with reading(stage.engine) as conn:
        return conn.execute(select(capi_job).where(capi_job.c.id == job_id)).one()


def _outcomes(stage: Stage) -> Counter[str]:
    i = capi_job_item.c
    with reading(stage.engine) as conn:
        found = conn.execute(select(i.outcome, func.count()).group_by(i.outcome)).all()
    return Counter({row[0] or "not done": row[1] for row in found})
