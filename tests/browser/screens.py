"""Pictures of the console for README: `python -m tests.browser.screens URL OUTDIR` (1440x900, light and dark)."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.doors.console import MENU

# Every page that is there beside Meta itself, by its path.
PATHS = [entry.url_path for group in MENU.values() for entry in group if not entry.sandbox]
# picture → the path where it is begun
PICTURES = {
    "overview": "",
    "tokens": "tokens",
    "refresh-history": "refresh-history",
    "failed-events": "failed-events",
    "reconnect": "reconnect",
    "find": "failed-events",
    "jobs": "tokens",
    "apps": "apps",
    "system": "system",
    "people": "people",
}
LARGEST = 300 * 1024
CHROMIUM = "/usr/bin/chromium"
# As root, without a screen, and without asking the outside for anything.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
IDLE = "[data-testid=stApp][data-test-script-state=notRunning][data-test-connection-state=CONNECTED]"

# Charts and tables come with scripts of their own, later than the page.
DRAWN = """() => !document.querySelector('[data-testid=stSkeleton]')
  && [...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(one => one.querySelector('svg.main-svg'))"""


@contextmanager
def chromium(*more: str) -> Iterator[Any]:
    """A headless browser; `more` stands behind our flags."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *more])
        yield browser
        browser.close()


def settle(page: Any) -> None:
    """Wait until the script has run and charts and tables are drawn."""
    page.wait_for_selector(IDLE, timeout=60_000)
    page.wait_for_timeout(700)
    page.wait_for_selector(IDLE, timeout=60_000)
    page.wait_for_function(DRAWN, timeout=60_000)


def show_link(page: Any) -> None:
    """The first case with its link: made, or shown once more."""
    page.get_by_test_id("stDataFrameResizable").first.click(position={"x": 16, "y": 45})
    settle(page)
    for label in ("Make the link", "Remind with the same link"):
        if page.get_by_role("button", name=label).count():
            page.get_by_role("button", name=label).click()
            break
    page.mouse.move(0, 0)
    settle(page)


def show_story(page: Any) -> None:
    """From an event that waits to all that happened to it."""
    page.get_by_test_id("stDataFrameResizable").last.click(position={"x": 16, "y": 45})
    settle(page)
    page.get_by_role("link", name="Its whole story").click()
    page.locator(".story-title").wait_for()
    settle(page)


def order_refresh(page: Any) -> None:
    """A job of all tokens that are due, and what has come of it."""
    page.get_by_role("button", name="Refresh all due").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("Before the weekend's sale")
    dialog.get_by_role("button", name="Yes, order it").click()
    dialog.wait_for(state="detached")
    page.wait_for_timeout(6_000)
    page.goto(f"{page.url.split('/tokens')[0]}/jobs")
    settle(page)
    page.get_by_test_id("stDataFrameResizable").first.click(position={"x": 16, "y": 45})
    settle(page)


# picture → what is done before it is taken, where PICTURES begins
BEFORE = {"reconnect": show_link, "find": show_story, "jobs": order_refresh}


def take(
    url: str, folder: Path, *, pages: dict[str, str] = PICTURES, size: tuple[int, int] = (1440, 900)
) -> list[Path]:
    """One PNG for each page and theme."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = []
    with chromium() as browser:
        for theme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": size[0], "height": size[1]}, color_scheme=theme, timezone_id="Europe/Berlin"
            )
            page = context.new_page()
            for name, path in pages.items():
                page.goto(f"{url.rstrip('/')}/{path}")
                settle(page)
                BEFORE.get(name, settle)(page)
                target = folder / f"{name}{'' if theme == 'light' else '-dark'}.png"
                target.write_bytes(small(page.screenshot()))
                taken.append(target)
            context.close()
    return taken


def small(png: bytes) -> bytes:
    """The same picture in at most LARGEST bytes: fewer colours when it must be."""
    from PIL import Image

    for colours in (256, 128, 64):
        if len(png) <= LARGEST:
            break
        out = io.BytesIO()
        Image.open(io.BytesIO(png)).convert("RGB").quantize(colours).save(out, "PNG", optimize=True)
        png = out.getvalue()
    return png


def main() -> None:
    url, folder = sys.argv[1:3]
    for target in take(url, Path(folder)):
        print(target, f"{target.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
