"""The whole story in real processes and a real browser: a token dies, its owner is asked, and nothing is lost."""

from __future__ import annotations

import asyncio
import email
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import requests
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from core.store.apps import App
from tests.browser.conftest import page
from tests.browser.screens import CHROMIUM, settle
from tests.processes import environment, eventually, free_port, running
from tests.world import World

__all__ = ["page"]  # a fixture

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine"),
]
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36"


class Mailbox:
    """What a mail server took, for aiosmtpd."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        found = email.message_from_bytes(content, policy=policy.default)
        assert isinstance(found, EmailMessage)
        self.mails.append(found)
        await asyncio.sleep(0)
        return "250 OK"

    def subjects(self) -> list[str]:
        return [str(mail["Subject"]) for mail in self.mails]

    def text(self, number: int) -> str:
        body = self.mails[number].get_body(("plain",))
        assert body is not None
        return str(body.get_content())


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    """A mail server of our own, and its port."""
    box = Mailbox()
    port = free_port()
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    yield box, port
    server.stop()


@pytest.fixture
def env(sqlite_world: World, sqlite_url: str, mailbox: tuple[Mailbox, int]) -> dict[str, str]:
    endpoint = free_port()
    more = {
        "CAPI_ENDPOINT_PORT": str(endpoint),
        "CAPI_PUBLIC_URL": f"http://127.0.0.1:{endpoint}",
        "CAPI_CONSOLE_PORT": str(free_port()),
        "CAPI_ALERT_URLS": f"mailto://127.0.0.1:{mailbox[1]}?from=capi@example.com&to=support@example.com",
        "CAPI_ALERT_MINUTES": "0",
        "CAPI_ALLOW_PRIVATE_URLS": "true",
    }
    return environment(sqlite_url, sqlite_world.meta.url, **more)


def test_from_the_dead_token_to_the_recovery_notice(
    sqlite_world: World, env: dict[str, str], mailbox: tuple[Mailbox, int], page: Any, tmp_path: Path
) -> None:
    world, box = sqlite_world, mailbox[0]
    token = world.meta.create_token(user="4004")
    shop = world.an_app(token, email="anna@tea.example")
    sibling = world.an_app(token, email="anna@tea.example")
    with (
        running("worker", env=env, log=tmp_path / "worker.log") as worker,
        running("endpoint", env=env, log=tmp_path / "endpoint.log") as endpoint,
        running("console", env=env, log=tmp_path / "console.log") as console,
    ):
        eventually(lambda: _is_up(f"{env['CAPI_PUBLIC_URL']}/readyz"), within=60, saying=endpoint.log.read_text)
        _track(env, shop, "before")
        eventually(lambda: _state(world, "before") == "delivered", saying=worker.log.read_text)
        world.meta.kill(token, 460)
        _track(env, shop, "first")
        _track(env, sibling, "second")
        eventually(lambda: {_state(world, "first"), _state(world, "second")} == {"parked"}, saying=worker.log.read_text)

        eventually(lambda: _mail_saying(box, "must reconnect"), within=30, saying=worker.log.read_text)
        told = _mail_saying(box, "must reconnect")
        assert "anna@tea.example" in told
        assert "changed the password" in told
        assert "2 events wait" in told

        eventually(lambda: _is_up(f"{_console(env)}/_stcore/health"), within=60, saying=console.log.read_text)
        link = _take_the_link(page, env)
        page.goto(link)
        assert page.get_by_role("heading", level=1).inner_text() == "Connect Facebook again"
        page.get_by_role("button", name="Continue with Facebook").click()
        page.get_by_label("user 4004").check()
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("heading", name="Thank you").wait_for()

        eventually(lambda: {_state(world, "first"), _state(world, "second")} == {"delivered"}, within=15)
        eventually(lambda: _mail_saying(box, "over: Needs reconnect"), within=30, saying=worker.log.read_text)
    assert world.app(shop).token == world.app(sibling).token != token
    accepted = [event["event_id"] for event in world.meta.events()]
    assert sorted(accepted) == ["before", "first", "second"]
    logs = "".join(one.log.read_text() for one in (worker, endpoint, console))
    assert not token.inside(logs)
    assert not token.inside("".join(box.text(n) for n in range(len(box.mails))))
    assert link.rsplit("/", 1)[1] not in logs


def _take_the_link(page: Any, env: dict[str, str]) -> str:
    """As the operator does it: the case in the list, its link, and the address out of the message."""
    page.goto(f"{_console(env)}/reconnect")
    settle(page)
    grid = page.get_by_test_id("stDataFrameResizable").first
    grid.click(position={"x": 16, "y": 45})
    settle(page)
    page.get_by_role("button", name="Make the link").click()
    shown = page.get_by_test_id("stCode").filter(has_text="Hello,")
    shown.wait_for()
    message = shown.inner_text()
    return next(word for word in message.split() if word.startswith(env["CAPI_PUBLIC_URL"]))


def _track(env: dict[str, str], shop: App, event_id: str) -> None:
    body = {
        "appId": shop.public_id,
        "eventName": "pageview",
        "url": f"https://{shop.shop_domain}/",
        "event_id": event_id,
        "visitorId": f"visitor-{event_id}",
    }
    url = f"{env['CAPI_PUBLIC_URL']}/api/track"
    assert requests.post(url, json=body, headers={"User-Agent": BROWSER}, timeout=10).status_code == 200


def _state(world: World, event_id: str) -> str:
    return world.state_of(event_id)


def _mail_saying(box: Mailbox, words: str) -> str:
    found = [n for n, subject in enumerate(box.subjects()) if words in subject]
    return box.text(found[0]) if found else ""


def _console(env: dict[str, str]) -> str:
    return f"http://127.0.0.1:{env['CAPI_CONSOLE_PORT']}"


def _is_up(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False
