"""B4: the data of every page at 20,000 apps, 5 million events and a million requests to Meta."""

from __future__ import annotations

import statistics
import time
from datetime import datetime

from sqlalchemy import Engine

from core import clock
from core.store.database import open_engine, reading
from tests.bench import pages, places, stored
from tests.bench.report import Row

APPS, EVENTS, ROUNDS = 20_000, 5_000_000, 20
SHORT = (600, 20_000, 5)
AIM = "≤ 1000"


def run(*, short: bool) -> list[Row]:
    apps, events, rounds = SHORT if short else (APPS, EVENTS, ROUNDS)
    rows: list[Row] = []
    for name, made in places.DATABASES.items():
        with made() as new:
            engine = open_engine(new())
            stored.fill(engine, now=clock.now(), apps=apps, events=events)
            rows += [
                _page(engine, title, look, rounds, name, f"{apps:,} apps, {events:,} events")
                for title, look in pages.DATA.items()
            ]
            engine.dispose()
    return rows


def _page(engine: Engine, title: str, look: pages.Look, rounds: int, database: str, note: str) -> Row:
    """19 of 20 looks are as quick as `value`; a look of its own connection, as a page has it."""
    took = sorted(_once(engine, look, clock.now()) for _ in range(rounds + 1))
    p95 = statistics.quantiles(took, n=20, method="inclusive")[-1] if len(took) > 2 else took[-1]
    return Row(f"{title}: 95 of 100", database, p95, "ms", (took[0], took[-1]), aim=AIM, note=note)


def _once(engine: Engine, look: pages.Look, now: datetime) -> float:
    started = time.perf_counter()
    with reading(engine) as conn:
        look(conn, now)
    return (time.perf_counter() - started) * 1000
