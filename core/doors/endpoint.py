"""The endpoint: takes tracking calls and webhooks, answers after the commit. Its only pages are the merchant's."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime

import uvicorn
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from core import clock as house_clock
from core.doors.endpoint_apps import Apps
from core.doors.endpoint_health import Readiness, healthz
from core.doors.endpoint_http import HotRoute, answer
from core.doors.endpoint_pixel import pixel
from core.doors.endpoint_reconnect import ReconnectDoor
from core.doors.endpoint_refresh import Refresh
from core.doors.endpoint_track import Track
from core.doors.endpoint_webhooks import Webhooks
from core.doors.intake import Intake
from core.doors.openapi import document
from core.errors import SettingsError
from core.inbound.policy import networks
from core.inbound.rates import Rates
from core.inbound.shopify import ROUTES
from core.services.reconnect import Reconnect
from core.settings import Settings

log = logging.getLogger("endpoint")

_TRACK = "/api/track"
_BACKLOG = 2048
# So many new objects are looked through together; a call leaves none behind in circles.
_GARBAGE = 20_000
_GRACE_SECONDS = 10


def create_app(
    engine: Engine,
    settings: Settings,
    *,
    refresh_user: Callable[[str], int] | None = None,
    reconnect: Reconnect | None = None,
    clock: Callable[[], datetime] = house_clock.now,
    intake: Intake | None = None,
) -> Starlette:
    """The ASGI app. `refresh_user(user_id)` returns how many tokens were refreshed and raises CoreError."""
    apps, intake = Apps(engine), intake or Intake(engine, clock=clock)
    rates = Rates(app=settings.rate_app, address=settings.rate_address)
    track = Track(apps, intake, trusted=networks(settings.trusted_proxies), rates=rates, clock=clock)
    webhooks = Webhooks(apps, intake, secrets=settings.shopify_api_secret, clock=clock)
    door = ReconnectDoor(reconnect)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.intake, app.state.apps_memory = intake, apps
        await intake.start()
        yield
        door.close()
        await intake.stop()

    return Starlette(
        routes=[
            Route(_TRACK, track, methods=["GET", "POST", "OPTIONS"]),
            Route("/pixel.js", pixel),
            *(Route(f"/webhooks/{topic}", webhooks.of(topic), methods=["POST"]) for topic in ROUTES),
            Route("/api/refresh", _function(Refresh(engine, refresh_user, clock=clock)), methods=["POST"]),
            *door.routes(),
            Route("/openapi.json", openapi),
            Route("/healthz", healthz),
            Route("/readyz", _function(Readiness(engine))),
        ],
        middleware=[Middleware(HotRoute, path=_TRACK, to=track)],
        exception_handlers={HTTPException: _refusal, Exception: _failure},
        lifespan=lifespan,
    )


def run(app: ASGIApp, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are finished. SettingsError when the port is taken."""
    listener = listen(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        backlog=_BACKLOG,
        lifespan="on",
    )
    _collect_seldom()
    log.info("endpoint listens", extra={"host": host, "port": listener.getsockname()[1]})
    with listener, _quiet_end():
        uvicorn.Server(config).run(sockets=[listener])


def _collect_seldom() -> None:
    """What is loaded now stays: looking through it again for garbage would cost an eighth of every call's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE)


@contextlib.contextmanager
def _quiet_end() -> Iterator[None]:
    """uvicorn raises the signal that stopped it once more: without this a clean end would look like a crash."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """A socket that says IPPROTO_TCP: without it asyncio leaves TCP_NODELAY off, which costs every request on a
    connection that is kept 44 ms (https://github.com/Kludex/uvicorn/issues/3149)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        words = error.strerror or "the address cannot be used"
        raise SettingsError(
            f"CAPI_ENDPOINT_PORT: cannot listen on {host} port {port} ({words}): put a free port there"
        ) from None
    return listener


def _function(handler: Callable[[Request], object]) -> Callable[[Request], object]:
    """Starlette takes an object for an ASGI app of its own; ours are handlers of requests."""
    return handler.__call__  # type: ignore[operator]


async def openapi(_request: Request) -> Response:
    return answer(document(ROUTES), headers={"Access-Control-Allow-Origin": "*"})


async def _refusal(_request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    return answer({"error": getattr(error, "detail", "Error")}, status, getattr(error, "headers", None))


async def _failure(_request: Request, _error: Exception) -> Response:
    return answer({"error": "Internal error"}, 500)
