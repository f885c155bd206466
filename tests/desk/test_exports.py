"""What is taken away: well-formed, inert, and without secrets."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from core.desk import exports
from core.desk.explain import FAILURES, OUTCOMES, REASONS, explain
from core.desk.steps import next_step
from core.inbound import shopify_events
from core.meta import events
from core.meta.failures import Failure
from core.services.ladder import Outcome
from core.store.database import reading
from core.store.health import Health
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


def test_the_expiry_report_has_every_app_and_no_token(engine: Engine, now: datetime) -> None:
    seed(engine, now=now, apps=36)
    with reading(engine) as conn:
        lines = "".join(exports.expiry_report(conn, now=now, soon=SOON, window=WINDOW))
        expired = list(exports.expiry_report(conn, now=now, soon=SOON, window=WINDOW, health=["EXPIRED"]))
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
        dead = list(exports.failed_report(conn, now=now, view="dead"))
    assert len(refreshes) == 13
    assert len(dead) > 11
    assert MARK not in "".join([*refreshes, *dead])


def test_the_file_name_tells_when_and_what(now: datetime) -> None:
    name = exports.file_name("expiry-report", now=now, filters=["EXPIRED", None, "../../x shop"])
    assert name == "expiry-report_2026-11-23T1200Z_EXPIRED_x-shop.csv"


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
