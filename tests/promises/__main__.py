"""Promises and what shows them: `python -m tests.promises run [NAME …]` runs drills in full and keeps what they say;
`table` writes README's table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.promises.rows import PROMISES, Promise

RESULTS = Path(__file__).parent / "results.json"
_MARK = "<!-- promises: `python -m tests.promises table` writes this -->"
_END = "<!-- end of promises -->"

_VERDICT = ("accepted", "lost", "duplicated", "exchanges", "ledger", "verdict")
# name → (arguments of python, lines of its output that carry the figures, by how they begin)
RUNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "crash": (("-m", "core.doors.cli", "drill", "crash"), _VERDICT),
    "poison": (("-m", "core.doors.cli", "drill", "poison"), _VERDICT),
    "bulk": (("-m", "core.doors.cli", "drill", "bulk"), _VERDICT),
    "storm": (("-m", "core.doors.cli", "drill", "storm"), _VERDICT),
    "interleavings": (("-m", "tests.interleavings", "--examples", "10000"), ("sqlite",)),
    "many machines": (("-m", "tests.many_machines"), ("accepted by us", "lost", "duplicates at Meta", "verdict")),
    "network split": (("-m", "tests.network_split"), ("lost", "taken over", "sent twice", "verdict")),
    "noisy": (("-m", "tests.noisy"), ("database", "99 of 100 arrive later", "verdict")),
    "outage": (
        ("-m", "tests.outage"),
        ("lost", "calls a minute while", "sent within", "calls in one minute", "verdict"),
    ),
    "wave": (("-m", "tests.wave"), ("tokens with one end", "refreshes in one minute", "tokens below", "exchanges")),
}


def run(name: str) -> None:
    """One drill in full; what it says is kept, whether it held or not."""
    command, wanted = RUNS[name]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=report.ROOT, check=False)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    told = [line for line in lines if line.startswith(wanted)]
    if not told:
        raise SystemExit(f"{name} said nothing that could be kept:\n{done.stdout}{done.stderr}")
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    kept = {"date": datetime.now(UTC).date().isoformat(), "machine": where, "held": done.returncode == 0, "told": told}
    text = json.dumps(stored() | {name: kept}, indent=1, ensure_ascii=False, sort_keys=True)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    print(f"{name}: {'; '.join(told)}")


def stored() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def markdown() -> str:
    lines = ["| Promise | Aim | Shown by | Reached | When and where |", "| --- | --- | --- | --- | --- |"]
    for promise in PROMISES:
        reached, where = _reached(promise)
        cells = (f"**{promise.name}** {promise.words}", promise.aim, _proofs(promise), reached, where)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _proofs(promise: Promise) -> str:
    named = [_file_and_words(proof) for proof in promise.shown]
    return "; ".join([*named, *(f"`{_command(name)}`" for name in promise.runs)])


def _file_and_words(proof: str) -> str:
    file, test = proof.split("::")
    return f"`{file.removeprefix('tests/')}` {test.removeprefix('test_').replace('_', ' ')}"


def _command(name: str) -> str:
    words = ("-m", "tests.bench", name.removeprefix("bench ")) if name.startswith("bench ") else RUNS[name][0]
    return " ".join(("python", *words))


def _reached(promise: Promise) -> tuple[str, str]:
    said, places = [], []
    for name in promise.runs:
        if name.startswith("bench "):
            said.append(_benchmark(name.removeprefix("bench ")))
            places.append("see How fast")
        elif kept := stored().get(name):
            said.append(("" if kept["held"] else "missed: ") + "; ".join(kept["told"]))
            places.append(f"{kept['date']}, {kept['machine']}")
    if not promise.runs:
        return "held by every run of the tests", ""
    return "; ".join(filter(None, said)), "; ".join(dict.fromkeys(places))


def _benchmark(name: str) -> str:
    """How many of a benchmark's aims were reached."""
    result = report.stored().get(name)
    rows = [row for row in report.rows_of(result) if row.aim] if result else []
    return f"{sum(row.reached for row in rows)} of {len(rows)} aims" if rows else ""


def rewritten(readme: str) -> str:
    before, rest = readme.split(_MARK)
    _, after = rest.split(_END)
    return f"{before}{_MARK}\n{markdown()}\n{_END}{after}"


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.promises", description=__doc__)
    options.add_argument("what", choices=["run", "table"])
    options.add_argument("names", nargs="*", help=f"which of: {', '.join(RUNS)}; all without")
    given = options.parse_args()
    if given.what == "run":
        for name in given.names or RUNS:
            run(name)
    else:
        path = report.ROOT / "README.md"
        path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
