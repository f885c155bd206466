"""B1 and R2: events taken in over HTTP, each committed before its answer, against a server that does nothing."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count

from core.store import database
from core.store.apps import App
from tests.bench import places
from tests.bench.goods import fill, shops
from tests.bench.meta import standing_in
from tests.bench.report import Row, interleaved
from tests.processes import environment, free_port

APPS = 64
# Nothing is sent to Meta.
NOWHERE = "http://127.0.0.1:9"
AIMS = {"SQLite": "≥ 0.35", "PostgreSQL": "≥ 0.5"}
GROUP_AIM = "≥ 10"
BACKLOG = 100_000
Found = dict[str, float]
_RUNS = count()


@dataclass
class Target:
    """A server under load, and what each load on it found."""

    port: int
    pid: int
    apps: list[App]
    found: list[Found] = field(default_factory=list)

    def load(self, *, connections: int, seconds: float, rate: float = 0) -> Found:
        """Calls over kept connections; AssertionError when one of them is not answered 200."""
        names = ",".join(app.public_id for app in self.apps) or "nobody"
        options = {"port": self.port, "apps": names, "run": f"r{next(_RUNS):03d}"}
        options |= {"connections": connections, "seconds": seconds, "rate": rate}
        before = places.usage(self.pid).cpu
        with places.module("tests.bench.load", *(f"--{k}={v}" for k, v in options.items())) as process:
            said, _ = process.communicate(timeout=seconds + 120)
        assert process.returncode == 0, f"the load generator ended with {process.returncode}"
        found: Found = json.loads(said)
        assert found["lost"] == 0, found
        assert set(found["statuses"]) == {"200"}, found  # type: ignore[call-overload]
        # Microseconds of the server's processor for one call.
        found["cost"] = (places.usage(self.pid).cpu - before) / found["requests"] * 1e6
        self.found.append(found)
        return found

    def middle(self, name: str) -> float:
        return statistics.median(found[name] for found in self.found)


def installed(url: str) -> list[App]:
    """New apps in this database, each with a pixel and a token of its own."""
    engine = database.open_engine(url)
    made = shops(engine, APPS)
    engine.dispose()
    return made


@contextmanager
def endpoint(url: str, graph_url: str = NOWHERE) -> Iterator[Target]:
    """`capi-console endpoint` on this database, in a process of its own."""
    port, installed_apps = free_port(), installed(url)
    env = environment(url, graph_url, CAPI_ENDPOINT_PORT=str(port), CAPI_LOG_LEVEL="ERROR")
    with places.module("core.doors.cli", "endpoint", env=env) as process:
        places.answers(f"http://127.0.0.1:{port}/healthz", process)
        yield Target(port, process.pid, installed_apps)


@contextmanager
def another(kind: str, url: str | None = None) -> Iterator[Target]:
    """A server to compare with, of `tests.bench.serve`."""
    port, installed_apps = free_port(), installed(url) if url else []
    env = environment(url or "", NOWHERE, CAPI_LOG_LEVEL="ERROR")
    with places.module("tests.bench.serve", kind, str(port), env=env) as process:
        places.answers(f"http://127.0.0.1:{port}/healthz", process)
        yield Target(port, process.pid, installed_apps)


def compare(on: str, new: places.NewDatabase, *, connections: int, rounds: int, seconds: float) -> list[Row]:
    """Ours, ours with a commit for each request, and a server that does nothing, in turn."""
    with ExitStack() as stack:
        targets = {
            "ours": stack.enter_context(endpoint(new())),
            "commit for each": stack.enter_context(another("one_by_one", new())),
            "no-op": stack.enter_context(another("no_op")),
        }
        for target in targets.values():
            target.load(connections=connections, seconds=min(1, seconds))
            target.found.clear()

        def measured(target: Target) -> float:
            return target.load(connections=connections, seconds=seconds)["rate"]

        found = interleaved(rounds, {name: lambda t=t: measured(t) for name, t in targets.items()})  # type: ignore[misc]
    ours, no_op = targets["ours"], targets["no-op"]
    costs = f"processor time of a call {ours.middle('cost'):.0f} µs, of the no-op's {no_op.middle('cost'):.0f} µs"
    latency = f"answers p50 {ours.middle('p50'):.0f} ms, p99 {ours.middle('p99'):.0f} ms"
    load = f"the load generator used {max(f['cpu'] for f in no_op.found):.0%} of a core"
    what = f"{connections} connections"
    aim = AIMS[on] if connections == 64 else ""
    rows = [found.row(what, "ours", "calls/s", on=on, against="no-op", aim=aim, note=f"{costs}; {latency}; {load}")]
    if connections == 64:
        group = {"on": on, "against": "commit for each", "aim": GROUP_AIM, "note": "our endpoint with groups of one"}
        rows.append(found.row("the same", "ours", "calls/s", **group))
    return rows


def costs(new: places.NewDatabase, *, rounds: int, seconds: float) -> list[Row]:
    """Where the processor's time of a call goes: the endpoint with one part of its work after the other."""
    with ExitStack() as stack:
        targets = {
            "no-op": stack.enter_context(another("no_op")),
            "HTTP, JSON, rates": stack.enter_context(another("unmade", new())),
            "and the event: validated, mapped, hashed": stack.enter_context(another("unstored", new())),
            "and its commit, shared": stack.enter_context(endpoint(new())),
        }
        measures = {name: lambda t=t: t.load(connections=64, seconds=seconds)["cost"] for name, t in targets.items()}
        interleaved(1, measures)  # type: ignore[arg-type]
        found = interleaved(rounds, measures)  # type: ignore[arg-type]
    return [
        found.row("processor time of a call", name, "µs", against="" if name == "no-op" else "no-op")
        for name in targets
    ]


def answers(on: str, new: places.NewDatabase, *, seconds: float, backlog: int) -> list[Row]:
    """How long answers take at 50 calls a second, at rest and while a worker drains a backlog."""
    with ExitStack() as stack:
        meta, url = stack.enter_context(standing_in()), new()
        target = stack.enter_context(endpoint(url, meta.url))
        quiet = target.load(connections=16, seconds=seconds, rate=50)
        engine = database.open_engine(url)
        fill(engine, target.apps, "backlog", each=backlog // len(target.apps))
        engine.dispose()
        env = environment(url, meta.url, CAPI_LOG_LEVEL="ERROR")
        stack.enter_context(places.module("core.doors.cli", "worker", env=env))
        before = meta.until(lambda told: told["events"] > 0, within=60)["events"]
        busy = target.load(connections=16, seconds=seconds, rate=50)
        drained = meta.told()["events"] - before
    longest = max(quiet["longest"], busy["longest"])
    note = f"{drained:,} of {backlog:,} events were delivered meanwhile"
    return [
        Row("p99 of an answer at 50 calls/s", on, quiet["p99"], "ms", aim="≤ 50" if on == "SQLite" else ""),
        Row("the same while a backlog drains", on, busy["p99"], "ms", aim="≤ 150", note=note),
        Row("the longest answer of these", on, longest, "ms", aim="≤ 5000"),
    ]


def run(*, short: bool) -> list[Row]:
    rounds, seconds, backlog = (2, 1.0, 2_000) if short else (5, 3.0, BACKLOG)
    rows = []
    for on, make in places.DATABASES.items():
        with make() as new:
            for connections in (64,) if short else (64, 256):
                rows += compare(on, new, connections=connections, rounds=rounds, seconds=seconds)
            if on == "SQLite":
                rows += costs(new, rounds=rounds, seconds=seconds / 2)
            rows += answers(on, new, seconds=seconds * 5, backlog=backlog)
    return rows
