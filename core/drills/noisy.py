"""One shop has a backlog of many events: how long do the fresh events of the others take?

An endpoint and a worker, each in a process of its own. Fresh events are reported by HTTP, one by one, at a steady
pace; each takes from its first sending to its acceptance at Meta. The same is measured with no backlog at all and
while the backlog is being sent, whose requests Meta takes its time for.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, select, true

from core.clock import now as real_now
from core.drills.meta import Meta
from core.drills.processes import environment, eventually, free_port, is_ready, running
from core.drills.reckoning import Ledger, reckon
from core.drills.report import Report
from core.drills.shops import DAY, Shops
from core.drills.storefront import BROWSER, Call, Storefront
from core.meta.events import encode
from core.store import acceptance
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.database import chunks, reading, upsert, writing
from core.store.schema import capi_outbox, capi_pixel

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

    def report(self) -> Report:
        allowed = f"{self.delay:+.2f} s (allowed: {ALLOWED:g} s)"
        more = {
            "database": f"{self.database}, {self.plan.concurrency} requests at a time",
            "fresh events without a backlog": f"{len(self.without)}: {_spread(self.without)}",
            f"beside {self.plan.backlog:,} events of one shop": f"{len(self.beside)}: {_spread(self.beside)}",
            "99 of 100 arrive later by at most": allowed,
            "backlog sent at": f"{self.plan.backlog / self.drained:,.0f} events/s",
        }
        figures = {"later_by": round(self.delay, 3), "backlog": self.plan.backlog}
        return Report(self.holds, self.ledger, backlog_after=self.drained, more=more, figures=figures)

    def table(self) -> str:
        return self.report().table()


def trial(engine: Engine, url: str, meta: Meta, folder: Path, plan: Plan) -> Noise:
    """The trial on this migrated, empty database."""
    shops = Shops(engine, meta.sandbox)
    noisy, *others = (shops.an_app(meta.sandbox.create_token()) for _ in range(plan.shops + 1))
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
        worker.started()
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
    without, beside = ([at[id_] - front.sent[id_] for id_ in ids] for ids in (quiet, noise))
    ledger = reckon(engine, [*front.answered, *backlog], heard)
    return Noise(plan, engine.dialect.name, without, beside, drained, ledger)


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
