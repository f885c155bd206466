"""B2: one worker process drains a filled outbox, against the official SDK and a bare loop of `requests`, which have no
outbox: nothing is stored, nothing is recorded, and what a crash interrupts is lost. All send to the same stand-in.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from sqlalchemy import Engine, func, select

from core.meta.events import encode
from core.store import database
from core.store.apps import App
from core.store.database import reading
from core.store.schema import capi_outbox
from tests.bench import goods, places
from tests.bench.meta import Meta, standing_in
from tests.bench.report import Row, interleaved
from tests.processes import Process, environment, eventually, running

with suppress(ImportError):
    from facebook_business.adobjects.serverside import content, custom_data, event, event_request, user_data
    from facebook_business.api import FacebookAdsApi

# What 800 kB hold, which is all that one request of ours takes.
IN_ONE_BODY = 860
IN_ONE_BATCH = 1_000  # what the SDK sends at once
_RUNS = count()


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured, with Meta at this latency in seconds; all variants send with as many threads."""

    latency: float
    threads: int
    pixels: int
    each: int
    one_by_one: int
    batches: int
    rounds: int


PLANS = (
    Plan(latency=0, threads=8, pixels=128, each=IN_ONE_BODY, one_by_one=1_500, batches=24, rounds=5),
    Plan(latency=0.2, threads=32, pixels=128, each=2 * IN_ONE_BODY, one_by_one=640, batches=64, rounds=3),
)
SHORT = (Plan(latency=0.02, threads=4, pixels=8, each=100, one_by_one=50, batches=2, rounds=1),)


@contextmanager
def worker(url: str, meta: Meta, folder: Path, threads: int, **more: str) -> Iterator[Process]:
    """A worker's process."""
    env = environment(url, meta.url, **more)
    log = folder / f"worker-{next(_RUNS)}.log"
    with running("worker", "--concurrency", str(threads), env=env, log=log) as process:
        yield process
        assert process.stop(60) == 0, process.log.read_text()[-2_000:]


def started(process: Process) -> float:
    """When it began to work: its own line says so."""

    def said() -> str | None:
        return next((line for line in process.lines if "worker started" in line), None)

    return datetime.fromisoformat(eventually(said, within=60, saying=process.log.read_text).split()[0]).timestamp()


def drained(url: str, meta: Meta, shops: list[App], folder: Path, plan: Plan) -> float:
    """Events a second, from the worker's start to the last event that Meta took; all must be recorded afterwards."""
    engine = database.open_engine(url)
    wanted = goods.fill(engine, shops, f"r{next(_RUNS)}", each=plan.each)
    meta.reset(latency=plan.latency)
    with worker(url, meta, folder, plan.threads, CAPI_LOG_LEVEL="INFO") as process:
        since = started(process)
        told = meta.until(lambda found: found["distinct"] >= wanted, within=300)
        eventually(lambda: left(engine) == 0, within=30)
    engine.dispose()
    assert told["events"] == told["distinct"] == wanted, told
    return wanted / (told["last"] - since)


def left(engine: Engine) -> int:
    with reading(engine) as conn:
        return conn.scalar(select(func.count()).select_from(capi_outbox)) or 0


def in_threads(threads: int, work: list[Any], send: Callable[[Any], object]) -> float:
    """Seconds until all of it was sent by so many threads."""
    with ThreadPoolExecutor(threads) as pool:
        began = perf_counter()
        for _ in pool.map(send, work):
            pass
        return perf_counter() - began


