"""What the endpoint's routes share: bodies with a cap, answers, CORS, the visit behind a request."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

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


async def body_of(request: Request, cap: int) -> bytes:
    """The raw body; TooLarge as soon as it is known to exceed `cap` bytes, by its own word or by counting."""
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:20]) > cap:
        raise TooLarge()
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > cap:
                raise TooLarge()
            parts.append(part)
    except ClientDisconnect:
        raise Gone() from None
    return b"".join(parts)


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def busy(headers: dict[str, str] | None = None) -> Response:
    return answer({"error": "Service unavailable"}, 503, {**(headers or {}), "Retry-After": "1"})


def image() -> Response:
    return Response(GIF, 200, {"Cache-Control": "no-store"}, media_type="image/gif")


def cors(request: Request) -> dict[str, str]:
    """The storefront's JSON beacon is a request with credentials: `*` would make the browser drop it.

    We read and set no cookies, so echoing any origin gives nothing away; who may report is judged by the handler.
    """
    origin = request.headers.get("origin")
    if origin is None:
        return {"Vary": "Origin"}
    return {"Vary": "Origin", "Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}


def preflight(request: Request) -> Response:
    allowed = {
        "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
        "Access-Control-Allow-Headers": "content-type",
        "Access-Control-Max-Age": "86400",
    }
    return Response(status_code=204, headers={**cors(request), **allowed})


def visit(request: Request, trusted: Sequence[Network]) -> Visit:
    """Only the connection (or a proxy that the settings trust) says where a visitor is."""
    headers = request.headers
    peer = request.client.host if request.client else None
    address = client_address(peer, headers.getlist("x-forwarded-for"), trusted) if trusted else peer
    return Visit(headers.get("user-agent"), address, headers.get("referer"))
