"""Promises and what shows them: `python -m tests.promises run [NAME …]` runs drills in full and keeps what they say;
`keep FILE` takes what `capi-console drill … --json FILE` wrote, `keep NAME=FILE` what another of them printed; `table`
writes README's table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.drills.server import postgres
from tests.promises.rows import PROMISES, Promise

RESULTS = Path(__file__).parent / "results.json"
_MARK = "<!-- promises: `python -m tests.promises table` writes this -->"
_END = "<!-- end of promises -->"

DRILLS = ("crash", "storm", "poison", "noisy", "outage", "wave", "bulk")
# Other drills: name → (arguments of python, lines of the output that carry the figures, by how they begin)
OTHERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "interleavings": (("-m", "tests.interleavings", "--examples", "10000"), ("sqlite",)),
    "many machines": (("-m", "tests.many_machines"), ("accepted by us", "lost", "duplicates at Meta", "verdict")),
    "network split": (("-m", "tests.network_split"), ("lost", "taken over", "sent twice", "verdict")),
    "rolling": (("-m", "tests.rolling"), ("database", "accepted by us", "lost", "duplicates", "sent by", "verdict")),
}
# Drills that are played once more on a PostgreSQL server of their own: name → the drill
ON_POSTGRESQL = {f"{name} on PostgreSQL": name for name in ("crash", "storm", "poison", "noisy", "bulk")}
RUNS = (*DRILLS, *ON_POSTGRESQL, *OTHERS)


def run(name: str) -> None:
    """One drill in full; what it says is kept, whether it held or not."""
    if name in DRILLS:
        play(name)
        return
    if name in ON_POSTGRESQL:
        with postgres() as server:
            play(ON_POSTGRESQL[name], "--database", server.new("drill"))
        return
    command = [sys.executable, *OTHERS[name][0]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=report.ROOT, check=False)
    keep_words(name, done.stdout, datetime.now(UTC))


def play(drill: str, *how: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "facts.json"
        command = [sys.executable, "-m", "core.doors.cli", "drill", drill, "--json", str(file), *how]
        subprocess.run(command, cwd=report.ROOT, check=False)
        keep_drill(file)


def keep_words(name: str, said: str, at: datetime) -> None:
    """What one of OTHERS has printed on this machine."""
    lines = [" ".join(line.split()) for line in said.splitlines()]
    told = [line for line in lines if line.startswith(OTHERS[name][1])]
    held = [line for line in told if line.endswith("holds") or " 0 violations" in line]
    told = [line for line in told if not line.startswith("verdict")] or told
    if not told:
        raise SystemExit(f"{name} said nothing that could be kept:\n{said}")
    where = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    _keep(name, {"date": at.date().isoformat(), "machine": where, "held": bool(held), "told": told})


def keep_drill(file: Path) -> None:
    """What `capi-console drill … --json` has written; a short form shows nothing that is promised."""
    facts = json.loads(file.read_text(encoding="utf-8"))
    if facts["short"]:
        raise SystemExit(f"{file} is of a short drill: run it in full")
    if facts.get("how"):
        raise SystemExit(f"{file} is of a drill that was made smaller or larger: run it as it is promised")
    told = [facts["form"], *(f"{name}: {said}" for name, said in facts["rows"].items() if said != "none")]
    if "accepted" in facts:
        told.insert(0, f"{facts['accepted']:,} accepted, {facts['lost']} lost, {facts['duplicates']:,} duplicates")
    kept = {"date": facts["at"][:10], "machine": facts["machine"], "held": facts["holds"], "told": told}
    on = " on PostgreSQL" if facts["rows"].get("database", "").startswith("postgresql") else ""
    _keep(facts["drill"] + on, kept)


def _keep(name: str, kept: dict[str, Any]) -> None:
    text = json.dumps(stored() | {name: kept}, indent=1, ensure_ascii=False, sort_keys=True)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    print(f"{name}: {'; '.join(kept['told'])}")


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
    if name in DRILLS:
        return f"capi-console drill {name}"
    if name in ON_POSTGRESQL:
        return f"python -m tests.promises run '{name}'"
    words = ("-m", "tests.bench", name.removeprefix("bench ")) if name.startswith("bench ") else OTHERS[name][0]
    return " ".join(("python", *words))


def _reached(promise: Promise) -> tuple[str, str]:
    said, places = [], []
    for name in promise.runs:
        if name.startswith("bench "):
            said.append(_benchmark(name.removeprefix("bench ")))
            places.append("see How fast")
        elif kept := stored().get(name):
            where = "**on PostgreSQL**: " if name in ON_POSTGRESQL else ""
            said.append(where + ("" if kept["held"] else "missed: ") + "; ".join(kept["told"]))
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
    options.add_argument("what", choices=["run", "keep", "table"])
    options.add_argument(
        "names", nargs="*", help=f"run: which of {', '.join(RUNS)}, all without; keep: drills' JSON files"
    )
    given = options.parse_args()
    if given.what == "run":
        for name in given.names or RUNS:
            run(name)
    elif given.what == "keep":
        for what in given.names:
            name, _, file = what.rpartition("=")
            path = Path(file)
            if name:
                at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                keep_words(name, path.read_text(encoding="utf-8"), at)
            else:
                keep_drill(path)
    else:
        path = report.ROOT / "README.md"
        path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
