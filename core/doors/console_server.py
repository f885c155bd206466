"""Serving the console: one process, an own socket, security headers, and only hosts that we know.

Streamlit's command is not used: it would bind a socket on which every keep-alive request waits 44 ms for Nagle's
algorithm (https://github.com/Kludex/uvicorn/issues/3149), and it reads its settings from the folder it is started in.
"""

from __future__ import annotations

import errno
import logging
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import logs
from core.errors import SettingsError
from core.hosts import is_loopback
from core.settings import Settings

log = logging.getLogger("console")

ROOT = Path(__file__).parents[2]
MAIN = Path(__file__).with_name("console_main.py")
HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})

# One inline script of Streamlit's own page is allowed by its hash, which belongs to this version of Streamlit.
_CSP = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' blob: 'sha256-THxz9J9+wf7rhwR2YkXJoSZ13UCmYyC+3lNDv2+8ugA='",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Answers only under a host name of ours (DNS rebinding) and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif _host(scope) not in HOSTS:
            await _refuse(scope, receive, send)
        else:
            await self.app(scope, receive, _with_headers(send) if scope["type"] == "http" else send)


MIDDLEWARE = (Middleware(Guard),)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. SettingsError when the address is not loopback or the port is taken."""
    import streamlit as st
    from streamlit import config

    if not is_loopback(settings.console_host):
        raise SettingsError(
            f"CAPI_CONSOLE_HOST is {settings.console_host}: the console has no sign-in yet, put 127.0.0.1 there"
        )
    sock = bind(settings.console_host, settings.console_port)
    for name, value in streamlit_options():
        config.set_option(name, value)
    app = st.App(MAIN, middleware=MIDDLEWARE)
    logs.adopt_foreign_handlers()
    hush()
    log.info("console serves", extra={"url": settings.console_url})
    with sock:
        uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, server_header=False)).run(sockets=[sock])


def hush() -> None:
    """No line for each request and each browser tab that comes and goes."""
    for name in ("uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket that knows it is TCP, so that asyncio turns Nagle's algorithm off."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host.strip("[]"), port))
        sock.listen(128)
    except OSError as error:
        sock.close()
        taken = error.errno == errno.EADDRINUSE
        why = "is taken by another program: put a free one there" if taken else f"cannot be opened ({error.strerror})"
        raise SettingsError(f"CAPI_CONSOLE_PORT: port {port} {why}") from None
    return sock


def streamlit_options() -> Iterator[tuple[str, Any]]:
    """(`theme.light.primaryColor`, value) of everything in our `.streamlit/config.toml`."""
    file = ROOT / ".streamlit" / "config.toml"
    yield "browser.gatherUsageStats", False
    if file.is_file():
        yield from _flat("", tomllib.loads(file.read_text(encoding="utf-8")))


def _flat(prefix: str, section: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield prefix + key, value


def _host(scope: Scope) -> str:
    host = next((value for key, value in scope["headers"] if key == b"host"), b"").decode("latin-1").lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await PlainTextResponse("This host name is not served", 421)(scope, receive, send)


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return guarded
