"""Many random interleavings of everything that may touch a token: `python -m tests.interleavings --examples 10000`."""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from core.store import database, migrate
from tests.services.interleavings import hasten, machine, set_up


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
    options.add_argument("--database", help="default: a SQLite file of its own")
    given = options.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        url = given.database or f"sqlite:///{Path(folder) / 'capi.db'}"
        print(run(url, given.examples, given.steps))


if __name__ == "__main__":
    main()
