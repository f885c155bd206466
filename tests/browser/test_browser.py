"""What only a real browser shows: deep links, clicks in tables, downloads, and what goes over the wire."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from core import clock
from core.doors.console import MENU
from core.store import jobs
from core.store.database import reading, writing
from core.store.schema import capi_audit, capi_job, capi_job_item
from tests.browser.conftest import Console
from tests.browser.screens import CHROMIUM, IDLE, PATHS, settle
from tests.desk import trouble
from tests.desk.rows import MARK

PASTED = "EAApastedTokenThatNobodyMaySee"
BEHIND = "element => getComputedStyle(element, '::after').content"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine"),
]


def _open(page: Any, console: Console, path: str) -> None:
    page.goto(f"{console.url}/{path}")
    settle(page)


def _tick(page: Any, table: int, row: int) -> None:
    """Click the box in front of a row (tables have rows of 30 px below a header of the same height)."""
    grid = page.get_by_test_id("stDataFrameResizable").nth(table)
    grid.scroll_into_view_if_needed()
    grid.click(position={"x": 16, "y": 30 + row * 30 + 15})
    settle(page)


def _cell(page: Any, table: int, column: int, row: int) -> str:
    grid = page.get_by_test_id("stDataFrame").nth(table)
    cell = grid.get_by_test_id(f"glide-cell-{column}-{row}")
    cell.wait_for(state="attached")
    return str(cell.text_content())


def _jobs(console: Console) -> list[tuple[str, int]]:
    with reading(console.engine) as conn:
        rows = conn.execute(select(capi_job.c.kind, capi_job.c.total).where(capi_job.c.ended_at.is_(None)))
        return [tuple(row) for row in rows]


def test_a_deep_link_works_on_a_fresh_server(console: Console, page: Any) -> None:
    _open(page, console, "failed-events?show=waiting&cause=Token+gone&received=Last+7+days")
    assert page.get_by_role("heading", level=1).all_inner_texts() == ["Failed events"]
    assert page.get_by_text("Page not found").count() == 0
    assert page.get_by_test_id("stException").count() == 0
    assert page.get_by_test_id("stSidebarNav").get_by_role("link").count() == sum(map(len, MENU.values()))
    assert _cell(page, 1, 2, 0) == "Token gone"
    assert page.get_by_role("radio", name="Last 7 days").is_checked()


def test_select_confirm_and_the_job_is_there_once(console: Console, page: Any) -> None:
    _open(page, console, "tokens")
    _tick(page, 0, 1)
    shop = _cell(page, 0, 1, 1)
    page.get_by_role("button", name="Refresh selected (1)").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("from the browser")
    dialog.get_by_role("button", name="Yes, order it").dblclick()
    dialog.wait_for(state="detached")
    page.get_by_test_id("stProgress").wait_for()
    assert _jobs(console) == [("refresh_tokens", 1)]
    with reading(console.engine) as conn:
        wanted = text("SELECT fingerprint FROM capi_app WHERE shop_domain = :shop").bindparams(shop=shop)
        assert conn.scalar(select(capi_job_item.c.subject)) == conn.scalar(wanted)
    assert page.get_by_role("button", name="Refresh selected (0)").is_disabled()


@pytest.mark.long
def test_a_selection_stays_with_its_event_when_another_arrives(console: Console, page: Any) -> None:
    _open(page, console, "failed-events?show=dead")
    _tick(page, 1, 2)
    before = _cell(page, 1, 11, 2)
    with console.engine.begin() as conn:
        newest = "SELECT id FROM capi_event WHERE state = 'delivered' ORDER BY id DESC LIMIT 1"
        conn.execute(text(f"UPDATE capi_event SET state = 'dead', deadline_at = '2099-01-01' WHERE id = ({newest})"))
    _tick(page, 1, 6)
    page.get_by_role("button", name="Retry selected (2)").wait_for()
    assert _cell(page, 1, 11, 3) == before
    ticked = page.get_by_test_id("stDataFrame").nth(1).locator("tr[aria-selected=true]")
    assert [int(row.get_attribute("aria-rowindex")) for row in ticked.all()] == [2 + 3, 2 + 7]


@pytest.mark.long
def test_progress_lives_and_a_question_is_not_interrupted(console: Console, page: Any) -> None:
    _open(page, console, "tokens")
    page.get_by_role("button", name="Refresh all due").click()
    page.get_by_role("button", name="Yes, order it").click()
    progress = page.get_by_test_id("stProgress")
    progress.wait_for()
    _tick(page, 0, 0)
    page.get_by_role("button", name="Refresh selected (1)").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("half typed")
    with writing(console.engine) as conn:
        jobs.end(conn, 2, now=clock.now())
    progress.wait_for(state="detached")
    assert page.get_by_role("dialog").get_by_label("Reason").input_value() == "half typed"
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    settle(page)
    assert page.get_by_role("button", name="Refresh selected (1)").is_enabled()


def test_a_link_is_made_with_one_click_however_often_it_is_clicked(console: Console, page: Any) -> None:
    trouble.open_cases(console.engine, now=clock.now(), states=("made",))
    _open(page, console, "reconnect")
    _tick(page, 0, 0)
    page.get_by_role("button", name="Make the link").dblclick()
    page.get_by_text("The link, until").wait_for()
    settle(page)
    for time in (
        page.get_by_text("The link, until").locator("time"),
        page.get_by_role("table", name="Times").locator("time").first,
    ):
        assert str(utc := time.get_attribute("title")).endswith(" UTC"), "where it is pointed at"
        time.focus()
        assert utc in time.evaluate(BEHIND), "where the keyboard stands on it"
    with reading(console.engine) as conn:
        assert list(conn.scalars(select(capi_audit.c.action))) == ["make_link"]
    assert page.get_by_role("link", name="Open it in your mail program").get_attribute("href").startswith("mailto:")


@pytest.mark.long
def test_filters_stand_in_the_address(console: Console, page: Any) -> None:
    _open(page, console, "tokens")
    page.get_by_test_id("stButtonGroup").get_by_text("EXPIRED", exact=True).click()
    page.wait_for_url("**/tokens?health=EXPIRED")
    settle(page)
    assert _cell(page, 0, 3, 0) == "EXPIRED"
    page.reload()
    settle(page)
    assert _cell(page, 0, 3, 0) == "EXPIRED"


@pytest.mark.long
def test_the_expiry_report_arrives_whole(console: Console, page: Any) -> None:
    _open(page, console, "tokens?token=owner1")
    with page.expect_download() as coming:
        page.get_by_test_id("stDownloadButton").get_by_role("button").click()
    name, raw = coming.value.suggested_filename, Path(coming.value.path()).read_bytes()
    rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline="")))
    assert name.startswith("expiry-report_")
    assert name.endswith("_owner1.csv")
    assert len(rows) == 33
    assert {row["user"].split("@")[0][:6] for row in rows} == {"owner1"}
    assert raw.count(b"\r\n") == 34
    assert any(row["expires at (Europe/Berlin)"].endswith("+01:00") for row in rows)
    assert MARK.encode() not in raw


@pytest.mark.long
def test_all_that_match_go_again_once_somebody_says_why(console: Console, page: Any) -> None:
    with writing(console.engine) as conn:
        for table in ("capi_event", "capi_outbox"):
            conn.execute(text(f"UPDATE {table} SET deadline_at = '2099-01-01' WHERE state = 'dead'"))
        matching = conn.scalar(text("SELECT count(*) FROM capi_event WHERE state = 'dead' AND failure = 'permission'"))
    _open(page, console, "failed-events?show=dead&cause=Not+permitted")
    page.get_by_role("button", name=f"Retry all that match ({matching})").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(f"{matching} of {matching} events that match now").wait_for()
    dialog.get_by_role("button", name="Yes, order it").click()
    dialog.get_by_text("Say why first").wait_for()
    dialog.get_by_label("Reason").fill("the pixel is shared again")
    dialog.get_by_role("button", name="Yes, order it").click()
    dialog.wait_for(state="detached")
    page.get_by_test_id("stProgress").wait_for()
    assert _jobs(console) == [("retry_events", matching)]


def test_nothing_is_asked_of_the_outside_and_no_token_is_on_the_wire(console: Console, page: Any) -> None:
    outside: list[str] = []
    frames: list[bytes] = []

    def watch(socket: Any) -> None:
        socket.on("framereceived", lambda data: frames.append(data if isinstance(data, bytes) else data.encode()))

    page.on("request", lambda request: _is_outside(console, request.url) and outside.append(request.url))
    page.on("websocket", watch)
    broken: list[str] = []
    page.on("console", lambda line: "Content Security Policy" in line.text and broken.append(line.text))
    trouble.everything(console.engine, now=clock.now())
    for path in (*PATHS, "find?q=evt-7"):
        _open(page, console, path)
    for path, table in (("failed-events?show=dead", 1), ("reconnect", 0), ("tokens?token=owner0", 0)):
        _open(page, console, path)
        _tick(page, table, 0)
    page.get_by_text("Put another token in its place").click()
    settle(page)  # it unfolds: what is pressed meanwhile moves away under the pointer
    page.get_by_label("Access token").fill(PASTED)
    page.get_by_role("button", name="Verify and store").click()
    page.get_by_test_id("stAlertContentError").get_by_text("This was not ordered:").wait_for()
    settle(page)
    assert page.get_by_label("Access token").input_value() == ""
    assert not any(PASTED.encode() in frame for frame in frames)
    assert outside == []
    assert broken == []
    assert len(frames) > 20
    assert not any(MARK.encode() in frame for frame in frames)
    assert MARK not in page.content()
    assert PASTED not in page.content()
    assert MARK not in console.log.read_text()
    assert page.locator(IDLE).count() == 1


def _is_outside(console: Console, url: str) -> bool:
    return not url.startswith((console.url, "data:", "blob:"))
