"""What is taken away: well-formed, inert, and without secrets."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, Engine, event, select

from core.desk import audit_trail, exports, exports_work, queries, tokens
from core.desk.explain import FAILURES, OUTCOMES, REASONS, explain
from core.desk.steps import next_step
from core.inbound import shopify_events
from core.meta import events
from core.meta.failures import Failure
from core.services.ladder import Outcome
from core.store import audit, jobs
from core.store.database import reading, writing
from core.store.health import Health
from core.store.schema import capi_event
from tests.desk.rows import MARK, seed

SOON, WINDOW = timedelta(days=7), timedelta(days=30)


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", '=HYPERLINK("http://e","x")'])
def test_a_formula_becomes_text(cell: str) -> None:
    lines = "".join(exports.csv_lines(("shop",), [(cell,)]))
    assert list(csv.reader(io.StringIO(lines, newline="")))[1] == ["'" + cell]


def test_cells_survive_the_way_there_and_back() -> None:
    cells = ('a "quoted" one', "two\r\nlines", "semi;colon, comma", "Größe ✓", None, -3.5, 0)
    lines = "".join(exports.csv_lines(("1", "2", "3", "4", "5", "6", "7"), [cells]))
    assert list(csv.reader(io.StringIO(lines, newline="")))[1] == [*cells[:4], "", "-3.5", "0"]
    assert lines.endswith("\r\n")


def _table(lines: Iterable[str]) -> list[list[str]]:
    return list(csv.reader(io.StringIO("".join(lines), newline="")))


@pytest.mark.parametrize(
    ("zone", "utc", "local"),
    [
        ("Europe/Berlin", "2026-10-25 00:30:00", "2026-10-25 02:30:00+02:00"),
        ("Europe/Berlin", "2026-10-25 01:30:00", "2026-10-25 02:30:00+01:00"),  # the same hour once more
        ("America/New_York", "2026-11-26 03:30:00", "2026-11-25 22:30:00-05:00"),
        ("Asia/Kolkata", "2026-11-26 20:30:00", "2026-11-27 02:00:00+05:30"),
        ("Europe/London", "2026-11-26 20:30:00", "2026-11-26 20:30:00+00:00"),
        ("Asia/Tokyo", "9999-12-31 23:59:59", "9999-12-31 23:59:59+00:00"),  # no later day can be written
    ],
)
def test_a_moment_stands_in_utc_and_on_the_readers_clock(zone: str, utc: str, local: str) -> None:
    moment = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    rows = [(1, moment, "x"), (2, None, "y")]
    table = _table(exports.csv_lines(("id", "received (UTC)", "shop"), rows, zone=ZoneInfo(zone)))
    assert table[0] == ["id", "received (UTC)", f"received ({zone})", "shop"]
    assert table[1:] == [["1", utc, local, "x"], ["2", "", "", "y"]]


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "Africa/Abidjan"])
def test_who_lives_by_utc_gets_no_column_twice(zone: str, now: datetime) -> None:
    table = _table(exports.csv_lines(("at (UTC)",), [(now,)], zone=ZoneInfo(zone)))
    assert table == [["at (UTC)"], ["2026-11-23 12:00:00"]]


REPORTS: dict[str, Callable[[Connection, datetime, tzinfo], Iterator[str]]] = {
    "expiry": lambda conn, now, zone: exports.expiry_report(
        conn, queries.TokenFilters(), now=now, soon=SOON, window=WINDOW, zone=zone
    ),
    "refreshes": lambda conn, _, zone: exports.refresh_report(conn, zone=zone),
    "failed": lambda conn, now, zone: exports.failed_report(conn, queries.Filters(), now=now, zone=zone),
    "audit": lambda conn, _, zone: audit_trail.audit_report(conn, zone=zone),
    "job": lambda conn, _, zone: exports_work.job_report(conn, queries.jobs(conn)[0].id, zone=zone),
}


@pytest.mark.parametrize("report", list(REPORTS))
def test_every_moment_of_every_report_has_its_local_twin(engine: Engine, now: datetime, report: str) -> None:
    seed(engine, now=now, apps=36)
    with reading(engine) as conn:
        ids = list(conn.scalars(select(capi_event.c.id).where(capi_event.c.state.in_(("dead", "delivered")))))
    with writing(engine) as conn:
        jobs.order(conn, "retry_events", [*map(str, ids)], dedupe_key="x", by="ann", reason=None, now=now)
        audit.write(conn, by="ann", action="retry_events", subject="job 2", count=1, reason=None, now=now)
    with reading(engine) as conn:
        head, *rows = _table(REPORTS[report](conn, now, ZoneInfo("Europe/Berlin")))
    moments = [place for place, name in enumerate(head) if name.endswith(" (UTC)")]
    assert moments
    assert len(set(head)) == len(head)
    for place in moments:
        assert head[place + 1] == head[place].replace("(UTC)", "(Europe/Berlin)")
        pairs = [(row[place], row[place + 1]) for row in rows if row[place] or row[place + 1]]
        assert pairs
        assert all(datetime.fromisoformat(f"{utc}+00:00") == datetime.fromisoformat(twin) for utc, twin in pairs)
    others = [
        cell for row in rows for place, cell in enumerate(row) if place not in moments and place - 1 not in moments
    ]
    assert not [cell for cell in others if re.match(r"\d{4}-\d\d-\d\d", cell)]


def test_the_expiry_report_is_read_in_parts(engine: Engine, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(engine, now=now, apps=36)
    monkeypatch.setattr(tokens, "_LOOKUPS", 5)
    with reading(engine) as conn:
        whole = queries.token_health(conn, now=now, soon=SOON, window=WINDOW)
        parts = queries.each_token(conn, now=now, soon=SOON, window=WINDOW)
        asked: list[str] = []
        event.listen(conn, "before_cursor_execute", lambda *args: asked.append(args[2]))
        first = [next(parts) for _ in range(5)]
        in_time = len(asked)
        assert [*first, *parts] == whole
    assert 0 < in_time < len(asked), "later parts are asked about when their turn comes"


def test_the_expiry_report_has_every_app_and_no_token(engine: Engine, now: datetime) -> None:
    seed(engine, now=now, apps=36)
    with reading(engine) as conn:
        lines = "".join(exports.expiry_report(conn, queries.TokenFilters(), now=now, soon=SOON, window=WINDOW))
        expired = list(
            exports.expiry_report(conn, queries.TokenFilters(health=["EXPIRED"]), now=now, soon=SOON, window=WINDOW)
        )
    rows = list(csv.DictReader(io.StringIO(lines, newline="")))
    assert len(rows) == 36
    assert tuple(rows[0]) == exports.EXPIRY_COLUMNS
    assert {row["health"] for row in rows} <= {str(word) for word in Health}
    assert 1 < len(expired) < 37
    assert MARK not in lines


def test_the_other_reports_page_through_everything(
    engine: Engine, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(engine, now=now, apps=36)
    monkeypatch.setattr(exports, "_PAGE", 5)
    with reading(engine) as conn:
        refreshes = list(exports.refresh_report(conn))
        dead = list(exports.failed_report(conn, queries.Filters(view="dead"), now=now))
    assert len(refreshes) == 13
    assert len(dead) > 11
    assert MARK not in "".join([*refreshes, *dead])


def test_the_file_name_tells_when_and_what(now: datetime) -> None:
    name = exports.file_name("expiry-report", now=now, filters=["EXPIRED", None, "../../x shop"])
    assert name == "expiry-report_2026-11-23T1200Z_EXPIRED_x-shop.csv"
    assert exports.file_name("a", now=now, filters=["Größe", "お茶 店"]) == "a_2026-11-23T1200Z_Größe_お茶-店.csv"
    assert len(exports.file_name("a", now=now, filters=["茶" * 40] * 9).encode()) <= 255


def test_every_failure_and_outcome_is_explained() -> None:
    assert set(FAILURES) == set(Failure)
    assert set(OUTCOMES) == set(Outcome)
    for word in (*FAILURES, *REASONS, *OUTCOMES):
        said = explain(word)
        assert said.what
        assert said.whose
        assert said.do
    assert explain("never heard of").what


def test_every_reason_to_skip_an_event_is_explained() -> None:
    sources = [Path(events.__file__), *Path(shopify_events.__file__).parent.glob("*.py")]
    lines = [line for source in sources for line in source.read_text().splitlines()]
    words = {word for line in lines if "return" in line for word in re.findall(r'"([a-z]+_[a-z_]+)"', line)}
    reasons = {
        word for word in words if word.startswith(("no_", "bad_", "too_", "in_f", "not_", "pixel_", "test_", "other_"))
    }
    assert len(reasons) > 10
    assert reasons <= set(REASONS)


@pytest.mark.parametrize("health", list(Health))
def test_every_health_has_a_next_step(health: Health) -> None:
    assert next_step(health, None)
    assert "Connect" in next_step(health, None, has_token=False)
