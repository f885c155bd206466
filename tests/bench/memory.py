"""B7: what endpoint, worker and console hold of memory, each at work and in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from core import clock
from core.store import database
from tests.bench import places, report
from tests.bench.intake import NOWHERE, endpoint
from tests.bench.meta import standing_in
from tests.bench.report import Row
from tests.browser.screens import PATHS, chromium, settle
from tests.desk.rows import seed
from tests.processes import environment, free_port

RATE = 1_000
SESSIONS = 10
_SERVE = "core.doors.cli"


@dataclass
class Watch:
    """Memory of a process, looked at twice a second."""

    pid: int
    seen: list[places.Usage] = field(default_factory=list)

    def row(self, what: str, on: str, *, aim: str, note: str) -> Row:
        """The most that was resident; in the note what it started with and its share of pages that others map too."""
        rss = [one.rss for one in self.seen]
        most = max(self.seen, key=lambda one: one.rss)
        note = f"{note}; {rss[0]:.0f} MB at first, {most.pss:.0f} MB with shared pages counted once"
        return Row(what, on, most.rss, "MB", (min(rss), max(rss)), aim=aim, note=note)


@contextmanager
def watching(*watches: Watch) -> Iterator[None]:
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            for one in watches:
                one.seen.append(places.usage(one.pid))

    for one in watches:
        one.seen.append(places.usage(one.pid))
    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def traffic(on: str, new: places.NewDatabase, *, seconds: float) -> list[Row]:
    """Endpoint and worker while so many events a second come in and are delivered."""
    with ExitStack() as stack:
        meta, url = stack.enter_context(standing_in()), new()
        target = stack.enter_context(endpoint(url, meta.url))
        env = environment(url, meta.url, CAPI_LOG_LEVEL="ERROR")
        worker = stack.enter_context(places.module(_SERVE, "worker", env=env))
        watches = Watch(target.pid), Watch(worker.pid)
        time.sleep(3)  # imports are done
        with watching(*watches):
            found = target.load(connections=64, seconds=seconds, rate=RATE)
            told = meta.until(lambda told: told["distinct"] >= found["requests"], within=120)
    note = f"{found['requests'] / found['seconds']:,.0f} calls/s for {found['seconds']:.0f} s"
    delivered = f"{told['distinct']:,} events delivered"
    return [
        watches[0].row("endpoint", on, aim="≤ 60", note=note),
        watches[1].row("worker", on, aim="≤ 120", note=delivered),
    ]


def imported(what: str) -> Row:
    """What a process holds that has loaded the modules and does nothing: below this nothing of ours can bring it."""
    # Not `ru_maxrss`: on Linux a child begins with its parent's.
    look = f"import psutil, core.doors.{what}; print(psutil.Process().memory_info().rss)"
    said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, cwd=report.ROOT)
    return Row(f"the modules of the {what} alone", "", int(said.stdout) / 1_000_000, "MB", note="loaded, nothing done")


def console(new: places.NewDatabase, *, sessions: int, rounds: int) -> list[Row]:
    """The console while so many browsers go through its pages."""
    url, port = new(), free_port()
    engine = database.open_engine(url)
    seed(engine, now=clock.now(), apps=200, events=20_000)
    engine.dispose()
    env = environment(url, NOWHERE, CAPI_CONSOLE_PORT=str(port), CAPI_LOG_LEVEL="ERROR")
    with places.module(_SERVE, "console", env=env) as process, chromium() as browser:
        address = f"http://127.0.0.1:{port}"
        places.answers(f"{address}/_stcore/health", process)
        watch = Watch(process.pid)
        with watching(watch):
            pages = [browser.new_context(viewport={"width": 1440, "height": 900}).new_page() for _ in range(sessions)]
            views = sum(_everywhere(pages, address) for _ in range(rounds))
    note = f"{sessions} browsers, {views} page views, over 200 apps and 20,000 events"
    return [watch.row("console", "SQLite", aim="≤ 300", note=note)]


def _everywhere(pages: list[Any], address: str) -> int:
    """Every browser on every page, each on another one at a time; how many page views."""
    for at in range(len(PATHS)):
        for n, page in enumerate(pages):
            page.goto(f"{address}/{PATHS[(at + n) % len(PATHS)]}")
        for page in pages:
            settle(page)
    return len(pages) * len(PATHS)


def run(*, short: bool) -> list[Row]:
    rows = []
    for on, make in places.DATABASES.items():
        with make() as new:
            rows += traffic(on, new, seconds=3 if short else 60)
    rows += [imported("endpoint"), imported("worker")]
    with places.sqlite() as new:
        rows += console(new, sessions=2 if short else SESSIONS, rounds=1 if short else 3)
    return rows
