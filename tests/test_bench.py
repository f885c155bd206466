from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.bench import intake, places, report
from tests.bench.__main__ import BENCHES
from tests.bench.report import Row, interleaved

README = (report.ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_shows_the_stored_results() -> None:
    assert report.stored()
    assert report.rewritten(README, report.markdown(report.stored(), [*BENCHES])) == README


def test_every_stored_result_is_of_a_benchmark_that_can_be_run() -> None:
    assert report.stored().keys() <= BENCHES.keys()
    assert all(importlib.util.find_spec(f"tests.bench.{name}") for name in report.stored())


def test_intake_is_compared_with_a_server_that_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The short form of B1: that it works, and that nothing has collapsed."""
    with places.sqlite() as new:
        rows = intake.compare("SQLite", new, connections=64, rounds=1, seconds=0.5)
    assert [row.against for row in rows] == ["no-op", "commit for each"]
    assert all(row.ratio is not None and row.ratio > floor for row, floor in zip(rows, (0.01, 1), strict=True))
    report.show(rows)
    assert "calls/s" in capsys.readouterr().out


def test_variants_are_measured_in_turn_and_compared_within_a_round() -> None:
    figures, asked = iter([10.0, 100.0, 30.0, 60.0, 20.0, 50.0]), []
    variants = {name: lambda name=name: asked.append(name) or next(figures) for name in ("ours", "theirs")}
    rounds = interleaved(3, variants)  # type: ignore[arg-type]
    assert asked == ["ours", "theirs"] * 3
    row = rounds.row("speed", "ours", "a second", against="theirs", aim="≥ 0.35")
    assert (row.value, row.spread, row.ratio, row.ratio_spread) == (20, (10, 30), 0.4, (0.1, 0.5))
    assert row.reached


@pytest.mark.parametrize(
    ("aim", "ratio", "reached"),
    [("≥ 0.35", 0.35, True), ("≥ 0.35", 0.34, False), ("≤ 60", None, True), ("≤ 59", None, False), ("", 1.0, None)],
)
def test_an_aim_is_about_the_ratio_where_there_is_one(aim: str, ratio: float | None, reached: bool | None) -> None:
    assert Row("memory", "endpoint", 60, "MB", ratio=ratio, aim=aim).reached is reached


def test_a_result_survives_its_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    rows = [
        Row("speed", "SQLite", 1234.5, "a second", (1000, 1500), 0.4, (0.3, 0.5), "no-op", "≥ 0.35", "64 connections")
    ]
    report.store("intake", report.result_of(rows))
    assert report.rows_of(report.stored()["intake"]) == rows
    table = report.markdown(report.stored(), ["delivery", "intake"])
    line = (
        "| `intake` | speed | SQLite | 1,234 a second | 1,000 to 1,500 | 0.4 × no-op (0.3 to 0.5) | ≥ 0.35: reached |"
    )
    assert f"{line} 64 connections |" in table.splitlines()
    assert report.machine()["cpu"] in table.splitlines()[-1]
