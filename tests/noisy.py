"""One shop has a backlog of fifty thousand events, on SQLite and on a PostgreSQL server of its own.

    python -m tests.noisy [--backlog 50000] [--concurrency 8] [--only sqlite|postgresql]

The trial is `core.drills.noisy`; `capi-console drill noisy` does it on a scratch database.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from core.drills.meta import standing_in
from core.drills.noisy import Noise, Plan, trial
from core.drills.processes import end_in_order
from core.store import migrate
from core.store.database import open_engine
from tests.drills.server import postgres


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
