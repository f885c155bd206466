"""The console's CSV files at the shell."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from core import clock
from core.doors.cli import app
from core.store import jobs
from core.store.database import writing
from tests.desk.rows import MARK, seed
from tests.world import World

Run = Callable[..., Result]


@pytest.fixture
def stored(sqlite_world: World) -> World:
    seed(sqlite_world.engine, now=clock.now(), apps=30, events=200)
    return sqlite_world


@pytest.fixture
def export(stored: World, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DATABASE_URL", stored.engine.url.render_as_string(hide_password=False))

    def export(*args: str) -> Result:
        return CliRunner().invoke(app, ["export", *args])

    return export


def _rows(written: bytes) -> list[dict[str, str]]:
    assert written.endswith(b"\r\n")
    return list(csv.DictReader(io.StringIO(written.decode(), newline="")))


def test_each_report_comes_as_the_console_gives_it(export: Run, stored: World) -> None:
    for what in (("expiry",), ("failed", "--show", "dead"), ("refreshes", "--since-days", "400")):
        done = export(*what)
        assert done.exit_code == 0, done.output
        assert len(_rows(done.stdout_bytes)) > 1
        assert MARK not in done.output
    assert {row["health"] for row in _rows(export("expiry", "--health", "EXPIRED").stdout_bytes)} == {"EXPIRED"}
    assert {row["state"] for row in _rows(export("failed", "--show", "waiting").stdout_bytes)} == {"parked"}


def test_a_file_is_written_for_a_spreadsheet(export: Run, tmp_path: Path) -> None:
    out = tmp_path / "expiry.csv"
    done = export("expiry", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert out.read_bytes().startswith("\ufeff".encode())
    assert f"{len(_rows(out.read_bytes()))} rows written to {out}" in done.stdout
    assert export("failed", "--out", str(tmp_path / "no" / "such.csv")).exit_code == 2


def test_a_jobs_result(export: Run, stored: World) -> None:
    now = clock.now()
    with writing(stored.engine) as conn:
        job = jobs.order(conn, "refresh_tokens", ["fp_a", "fp_b"], dedupe_key="x", by="ann", reason=None, now=now)
        jobs.take(conn, job, by="w", now=now)
        jobs.record(conn, job, "fp_a", "failed", "refused: gone", by="w", now=now)
    rows = {row["subject"]: row["result"] for row in _rows(export("job", str(job)).stdout_bytes)}
    assert rows == {"fp_a": "failed", "fp_b": "not done"}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("expiry", "--health", "Fine"), "is none of: Needs reconnect"),
        (("failed", "--show", "lost"), "is none of: still in time"),
        (("refreshes", "--outcome", "fine"), "is none of: extended"),
        (("job", "999999"), "there is no job 999999"),
    ],
)
def test_what_cannot_be_given_is_one_line(export: Run, command: tuple[str, ...], words: str) -> None:
    done = export(*command)
    assert done.exit_code == 1
    assert words in done.stderr
    assert done.stdout == ""
