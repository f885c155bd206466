"""Many machines, in short; the long forms are commands: `python -m tests.many_machines`, `tests.network_split`,
`capi-console drill noisy` and `outage`."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Engine

from core.drills import noisy, outage
from core.drills.meta import Meta, standing_in
from core.drills.processes import environment, eventually, free_port, is_ready, running
from core.drills.storefront import Call, Storefront
from core.drills.timelapse import hasten
from core.store.database import open_engine, writing
from tests import many_machines, network_split
from tests.drills.relay import Relay, relay
from tests.world import World


class OneWire:
    """The worker that is to be cut off reaches the database through a relay, the other one directly."""

    def __init__(self, url: str, wire: Relay, meta: Meta) -> None:
        self.url, self.wire, self.meta = url, wire, meta
        self.prefix: dict[int, tuple[str, ...]] = {}

    def database_url(self, worker: int) -> str:
        return self.wire.url if worker == network_split.CUT_OFF else self.url

    def graph_url(self, _worker: int) -> str:
        return self.meta.sandbox.url

    def cut(self, _worker: int) -> None:
        self.wire.passes.clear()

    def heal(self, _worker: int) -> None:
        self.wire.passes.set()


def test_processes_are_killed_and_refused_and_the_ledger_balances(postgres_url: str, tmp_path: Path) -> None:
    plan = many_machines.Plan(events=600, pixels=24, workers=2, slow=False)
    result = many_machines.trial(postgres_url, tmp_path, plan)
    assert result.holds, result.table()
    assert result.ledger.states["delivered"] > result.ledger.states["parked"] > 0
    assert len(result.exchanges) == 2
    assert min(list(result.by_worker.values())[1:]) > 0, "all that live have a share"


def test_a_worker_that_is_cut_off_sends_nothing_twice_beyond_its_lease(postgres_url: str, tmp_path: Path) -> None:
    plan = network_split.Plan(seconds=3, pixels=40, backlog=5, latency=0.7, hasten=True)
    engine = open_engine(postgres_url)
    with standing_in(tmp_path) as meta, relay(postgres_url) as wire:
        split = network_split.trial(engine, meta, OneWire(postgres_url, wire, meta), tmp_path, plan)
    engine.dispose()
    assert split.holds, split.table()
    assert split.taken_over


def test_a_backlog_of_one_shop_does_not_hold_up_the_others(sqlite_url: str, tmp_path: Path) -> None:
    plan = noisy.Plan(backlog=3_000, shops=10, quiet=2, slow=0.7)
    engine = open_engine(sqlite_url)
    with standing_in(tmp_path) as meta:
        noise = noisy.trial(engine, sqlite_url, meta, tmp_path, plan)
    engine.dispose()
    assert noise.holds, noise.table()


def test_two_hours_without_meta_cost_few_calls_and_no_event(sqlite_engine: Engine) -> None:
    hasten(sqlite_engine)
    plan = outage.Plan(shops=3, every=20, before=13, tick=20)
    found = outage.simulate(sqlite_engine, plan)
    assert found.holds, found.table()
    assert found.waited > 900


def test_an_endpoint_told_to_stop_answers_what_it_has_begun(sqlite_world: World, tmp_path: Path) -> None:
    """The call waits for the database's write lock when SIGTERM comes."""
    world = sqlite_world
    app = world.an_app(world.meta.create_token())
    port = str(free_port())
    env = environment(world.engine.url.render_as_string(), world.meta.url, CAPI_ENDPOINT_PORT=port)
    front = Storefront([f"http://127.0.0.1:{port}"])
    with running("endpoint", env=env, log=tmp_path / "endpoint.log") as endpoint, ThreadPoolExecutor(2) as pool:
        eventually(lambda: is_ready(front.urls[0]), saying=endpoint.log.read_text)
        front.call(Call(app, ("first",)))
        with writing(world.engine):
            begun = pool.submit(front.call, Call(app, ("second",)))
            time.sleep(0.4)
            stopped = pool.submit(endpoint.stop)
            time.sleep(0.4)
            assert not begun.done()
        begun.result(10)
        assert stopped.result(20) == 0
    assert front.seen == {"calls": 2, "new": 2}, "answered at the first try"
    assert world.states() == {"due": 2}
