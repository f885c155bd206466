"""Find in a real browser: a link to a story on a server nobody has asked yet, and what does not stay in the address."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import text

from tests.browser.conftest import Console
from tests.browser.screens import CHROMIUM, settle

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine"),
]


def test_a_link_to_a_story_works_on_a_fresh_server(console: Console, page: Any) -> None:
    with console.engine.connect() as conn:
        known = conn.execute(
            text("SELECT event_id, order_id FROM capi_event WHERE failure = 'token_dead' LIMIT 1")
        ).one()
    page.goto(f"{console.url}/find?q={known.event_id}")
    settle(page)
    assert page.get_by_role("heading", level=1).all_inner_texts() == ["Find"]
    story = page.get_by_role("table", name="What happened, oldest first")
    story.get_by_text("It was parked").wait_for()
    assert story.get_by_role("columnheader").all_inner_texts() == ["When", "What", "Whose"]
    assert str(story.locator("time").first.get_attribute("title")).endswith(" UTC")
    page.get_by_test_id("stCode").filter(has_text="It is not lost").wait_for()
    box = page.get_by_role("searchbox", name="Find")
    box.fill("owner3@dune.example")
    box.press("Enter")
    page.get_by_text("People are not searched here").wait_for()
    settle(page)
    assert "dune" not in page.url
    assert box.input_value() == ""
    page.goto(f"{console.url}/find?q=evt-8")
    settle(page)
    assert page.get_by_text("Copy for the merchant").count() == 1


def test_a_story_is_one_click_away_from_its_event_and_back(console: Console, page: Any) -> None:
    page.goto(f"{console.url}/failed-events?show=dead")
    settle(page)
    grid = page.get_by_test_id("stDataFrameResizable").nth(1)
    grid.scroll_into_view_if_needed()
    grid.click(position={"x": 16, "y": 45})
    settle(page)
    page.get_by_role("link", name="Its whole story").click()
    page.locator(".story-title").wait_for()
    name = parse_qs(urlsplit(page.url).query)["q"][0]
    assert page.get_by_test_id("stTextInput").locator("input").input_value() == name
    page.get_by_role("link", name="Act on it in Failed events").click()
    page.get_by_role("heading", name="Failed events", level=1).wait_for()
    settle(page)
    assert parse_qs(urlsplit(page.url).query)["event"] == [name]
