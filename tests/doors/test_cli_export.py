"""The console's CSV files at the shell."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner, Result

from core import clock
from core.doors import cli_times
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "taken away"
    made.mkdir()
    return made


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


def test_times_stand_on_the_clock_of_whoever_asks(export: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    berlin = _rows(export("refreshes", "--time-zone", "Europe/Berlin").stdout_bytes)
    for row in berlin:
        assert datetime.fromisoformat(f"{row['at (UTC)']}+00:00") == datetime.fromisoformat(row["at (Europe/Berlin)"])
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    assert "at (Asia/Kolkata)" in _rows(export("refreshes").stdout_bytes)[0]
    assert [name for name in _rows(export("refreshes", "--time-zone", "UTC").stdout_bytes)[0] if "at (" in name] == [
        "at (UTC)"
    ]


@pytest.mark.parametrize(
    ("set_to", "name"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        (":America/New_York", "America/New_York"),
        ("/usr/share/zoneinfo/Asia/Kolkata", "Asia/Kolkata"),
        ("", "UTC"),
    ],
)
def test_this_machines_zone_has_a_name(monkeypatch: pytest.MonkeyPatch, set_to: str, name: str) -> None:
    monkeypatch.setenv("TZ", set_to)
    assert str(cli_times.zone(None)) == name


def test_this_machines_zone_is_where_its_clock_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TZ", raising=False)
    target, link = tmp_path / "zoneinfo" / "Pacific" / "Auckland", tmp_path / "localtime"
    target.parent.mkdir(parents=True)
    target.touch()
    link.symlink_to(target)
    monkeypatch.setattr(cli_times, "_OF_MACHINE", link)
    assert str(cli_times.zone(None)) == "Pacific/Auckland"


def test_a_clock_without_a_name_still_has_its_offset(export: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-3:30")
    time.tzset()
    try:
        row = _rows(export("refreshes").stdout_bytes)[0]
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert row["at (XYZ)"].endswith("+03:30")


def test_failed_events_of_one_day(export: Run, folder: Path) -> None:
    whole = _rows(export("failed", "--show", "dead").stdout_bytes)
    received = datetime.fromisoformat(f"{whole[0]['received (UTC)']}+00:00")
    day = received.astimezone(ZoneInfo("Asia/Kolkata")).date()
    span = ("--since", f"{day}", "--until", f"{day + timedelta(days=1)}", "--time-zone", "Asia/Kolkata")
    done = export("failed", "--show", "dead", *span, "--out", str(folder))
    assert done.exit_code == 0, done.output
    (written,) = folder.iterdir()
    assert written.name.endswith(f"Z_dead_since-{day}T0000_until-{day + timedelta(days=1)}T0000.csv")
    rows = list(csv.DictReader(io.StringIO(written.read_text("utf-8-sig"), newline="")))
    assert {row["received (Asia/Kolkata)"][:10] for row in rows} == {f"{day}"}
    assert 0 < len(rows) < len(whole)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (
            ("expiry", "--health", "EXPIRED", "--health", "Valid", "--search", "dune"),
            "expiry-report_*_EXPIRED_Valid_dune",
        ),
        (("failed", "--failure", "permission", "--search", "x y"), "failed-events_*_still-in-time_permission_x-y"),
        (("refreshes", "--since-days", "9", "--outcome", "extended"), "refresh-history_*_9-days_extended"),
        (
            ("audit", "--who", "ann", "--action", "set_token", "--about", "job 7"),
            "audit_*_400-days_ann_set_token_job-7",
        ),
        (("job", "1"), "job-1_*"),
    ],
)
def test_a_file_in_a_folder_is_named_by_what_was_asked(
    export: Run, folder: Path, command: tuple[str, ...], name: str
) -> None:
    done = export(*command, "--out", str(folder))
    assert done.exit_code == 0, done.output
    (written,) = folder.iterdir()
    assert written.match(f"{name}.csv"), written.name


def test_a_jobs_result(export: Run, stored: World) -> None:
    now = clock.now()
    with writing(stored.engine) as conn:
        job = jobs.order(conn, "refresh_tokens", ["fp_a", "fp_b"], dedupe_key="x", by="ann", reason=None, now=now)
        jobs.take(conn, job, by="w", now=now)
        jobs.record(conn, job, {"fp_a": ("failed", "refused: gone")}, by="w", now=now)
    rows = {row["subject"]: row["result"] for row in _rows(export("job", str(job)).stdout_bytes)}
    assert rows == {"fp_a": "failed", "fp_b": "not done"}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("expiry", "--health", "Fine"), "is none of: Needs reconnect"),
        (("failed", "--show", "lost"), "is none of: still in time"),
        (("refreshes", "--outcome", "fine"), "is none of: extended"),
        (("job", "999999"), "there is no job 999999"),
        (
            ("audit", "--time-zone", "Berlin"),
            "--time-zone: 'Berlin' is no time zone that this machine knows: a name such",
        ),
        (
            ("failed", "--since", "monday"),
            "--since: 'monday' is no time that can be read: today, yesterday, a day such",
        ),
        (("failed", "--since", "today", "--until", "yesterday"), "--since is not before --until"),
    ],
)
def test_what_cannot_be_given_is_one_line(export: Run, command: tuple[str, ...], words: str) -> None:
    done = export(*command)
    assert done.exit_code == 1
    assert words in done.stderr
    assert done.stdout == ""
