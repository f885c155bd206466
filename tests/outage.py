"""Meta is away for two hours: how often it is called meanwhile, and how what waited comes back.

    python -m tests.outage [--hours 2]          time-lapsed: the product's services, database and HTTP, a moved clock
    python -m tests.outage --real [--minutes 10] two worker processes on PostgreSQL, the clock on the wall

The trials are `core.drills.outage` and `core.drills.outage_real`; `capi-console drill outage` does them, too.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from core.drills.meta import standing_in
from core.drills.outage import Outage, Plan, simulate
from core.drills.outage_real import trial
from core.drills.processes import end_in_order
from core.drills.timelapse import hasten
from core.store import migrate
from core.store.database import open_engine
from tests.drills.server import postgres


def _real(plan: Plan, folder: Path) -> Outage:
    with postgres() as server, standing_in(folder) as meta:
        engine = open_engine(server.url())
        found = trial(engine, server.url(), meta, folder, plan)
        engine.dispose()
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--hours", type=float, default=2.0, help="of the time-lapsed form")
    options.add_argument("--real", action="store_true")
    options.add_argument("--minutes", type=float, default=10.0, help="of the real form")
    given = options.parse_args()
    logging.disable(logging.CRITICAL)
    end_in_order()
    with tempfile.TemporaryDirectory() as folder:
        if given.real:
            outage = _real(Plan(before=12.0, away=given.minutes), Path(folder))
        else:
            engine = open_engine(f"sqlite:///{Path(folder) / 'outage.db'}")
            hasten(engine)
            migrate.prepare(engine)
            outage = simulate(engine, Plan(away=60 * given.hours))
            engine.dispose()
    print(outage.table())
    sys.exit(0 if outage.holds else 1)


if __name__ == "__main__":
    main()
