"""Serving the console: one process, an own socket, security headers, and only hosts that we know.

Streamlit's command is not used: it would bind a socket on which every keep-alive request waits 44 ms for Nagle's
algorithm (https://github.com/Kludex/uvicorn/issues/3149), and it reads its settings from the folder it is started in.
"""

from __future__ import annotations

import errno
import logging
import socket
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import logs
from core.doors import console_oidc, console_reach, wiring
from core.doors.console_sign_in import SignIn
from core.errors import SettingsError
from core.settings import Settings

log = logging.getLogger("console")

ROOT = Path(__file__).parents[2]
MAIN = Path(__file__).with_name("console_main.py")

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
    # With `no-referrer` browsers say of our own forms, too, that they come from nowhere (`Origin: null`).
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Answers only under a host name of ours (DNS rebinding) and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, settings: Callable[[], Settings | None] = console_reach.found) -> None:
        self.app, self._settings = app, settings
        self._names: frozenset[str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif console_reach.host_name(scope) not in self.names():
            await _refuse(scope, receive, send)
        else:
            await self.app(scope, receive, _with_headers(send) if scope["type"] == "http" else send)

    def names(self) -> frozenset[str]:
        """Read with the first request: nothing is read at import."""
        if self._names is None:
            self._names = console_reach.names(self._settings())
        return self._names


MIDDLEWARE = (Middleware(Guard), Middleware(SignIn))


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. SettingsError when strangers could come in or the port is taken."""
    import streamlit as st
    from streamlit import config

    if console_reach.is_shared(settings):
        engine = wiring.open_store(settings, pool_size=1)
        console_reach.check(settings, engine)
        engine.dispose()
    console_oidc.check(settings)
    sock = bind(settings.console_host, settings.console_port)
    for name, value in streamlit_options():
        config.set_option(name, value)
    app = st.App(MAIN, middleware=MIDDLEWARE)
    logs.adopt_foreign_handlers()
    hush()
    log.info("console serves", extra={"url": settings.console_url})
    # Whose X-Forwarded-For is believed, CAPI_TRUSTED_PROXIES says alone.
    plain: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False, "proxy_headers": False}
    with sock:
        uvicorn.Server(uvicorn.Config(app, **plain)).run(sockets=[sock])


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
    if settings := console_reach.found():
        yield "server.allowedHosts", sorted(name.strip("[]") for name in console_reach.names(settings))
        yield "server.corsAllowedOrigins", [settings.console_public_url] if settings.console_public_url else []


def _flat(prefix: str, section: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield prefix + key, value


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
