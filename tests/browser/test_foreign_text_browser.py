"""What shops, merchants and Meta write is text on every page: it loads nothing, runs nothing, and is no link."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from core import clock
from core.doors.console import MENU
from core.sandbox.background import running
from core.sandbox.client import Sandbox
from core.sandbox.state import State
from core.secret import Secret
from core.store import audit
from core.store.database import writing
from tests.browser.conftest import Console, a_console
from tests.browser.screens import CHROMIUM, settle
from tests.desk import trouble
from tests.world import APP_ID, APP_SECRET, World

MARK = "evil.example"
HOSTILE = (
    f"<img src=x onerror=alert(1)><script>alert(2)</script>![x](http://{MARK}/x.png)[y](javascript:alert(3))"
    f'<a href="http://{MARK}/">z</a> :red-background[w] $\\href{{javascript:alert(4)}}{{v}}$ http://{MARK}/u '
)
# table → what others write into it; what must differ from row to row ends as it did
FOREIGN = {
    '"App"': ("name",),
    '"User"': ("email",),
    "capi_app": ("shop_domain", "paused_reason"),
    "capi_token": ("broken_words", "scopes"),
    "capi_refresh": ("words", "trace_id"),
    "capi_attempt": ("words", "trace_id"),
    "capi_event": ("event_name", "order_id", "source"),
    "capi_case": ("words", "refused_words", "refused_user"),
    "capi_incident": ("words", "trace_id"),
    "capi_alert": ("title",),
    "capi_channel": ("title", "error"),
    "capi_reach": ("words", "trace_id"),
    "capi_job": ("reason", "by"),
    "capi_receipt": ("shop_domain", "detail", "source"),
    "capi_heartbeat": ("worker",),
}
# Whatever a browser would load, run, or follow if it were taken for more than text. An address of ours may name it.
ALIVE = f"""() => [...document.querySelectorAll('img[src="x"], [onerror], [src*="{MARK}"], mark, .katex, a[href]')]
  .filter(node => !node.href || node.protocol === 'javascript:' || node.hostname.includes('{MARK}'))
  .map(node => node.outerHTML.slice(0, 200))"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console beside a sandbox, where everything that others may write is hostile."""
    state, folder = State(app_id=APP_ID, app_secret=Secret(APP_SECRET)), tmp_path_factory.mktemp("hostile")
    with running(state) as meta, a_console(folder, CAPI_GRAPH_URL=meta.url) as console:
        _trouble(console)
        _spoil(console)
        _send(console, meta)
        yield console


def _trouble(console: Console) -> None:
    now = clock.now()
    trouble.everything(console.engine, now=now)
    with writing(console.engine) as conn:
        audit.write(conn, by="shopify", action="pause_app", subject=HOSTILE, count=1, reason=HOSTILE, now=now)
        conn.execute(
            text("UPDATE capi_app SET paused_at = '2026-01-01', paused_reason = '' WHERE app_id = 'app-00001'")
        )
        conn.execute(
            text("INSERT INTO capi_receipt (at, source, reason, status, app_id, shop_domain, detail)"
                 " VALUES (:now, 'orders/create', 'broken_json', 200, 'app-00000', '', '')"),
            {"now": f"{now:%Y-%m-%d %H:%M:%S.%f}"},
        )  # fmt: skip
        conn.execute(
            text("INSERT INTO capi_job_item (job_id, subject, outcome, words) VALUES (1, 'fp_x', 'failed', :words)"),
            {"words": HOSTILE},
        )


def _spoil(console: Console) -> None:
    with writing(console.engine) as conn:
        for table, columns in FOREIGN.items():
            for column in columns:
                change = f"UPDATE {table} SET {column} = :hostile || {column} WHERE {column} IS NOT NULL"
                conn.execute(text(change), {"hostile": HOSTILE})
        said = {"event_name": HOSTILE, "custom_data": {"content_name": HOSTILE, HOSTILE: "1"}}
        conn.execute(text("UPDATE capi_outbox SET payload = :said"), {"said": orjson.dumps(said)})
        conn.execute(text("UPDATE capi_attempt SET answer = :said"), {"said": orjson.dumps(said).decode()})


def _send(console: Console, meta: Sandbox) -> None:
    """The sandbox hears of an event whose names are hostile, too."""
    world = World(console.engine, meta)
    new = world.new_event(world.an_app(), event_id=HOSTILE[:100], event_name=HOSTILE[:40])
    world.graph().send("77", [new.payload], meta.create_token(), ours=True)


def _tick(page: Any, table: int) -> None:
    grid = page.get_by_test_id("stDataFrameResizable").nth(table)
    grid.scroll_into_view_if_needed()
    grid.click(position={"x": 16, "y": 45})
    settle(page)


def _unfold(page: Any) -> None:
    """Open what is folded: the payload, the settings of an app."""
    for fold in page.get_by_test_id("stExpander").locator("summary").all():
        if fold.locator("xpath=..").get_attribute("open") is None:
            fold.click()
    settle(page)


def _make_link(page: Any) -> None:
    _tick(page, 0)
    page.get_by_role("button", name="Make the link").click()
    page.get_by_text("The link, until").wait_for()
    settle(page)


def _story(page: Any) -> None:
    page.get_by_role("link", name="Its whole story").click()
    page.locator(".story-title").wait_for()
    settle(page)


def _pause(page: Any) -> None:
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("dialog").wait_for()


# page → where, and what is opened there: the table whose first row is ticked, then more
WALK: dict[str, tuple[tuple[str, int | None, tuple[Any, ...]], ...]] = {
    "overview": (("", None, ()),),
    "tokens": (("tokens?token=owner0", 0, (_unfold,)), ("tokens?health=Needs+reconnect", 0, ())),
    "refresh_history": (("refresh-history?outcome=needs_reconnect", 0, ()),),
    "failed_events": (("failed-events?show=dead", 1, (_unfold, _story)),),
    "reconnect": (("reconnect?case=owner0@", None, (_make_link,)), ("reconnect?case=owner2@", 0, ())),
    "find": (("find?q=evt-7", None, ()), (f"find?q=![x](http://{MARK}/x.png)", None, ())),
    "jobs": (("jobs", 0, ()),),
    "apps": (("apps?app=amber-kitchen-1.", 0, (_unfold, _story)), ("apps?app=amber-goods-0.", 0, (_pause,))),
    "people": (("people", None, ()),),
    "system": (("system", None, ()),),
    "sandbox": (("sandbox", None, ()),),
}


def test_the_walk_leads_over_every_page() -> None:
    assert {entry.file.removesuffix(".py") for group in MENU.values() for entry in group} == set(WALK)


@pytest.mark.parametrize("name", WALK)
def test_what_others_write_is_text_on_every_page(console: Console, page: Any, name: str) -> None:
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("dialog", lambda box: (said.append(f"a dialog: {box.message}"), box.dismiss()))
    page.on("console", lambda line: "Content Security Policy" in line.text and said.append(line.text))
    for path, table, more in WALK[name]:
        page.goto(f"{console.url}/{path}")
        settle(page)
        if table is not None:
            _tick(page, table)
        for step in (*more, settle):
            step(page)
            assert page.evaluate(ALIVE) == [], path
        assert MARK in page.locator("body").inner_text() + page.content(), "nothing hostile is shown"
        assert page.get_by_test_id("stException").count() == 0, path
    assert said == []
    assert [url for url in asked if not url.startswith((console.url, "data:", "blob:"))] == []
