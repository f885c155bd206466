"""What the endpoint's routes share: bodies with a cap, answers, CORS, the visit behind a request, the one hot route."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from core.doors.intake import StoreBusy
from core.errors import BadInput, Refused
from core.inbound.policy import Network, client_address
from core.inbound.track import Visit

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


class TooLarge(BadInput):
    """The body is too large"""


class TooOften(Refused):
    """Too many requests"""

    def __init__(self, wait: int, app_id: str | None) -> None:
        super().__init__()
        self.wait, self.app_id = wait, app_id


class Gone(BadInput):
    """The client hung up"""


class Incoming:
    """A request whose headers are read once: Starlette's own looks through all of them at each question."""

    __slots__ = ("headers", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope, self.receive = scope, receive
        # Of several of one name the first counts.
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


class HotRoute:
    """Sends the calls of one path to their ASGI app, past the list of routes and what stands around it."""

    def __init__(self, app: ASGIApp, *, path: str, to: ASGIApp) -> None:
        self.app, self.path, self.to = app, path, to

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hot = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == self.path
        await (self.to if hot else self.app)(scope, receive, send)


@dataclass
class Room:
    """How many bytes of bodies may lie half read in this process, however many senders are slow."""

    most: int = 64 * 1024 * 1024
    taken: int = 0


room = Room()


async def body_of(request: Request | Incoming, cap: int) -> bytes:
    """The raw body; TooLarge as soon as it is known to exceed `cap` bytes, by its own word or by counting.

    StoreBusy when the bodies that are being read fill the `room` for them, Gone when the sender hangs up.
    """
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:20]) > cap:
        raise TooLarge()
    parts, size, more = [], 0, True
    try:
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise Gone()
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            room.taken += len(part)
            if size > cap:
                raise TooLarge()
            if room.taken > room.most:
                raise StoreBusy()
            parts.append(part)
    finally:
        room.taken -= size
    return b"".join(parts)


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def busy(headers: dict[str, str] | None = None) -> Response:
    return answer({"error": "Service unavailable"}, 503, {**(headers or {}), "Retry-After": "1"})


def image() -> Response:
    return Response(GIF, 200, {"Cache-Control": "no-store"}, media_type="image/gif")


def cors(request: Incoming) -> dict[str, str]:
    """The storefront's JSON beacon is a request with credentials: `*` would make the browser drop it.

    We read and set no cookies, so echoing any origin gives nothing away; who may report is judged by the handler.
    """
    origin = request.headers.get("origin")
    if origin is None:
        return {"Vary": "Origin"}
    return {"Vary": "Origin", "Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}


def preflight(request: Incoming) -> Response:
    allowed = {
        "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
        "Access-Control-Allow-Headers": "content-type",
        "Access-Control-Max-Age": "86400",
    }
    return Response(status_code=204, headers={**cors(request), **allowed})


def visit(request: Incoming, trusted: Sequence[Network]) -> Visit:
    """Only the connection (or a proxy that the settings trust) says where a visitor is."""
    headers, client = request.headers, request.scope.get("client")
    address = client[0] if client else None
    if trusted:
        lines = [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"x-forwarded-for"]
        address = client_address(address, lines, trusted)
    return Visit(headers.get("user-agent"), address, headers.get("referer"))
