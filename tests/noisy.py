"""One shop has a backlog of fifty thousand events: how long do the fresh events of the others take?

    python -m tests.noisy [--backlog 50000] [--concurrency 8] [--only sqlite|postgresql]

An endpoint and a worker, each in a process of its own. Fresh events are reported by HTTP, one by one, at a steady
pace; each takes from its first sending to its acceptance at Meta. The same is measured with no backlog at all and
while the backlog is being sent, whose requests Meta takes its time for.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, select, true

from core.clock import now as real_now
from core.meta.events import encode
from core.store import acceptance, migrate
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.database import chunks, open_engine, reading, upsert, writing
from core.store.schema import capi_outbox, capi_pixel
from tests.drills.meta import Meta, standing_in
from tests.drills.reckoning import Ledger, reckon, table
from tests.drills.server import postgres
from tests.drills.storefront import BROWSER, Call, Storefront
from tests.many_machines import is_ready
from tests.processes import end_in_order, environment, eventually, free_port, running
from tests.world import DAY, World

ALLOWED = 5.0


@dataclass
class Plan:
    """`quiet`: seconds without the backlog; `a_second`: fresh events; `slow`: Meta's seconds for one noisy request."""

    backlog: int = 50_000
    shops: int = 40
    a_second: float = 20.0
    quiet: float = 40.0
    latency: float = 0.1
    slow: float = 1.0
    concurrency: int = 8


@dataclass
class Noise:
    """Seconds from the shop to Meta of each fresh event, without and with the backlog."""

    plan: Plan
    database: str
    without: list[float]
    beside: list[float]
    drained: float
    ledger: Ledger

    @property
    def delay(self) -> float:
        return _p99(self.beside) - _p99(self.without)

    @property
    def holds(self) -> bool:
        whole = self.ledger.balances and not self.ledger.states["due"]
        return whole and self.delay <= ALLOWED and len(self.beside) > 20

    def table(self) -> str:
        rows = {
            "database": f"{self.database}, {self.plan.concurrency} requests at a time",
            "fresh events without a backlog": f"{len(self.without)}: {_spread(self.without)}",
            f"beside {self.plan.backlog:,} events of one shop": f"{len(self.beside)}: {_spread(self.beside)}",
            "99 of 100 arrive later by at most": f"{self.delay:+.2f} s (allowed: {ALLOWED:g} s)",
            "backlog sent within": f"{self.drained:.0f} s, {self.plan.backlog / self.drained:,.0f} events/s",
            "ledger": self.ledger.account(),
        }
        return table(rows, holds=self.holds)


def trial(engine: Engine, url: str, meta: Meta, folder: Path, plan: Plan) -> Noise:
    """The trial on this migrated, empty database."""
    world = World(engine, meta.sandbox)
    noisy, *others = (world.an_app(meta.sandbox.create_token()) for _ in range(plan.shops + 1))
    meta.sandbox.fault("events", "latency", pixel=noisy.pixel_id, seconds=plan.slow - plan.latency)
    meta.sandbox.fault("events", "latency", seconds=plan.latency)
    port = str(free_port())
    env = environment(url, meta.sandbox.url, CAPI_ENDPOINT_PORT=port, CAPI_WORKER_THREADS=str(plan.concurrency))
    front = Storefront([f"http://127.0.0.1:{port}"])
    serial = itertools.count(1)
    with (
        running("endpoint", env=env, log=folder / "endpoint.log") as endpoint,
        running("worker", env=env, log=folder / "worker.log") as worker,
    ):
        eventually(lambda: is_ready(front.urls[0]), within=60, saying=endpoint.log.read_text)
        eventually(lambda: "worker started" in worker.log.read_text(), within=60, saying=worker.log.read_text)
        enough = time.monotonic() + plan.quiet
        quiet = _fresh(front, others, serial, plan, lambda: time.monotonic() < enough)
        eventually(lambda: not _due(engine), within=60)
        backlog = _pile_up(engine, noisy, plan.backlog)
        started = time.monotonic()
        noise = _fresh(front, others, serial, plan, lambda: _due(engine, noisy.pixel_id))
        drained = time.monotonic() - started
        eventually(lambda: not _due(engine), within=120, saying=worker.log.read_text)
        worker.stop()
    heard = meta.sandbox.events()
    at = {event["event_id"]: event["at"] for event in reversed(heard)}
    took = [[at[id_] - front.sent[id_] for id_ in ids] for ids in (quiet, noise)]
    ledger = reckon(engine, [*front.answered, *backlog], heard)
    return Noise(plan, engine.dialect.name, *took, drained, ledger)


