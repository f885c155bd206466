"""B5: two and four workers against one, on one PostgreSQL, with Meta at 100 ms.

Each worker sends two small batches at a time, so that it waits for Meta most of the time and two cores are enough for
all of it: what is shown is that workers do not hold each other up.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from core.store import database
from core.store.apps import App
from tests.bench import goods, places
from tests.bench.delivery import left, started, worker
from tests.bench.meta import Meta, standing_in
from tests.bench.report import Row, interleaved
from tests.processes import eventually

LATENCY = 0.1
_RUNS = count()


@dataclass(frozen=True, slots=True)
class Plan:
    """`pixels` with `each` events: one request for each pixel; `threads` for each worker."""

    pixels: int = 400
    each: int = 20
    threads: int = 2
    rounds: int = 3
    counts: tuple[int, ...] = (1, 2, 4)


SHORT = Plan(pixels=40, each=5, rounds=1, counts=(1, 2))


def drained(url: str, meta: Meta, shops: list[App], folder: Path, plan: Plan, workers: int) -> float:
    """Events a second of so many workers: all are there and idle when the events come, at once."""
    engine = database.open_engine(url)
    with ExitStack() as stack:
        more = {"CAPI_LOG_LEVEL": "INFO"}
        crew = [stack.enter_context(worker(url, meta, folder, plan.threads, **more)) for _ in range(workers)]
        for one in crew:
            started(one)
        meta.reset(latency=LATENCY)
        wanted = plan.each * len(shops)
        goods.fill(engine, shops, f"w{next(_RUNS)}", each=plan.each, group=wanted)
        since = time.time()
        told = meta.until(lambda found: found["distinct"] >= wanted, within=300)
        eventually(lambda: left(engine) == 0, within=30)
    engine.dispose()
    assert told["events"] == told["distinct"] == wanted, told
    return wanted / (told["last"] - since)


def run(*, short: bool) -> list[Row]:
    plan = SHORT if short else Plan()
    with standing_in() as meta, tempfile.TemporaryDirectory() as folder, places.postgresql() as new:
        url = new()
        engine = database.open_engine(url)
        shops = goods.shops(engine, plan.pixels)
        engine.dispose()
        measures = {f"{n} workers": lambda n=n: drained(url, meta, shops, Path(folder), plan, n) for n in plan.counts}
        found = interleaved(plan.rounds, measures)
    on, note = "PostgreSQL, Meta at 100 ms", f"{plan.threads} threads each, {plan.each} events in a request"
    aims = {2: "≥ 1.9", 4: "≥ 3.6"}
    rows = [found.row("delivery by 1 worker", "1 workers", "events/s", on=on, note=note)]
    return rows + [
        found.row(f"delivery by {n}", f"{n} workers", "events/s", on=on, against="1 workers", aim=aims[n], note=note)
        for n in plan.counts[1:]
    ]
