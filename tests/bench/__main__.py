"""Benchmarks: `python -m tests.bench intake`, one of BENCHES; `table` writes README's table from what `--store` kept.

Every ratio is measured within one run, variants in turn; servers and load generators are processes of their own.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
from pathlib import Path

from tests.bench import report

# Each is a module beside this one with `run(short) -> list[Row]`; B1 to B7 of the promises, in order.
BENCHES = {
    "intake": "taking events in, committed before the answer",
    "delivery": "delivering to Meta",
    "workers": "several workers on one database",
    "refresh": "refreshing many tokens",
    "growth": "millions of stored events",
    "console": "every page's data over a large database",
    "memory": "what the processes need",
}


def measure(name: str, *, short: bool) -> list[report.Row]:
    return list(importlib.import_module(f"tests.bench.{name}").run(short=short))


def write_table() -> None:
    readme = report.ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(report.rewritten(text, report.markdown(report.stored(), [*BENCHES])), encoding="utf-8")


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    options.add_argument("name", choices=[*BENCHES, "table"], help="; ".join(f"{k}: {v}" for k, v in BENCHES.items()))
    options.add_argument("--short", action="store_true", help="seconds instead of minutes: shows that it works")
    options.add_argument("--json", type=Path, metavar="FILE", help="where else the result is written")
    options.add_argument("--store", action="store_true", help="keep the result for README's table")
    given = options.parse_args()
    if given.name == "table":
        write_table()
        return
    logging.disable(logging.CRITICAL)
    rows = measure(given.name, short=given.short)
    report.show(rows)
    result = report.result_of(rows)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")
    if given.store:
        report.store(given.name, result)


if __name__ == "__main__":
    main()