def _fresh(
    front: Storefront, others: Sequence[App], serial: Iterator[int], plan: Plan, lasts: Callable[[], bool]
) -> list[str]:
    """Events of the other shops, one every so often, while `lasts`; their ids."""
    ids: list[str] = []
    due = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        while len(ids) % 5 or lasts():
            ids.append(f"fresh-{next(serial)}")
            pool.submit(front.call, Call(others[len(ids) % len(others)], (ids[-1],)))
            due += 1 / plan.a_second
            time.sleep(max(0.0, due - time.monotonic()))
    assert set(ids) <= set(front.answered)
    return ids


def _pile_up(engine: Engine, app: App, count: int) -> list[str]:
    """The backlog, an hour old, written while nothing may be sent for its pixel, which then may; its ids."""
    now, pixel_id = real_now(), str(app.pixel_id)
    with writing(engine) as conn:
        upsert(conn, capi_pixel, {"pixel_id": pixel_id}, {"wait_until": now + timedelta(hours=1)})
    ids = [f"backlog-{n}" for n in range(count)]
    for some in chunks(ids, 500):
        with writing(engine) as conn:
            acceptance.accept(conn, [_event(app, id_, now - timedelta(hours=1)) for id_ in some], now=real_now())
    with writing(engine) as conn:
        upsert(conn, capi_pixel, {"pixel_id": pixel_id}, {"wait_until": None})
    return ids


def _event(app: App, event_id: str, at: datetime) -> NewEvent:
    """About 700 bytes, as a storefront's purchase has them."""
    body = {
        "event_name": "Purchase",
        "event_id": event_id,
        "event_time": int(at.timestamp()),
        "action_source": "website",
        "event_source_url": f"https://{app.shop_domain}/checkouts/{event_id}",
        "user_data": {"client_user_agent": BROWSER, "em": ["a" * 64], "external_id": ["b" * 64], "ct": ["c" * 64]},
        "custom_data": {"value": 49.9, "currency": "EUR", "content_ids": ["4711", "4712"], "content_type": "product"},
    }
    deadline = at + 7 * DAY
    return NewEvent(app.id, str(app.pixel_id), "Purchase", event_id, "track", at, deadline, encode(body))


def _due(engine: Engine, pixel_id: str | None = None) -> bool:
    o = capi_outbox.c
    mine = o.pixel_id == pixel_id if pixel_id else true()
    with reading(engine) as conn:
        return conn.scalar(select(o.id).where(o.state == "due", mine).limit(1)) is not None


def _p99(took: Sequence[float]) -> float:
    return statistics.quantiles(took, n=100, method="inclusive")[98]


def _spread(took: Sequence[float]) -> str:
    return f"median {statistics.median(took):.2f} s, 99 of 100 within {_p99(took):.2f} s, all within {max(took):.2f} s"


def on_sqlite(folder: Path, plan: Plan) -> Noise:
    """The trial on a SQLite file of its own."""
    url = f"sqlite:///{folder / 'capi.db'}"
    engine = open_engine(url)
    migrate.prepare(engine)
    with standing_in(folder) as meta:
        noise = trial(engine, url, meta, folder, plan)
    engine.dispose()
    return noise


def on_postgresql(folder: Path, plan: Plan) -> Noise:
    """The trial on a PostgreSQL server of its own."""
    with postgres() as server, standing_in(folder) as meta:
        engine = open_engine(server.url())
        noise = trial(engine, server.url(), meta, folder, plan)
        engine.dispose()
    return noise


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--backlog", type=int, default=Plan.backlog)
    options.add_argument("--concurrency", type=int, default=Plan.concurrency, help="requests to Meta at a time")
    options.add_argument("--only", choices=["sqlite", "postgresql"])
    given = options.parse_args()
    logging.disable(logging.CRITICAL)
    end_in_order()
    plan = Plan(backlog=given.backlog, concurrency=given.concurrency)
    held = []
    for name, run in (("sqlite", on_sqlite), ("postgresql", on_postgresql)):
        if given.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                noise = run(Path(folder), plan)
            print(noise.table(), end="\n\n", flush=True)
            held.append(noise.holds)
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
