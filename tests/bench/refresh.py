"""B6: many tokens whose time has come are refreshed by one worker, with Meta at 300 ms, by the schedule and by one bulk
job, against what so many threads could do that did nothing but wait for Meta: parallelism ÷ (calls × latency).
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, func, select

from core.clock import now
from core.store import database, jobs
from core.store.database import reading, writing
from core.store.schema import capi_refresh, capi_token
from tests.bench import goods, places
from tests.bench.delivery import worker
from tests.bench.meta import Meta, standing_in
from tests.bench.report import Row, interleaved
from tests.processes import eventually

LATENCY = 0.3
# An exchange, and a question about the token that it gave.
CALLS = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """`parallel` refreshes at a time."""

    tokens: int = 10_000
    parallel: int = 32
    databases: tuple[str, ...] = ("PostgreSQL",)

    @property
    def ideal(self) -> float:
        """Tokens a second if nothing cost any time but Meta."""
        return self.parallel / (CALLS * LATENCY)


SHORT = Plan(tokens=48, parallel=8, databases=("SQLite",))


def ending(url: str, plan: Plan, way: str) -> tuple[Engine, list[str]]:
    """So many tokens of different people that end in five days, due now or, for an order, tomorrow."""
    engine = database.open_engine(url)
    shops = goods.shops(engine, plan.tokens, name="ends", ends=5 * goods.DAY)
    with writing(engine) as conn:
        conn.execute(capi_token.update().values(next_refresh_at=now() + (goods.DAY if way == "bulk" else -goods.DAY)))
    return engine, [str(app.fingerprint) for app in shops]


def refreshed(url: str, meta: Meta, folder: Path, plan: Plan, way: str) -> float:
    """Tokens a second, from the first call to Meta to the last."""
    engine, fingerprints = ending(url, plan, way)
    if way == "bulk":
        with writing(engine) as conn:
            jobs.order(conn, "refresh_tokens", fingerprints, dedupe_key="all", by="bench", reason=None, now=now())
    # Beside the threads that deliver, a worker has half as many that refresh; a bulk job has as many.
    threads = plan.parallel if way == "bulk" else 2 * plan.parallel
    meta.reset(latency=LATENCY)
    with worker(url, meta, folder, threads, CAPI_LOG_LEVEL="INFO", CAPI_REFRESHES_A_MINUTE="6000"):
        eventually(lambda: extended(engine) == plan.tokens, within=1_200)
        told = meta.told()
    engine.dispose()
    # The daily look at each token goes on meanwhile: it asks about a few, and never exchanges.
    assert told["calls"]["access_token"] == plan.tokens <= told["calls"]["debug_token"], told["calls"]
    return plan.tokens / (told["last_call"] + LATENCY - told["first_call"])


def extended(engine: Engine) -> int:
    r = capi_refresh.c
    time.sleep(0.2)
    with reading(engine) as conn:
        return conn.scalar(select(func.count(r.fingerprint.distinct())).where(r.outcome == "extended")) or 0


def run(*, short: bool) -> list[Row]:
    plan = SHORT if short else Plan()
    rows = []
    with standing_in() as meta, tempfile.TemporaryDirectory() as folder:
        for name in plan.databases:
            for way in ("schedule", "bulk"):
                with places.DATABASES[name]() as new:
                    measure = {way: lambda w=way, n=new: refreshed(n(), meta, Path(folder), plan, w)}
                    found = interleaved(1, measure | {"ideal": lambda: plan.ideal})
                on = f"{name}, Meta at {LATENCY * 1000:.0f} ms"
                note = f"{plan.tokens:,} tokens, {plan.parallel} at a time, {CALLS} calls each"
                rows.append(
                    found.row(f"refresh by {way}", way, "tokens/s", on=on, against="ideal", aim="≥ 0.8", note=note)
                )
    return rows
