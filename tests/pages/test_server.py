"""How the console is served: its address, its headers, its neighbours."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from sqlalchemy import Engine
from streamlit import config

from core.doors import console, console_reach, console_server
from core.errors import SettingsError
from core.settings import load


async def _inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"} if scope["type"] == "websocket" else {**_START, "headers": []})
    if scope["type"] == "http":
        await send({"type": "http.response.body", "body": b"hello"})


_START = {"type": "http.response.start", "status": 200}


def _ask(host: str, kind: str = "http") -> list[dict[str, Any]]:
    """What the guarded application sends to somebody who calls it by this name."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    scope = {"type": kind, "method": "GET", "path": "/", "headers": [(b"host", host.encode())]}
    asyncio.run(console_server.Guard(_inner)(scope, receive, send))
    return sent


def test_every_answer_carries_the_headers() -> None:
    headers = {name.decode(): value.decode() for name, value in _ask("127.0.0.1:8501")[0]["headers"]}
    assert headers == {name.lower(): value for name, value in console_server.HEADERS.items()}
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "evil.example:8501", "[::2]:1"])
def test_a_foreign_host_name_is_not_served(host: str) -> None:
    assert _ask(host)[0]["status"] == 421
    assert _ask(host, "websocket") == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("host", ["localhost:8501", "[::1]:8501", "127.0.0.1", "LOCALHOST"])
def test_loopback_names_are_served(host: str) -> None:
    assert _ask(host)[0]["status"] == 200
    assert _ask(host, "websocket") == [{"type": "websocket.accept"}]


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"CAPI_CONSOLE_PORT: port {port} is taken"):
            console.run(load({"CAPI_CONSOLE_PORT": str(port)}))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"CAPI_CONSOLE_HOST": "0.0.0.0"}, "CAPI_CONSOLE_URL is not set"),
        ({"CAPI_CONSOLE_HOST": "::"}, "CAPI_CONSOLE_URL is not set"),
        ({"CAPI_CONSOLE_HOST": "192.0.2.7"}, "CAPI_CONSOLE_HOST lets others .* `capi-console operator add"),
        ({"CAPI_CONSOLE_URL": "https://console.example.com"}, "CAPI_CONSOLE_URL lets others .* operator add"),
        ({"CAPI_CONSOLE_HOST": "0.0.0.0", "CAPI_CONSOLE_URL": "https://c.example"}, "capi-console operator add"),
    ],
)
def test_a_console_that_others_reach_does_not_start_while_nobody_can_sign_in(
    store: Engine, given: dict[str, str], words: str
) -> None:
    address = store.url.render_as_string(hide_password=False)
    with pytest.raises(SettingsError, match=words):
        console.run(load({"DATABASE_URL": address, **given}))


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, set()),
        ({"CAPI_CONSOLE_HOST": "192.0.2.7"}, {"192.0.2.7"}),
        ({"CAPI_CONSOLE_HOST": "2001:db8::1"}, {"[2001:db8::1]"}),
        ({"CAPI_CONSOLE_HOST": "0.0.0.0", "CAPI_CONSOLE_URL": "https://C.example:8443"}, {"c.example"}),
    ],
)
def test_the_console_answers_to_its_own_names(given: dict[str, str], names: set[str]) -> None:
    found = load(given)
    assert console_reach.names(found) == console_reach.LOCAL_NAMES | names
    assert console_reach.is_shared(found) is bool(names)


def test_the_socket_is_tcp_by_name() -> None:
    with console_server.bind("127.0.0.1", 0) as sock:
        assert sock.proto == socket.IPPROTO_TCP


def test_our_streamlit_settings_are_known_to_streamlit() -> None:
    options = dict(console_server.streamlit_options())
    assert options["browser.gatherUsageStats"] is False
    assert options["client.disableDataExport"] is True
    assert options["server.enableAgentApi"] is False
    for name in options:
        config.get_option(name)
    assert not [name for name, value in options.items() if "font" in name.lower() and "http" in str(value)]


def test_every_page_of_the_menu_exists() -> None:
    entries = [entry for group in console.MENU.values() for entry in group]
    assert {entry.file for entry in entries} == {path.name for path in (console_server.ROOT / "pages").glob("*.py")}
    assert [entry.url_path for entry in entries].count("") == 1