class Bare:
    """`requests` as it is: one session for each thread, bodies made ahead, of as many bytes as ours."""

    def __init__(self, meta: Meta, plan: Plan) -> None:
        self.meta, self.plan, self.local = meta, plan, threading.local()
        shape = encode(goods.body("EVENT"))
        self.bodies = []
        for n in range(plan.pixels):
            events = (shape.replace(b"EVENT", b"b%04d-%06d" % (n, m)) for m in range(min(plan.each, IN_ONE_BODY)))
            self.bodies.append((f"{meta.url}/v24.0/{n}/events", b'{"data":[' + b",".join(events) + b"]}"))

    def rate(self) -> float:
        self.meta.reset(latency=self.plan.latency)
        work = self.bodies * -(-self.plan.each // IN_ONE_BODY)
        seconds = in_threads(self.plan.threads, work, self._send)
        return self.meta.told()["events"] / seconds

    def _send(self, work: tuple[str, bytes]) -> None:
        url, body = work
        if not hasattr(self.local, "session"):
            self.local.session = requests.Session()
        headers = {"Content-Type": "application/json", "Authorization": "Bearer EAAbench"}
        assert self.local.session.post(url, data=body, headers=headers).json()["events_received"]


class Sdk:
    """The SDK by its own classes: its objects are made, normalised, hashed and encoded on sending."""

    def __init__(self, meta: Meta, plan: Plan, batches: list[list[dict[str, Any]]], threads: int) -> None:
        self.meta, self.plan, self.batches, self.threads = meta, plan, batches, threads

    def rate(self) -> float:
        self.meta.reset(latency=self.plan.latency)
        api = FacebookAdsApi.init(access_token="EAAbench", crash_log=False)
        api._session.GRAPH = self.meta.url
        api._session.requests.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=self.threads))
        seconds = in_threads(self.threads, self.batches, self._send)
        told, wanted = self.meta.told(), sum(map(len, self.batches))
        assert told["distinct"] == wanted, told
        return wanted / seconds

    def _send(self, batch: list[dict[str, Any]]) -> None:
        request = event_request.EventRequest(pixel_id="710000", events=[sdk_event(known) for known in batch])
        assert request.execute().events_received == len(batch)


def sdk_event(known: dict[str, Any]) -> Any:
    """The same event in the SDK's words."""
    person, bought = known["user_data"], known["custom_data"]
    return event.Event(
        event_name=known["event_name"],
        event_time=known["event_time"],
        event_id=known["event_id"],
        event_source_url=known["event_source_url"],
        action_source=event.ActionSource.WEBSITE,
        user_data=user_data.UserData(
            emails=[known["event_id"] + "@example.com"],
            external_ids=person["external_id"],
            client_ip_address=person["client_ip_address"],
            client_user_agent=person["client_user_agent"],
            fbc=person["fbc"],
            fbp=person["fbp"],
        ),
        custom_data=custom_data.CustomData(
            value=bought["value"],
            currency=bought["currency"],
            content_name=bought["content_name"],
            content_type=bought["content_type"],
            content_ids=bought["content_ids"],
            contents=[
                content.Content(product_id=one["id"], quantity=one["quantity"], item_price=one["item_price"])
                for one in bought["contents"]
            ],
        ),
    )


def rivals(meta: Meta, plan: Plan) -> dict[str, Callable[[], float]]:
    """What is compared with; without the SDK where it is not installed."""
    found: dict[str, Callable[[], float]] = {"bare loop": Bare(meta, plan).rate}
    if "event_request" not in globals():
        print("facebook-business is not installed: pip install 'capi-console[bench]' to compare with it")
        return found
    singles = [[goods.body(f"one-{n:06d}")] for n in range(plan.one_by_one)]
    batches = [[goods.body(f"b{k:03d}-{n:06d}") for n in range(IN_ONE_BATCH)] for k in range(plan.batches)]
    return found | {
        "SDK, one": Sdk(meta, plan, singles, plan.threads).rate,
        "SDK, 1,000": Sdk(meta, plan, batches, plan.threads).rate,
    }


def compare(meta: Meta, plan: Plan, urls: dict[str, str], folder: Path) -> list[Row]:
    shops = {}
    for name, url in urls.items():
        engine = database.open_engine(url)
        shops[name] = goods.shops(engine, plan.pixels)
        engine.dispose()
    ours = {name: lambda n=name, u=url: drained(u, meta, shops[n], folder, plan) for name, url in urls.items()}
    others = rivals(meta, plan)
    found = interleaved(plan.rounds, ours | others)
    when, note = f"Meta at {plan.latency * 1000:.0f} ms", f"{plan.threads} threads each"
    rows = []
    for name in urls:
        on, batch = f"{name}, {when}", "≥ 4" if name == "PostgreSQL" else "≥ 3"
        aims = {"SDK, one": "≥ 50", "SDK, 1,000": batch, "bare loop": "≥ 0.3"}
        rows += [
            found.row("delivery", name, "events/s", on=on, against=other, aim=aims[other], note=note)
            for other in sorted(others, reverse=True)
        ]
    return rows + [found.row(other, other, "events/s", on=when, note=note) for other in sorted(others)]


def run(*, short: bool) -> list[Row]:
    rows = []
    with standing_in() as meta, tempfile.TemporaryDirectory() as folder:
        for plan in SHORT if short else PLANS:
            with places.sqlite() as embedded, places.postgresql() as server:
                rows += compare(meta, plan, {"SQLite": embedded(), "PostgreSQL": server()}, Path(folder))
    return rows
