"""A merchant in a real browser: from the link through the dialog to the thanks, by light, in the dark, on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from core.sandbox.client import Sandbox
from tests.browser.screens import CHROMIUM, chromium
from tests.reconnecting import OWNER, Road, a_road

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine"),
]

SCREENS = (("light", 1280, 800), ("dark", 1280, 800), ("light", 320, 640), ("dark", 320, 640))
# Relative luminance and contrast: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
CONTRASTS = """() => {
  const rgb = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = parts => parts.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = node => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("h1, p, li, button, a, strong")].map(node => {
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(rgb(ground(node)))];
    return [node.tagName, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  });
}"""


@pytest.fixture
def road(sqlite_engine: Engine, meta: Sandbox) -> Iterator[Road]:
    with a_road(sqlite_engine, meta) as made:
        meta.login(user=OWNER, at_once=False)
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def look(page: Any) -> None:
    """What holds for every page of ours: readable, no wider than the screen, with title and language."""
    for scheme, width, height in SCREENS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": height})
        assert [pair for pair in page.evaluate(CONTRASTS) if pair[1] < 4.5] == [], scheme
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), width
    assert page.locator("html[lang=en]").count() == page.locator("h1").count() == page.locator("main").count() == 1
    assert page.title()


def test_a_merchant_connects_again(road: Road, browser: Any) -> None:
    app = road.a_lost_app()
    page = browser.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("console", lambda line: said.append(line.text))

    page.goto(road.link(app))
    look(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=f"Continue as user {OWNER}?").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("You left Facebook's window").wait_for()
    look(page)

    page.get_by_role("button", name="Try again with Facebook").click()
    page.get_by_label("ads_management").uncheck()
    page.get_by_role("button", name="Continue").click()
    page.get_by_text("A permission that is needed was not given: ads_management").wait_for()
    look(page)

    page.get_by_role("button", name="Try again with Facebook").click()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("heading", name="Thank you: Facebook is connected").wait_for()
    look(page)
    page.reload()
    page.get_by_role("heading", name="Thank you").wait_for()

    for path in ("/reconnect/x", "/auth/facebook/callback?code=c&state=s"):
        page.goto(road.url + path)
        look(page)
    assert road.case(app).state == "done"
    assert road.world.app(app).token != app.token
    assert not any("Content Security Policy" in line for line in said), said
    assert {url.split("/")[2] for url in asked} == {road.url.split("/")[2], road.meta.url.split("/")[2]}
