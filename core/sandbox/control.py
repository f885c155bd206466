"""The control paths below `/_sandbox/`: make tokens, end them, move the clock, order trouble, look."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from core.sandbox.faults import Fault
from core.sandbox.state import MODES, Login, State, Token

Handler = Callable[[Request], Awaitable[dict[str, Any]]]


def control_routes(state: State) -> list[BaseRoute]:
    control = Control(state)
    table: tuple[tuple[str, str, Handler], ...] = (
        ("POST", "tokens", control.create),
        ("GET", "tokens", control.tokens),
        ("POST", "tokens/{name:path}/expire", control.expire),
        ("POST", "tokens/{name:path}/kill", control.kill),
        ("POST", "tokens/{name:path}/revive", control.revive),
        ("POST", "login", control.login),
        ("POST", "clock", control.clock),
        ("POST", "faults", control.fault),
        ("DELETE", "faults", control.mend),
        ("GET", "events", control.events),
        ("GET", "calls", control.calls),
        ("GET", "stats", control.stats),
        ("POST", "reset", control.reset),
    )
    return [Route(f"/_sandbox/{path}", _answering(handler), methods=[method]) for method, path, handler in table]


class Control:
    def __init__(self, state: State) -> None:
        self.state = state

    async def create(self, request: Request) -> dict[str, Any]:
        order = await _body(request)
        token = self.state.add_token(**_token_fields(order, self.state.now()))
        if order.get("name"):
            self.state.names[token.meta_user_id] = str(order["name"])
        return token.shown() | {"token": token.value}

    async def tokens(self, _request: Request) -> dict[str, Any]:
        return {"tokens": [token.shown() for token in self.state.tokens.values()]}

    async def expire(self, request: Request) -> dict[str, Any]:
        token = self._named(request)
        token.expires_at = self.state.now() - 1
        return token.shown()

    async def kill(self, request: Request) -> dict[str, Any]:
        token = self._named(request)
        token.dead = int((await _body(request)).get("subcode", 460))
        return token.shown()

    async def revive(self, request: Request) -> dict[str, Any]:
        token = self._named(request)
        token.dead = None
        return token.shown()

    async def login(self, request: Request) -> dict[str, Any]:
        """How the next logins at the dialog go; an empty order: as the person at the page wants."""
        order = await _body(request)
        scopes, pixels = order.get("scopes"), order.get("pixels")
        self.state.login = Login(
            user=order.get("user"),
            scopes=None if scopes is None else tuple(scopes),
            pixels=None if pixels is None else frozenset(map(str, pixels)),
            at_once=bool(order.get("at_once")),
            error=order.get("error"),
        )
        return {"user": self.state.login.user, "at_once": self.state.login.at_once}

    async def clock(self, request: Request) -> dict[str, Any]:
        order = await _body(request)
        if "set" in order:
            self.state.set_clock(float(order["set"]))
        self.state.offset += float(order.get("advance", 0))
        return {"now": self.state.now(), "offset": self.state.offset}

    async def fault(self, request: Request) -> dict[str, Any]:
        fault = Fault.read(await _body(request))
        token = self.state.find(fault.token or "")
        if token:
            fault.token = token.fingerprint
        self.state.faults.append(fault)
        return {"faults": len(self.state.faults)}

    async def mend(self, request: Request) -> dict[str, Any]:
        """Takes the faults away; with `general` those stay that are meant for a certain token or pixel."""
        general = "general" in request.query_params
        self.state.faults[:] = [fault for fault in self.state.faults if general and (fault.token or fault.pixel)]
        return {"faults": len(self.state.faults)}

    async def events(self, request: Request) -> dict[str, Any]:
        """Those after the number `since`; `total` and `last` are exact even when older ones are gone."""
        pixel = request.query_params.get("pixel")
        since = int(request.query_params.get("since") or 0)
        keys = ("seq", "event_id", "event_name", "pixel", "token", "at")
        found = [
            dict(zip(keys, event, strict=True))
            for event in self.state.events
            if event[0] > since and pixel in (None, event[3])
        ]
        total = self.state.received if pixel is None else self.state.received_by_pixel[pixel]
        return {"events": found, "total": total, "last": self.state.received}

    async def calls(self, request: Request) -> dict[str, Any]:
        kind = request.query_params.get("kind", "events")
        return {"kind": kind, "count": self.state.counts[kind], "calls": list(self.state.calls.get(kind, ()))}

    async def stats(self, _request: Request) -> dict[str, Any]:
        return {
            "now": self.state.now(),
            "events": self.state.received,
            "pixels": dict(self.state.received_by_pixel),
            "calls": dict(self.state.counts),
            "refusals": dict(self.state.refusals),
            "tokens": len(self.state.tokens),
            "faults": [{"path": f.path, "kind": f.kind, "count": f.count} for f in self.state.faults],
        }

    async def reset(self, _request: Request) -> dict[str, Any]:
        self.state.reset()
        return {"reset": True}

    def _named(self, request: Request) -> Token:
        token = self.state.find(request.path_params["name"])
        if token is None:
            raise LookupError("no such token")
        return token


def _token_fields(order: dict[str, Any], now: float) -> dict[str, Any]:
    """The token to make. Its end: `expires_at` (Unix, 0 never) or `expires_in` (seconds), else in 60 days."""
    if order.get("mode") not in MODES:
        raise ValueError(f"mode is one of {', '.join(filter(None, MODES))}")
    names = ("app_id", "meta_user_id", "type", "long_lived", "mode", "issued_at")
    fields = {name: order[name] for name in names if order.get(name) is not None}
    expires_in = order.get("expires_in", 60 * 86_400)
    fields["expires_at"] = float(order.get("expires_at", now + expires_in))
    if order.get("scopes") is not None:
        fields["scopes"] = tuple(order["scopes"])
    pixels = order.get("pixels", "*")
    fields["pixels"] = None if pixels in ("*", None) else frozenset(map(str, pixels))
    return fields | {"value": order.get("token")}


async def _body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    body = json.loads(raw) if raw else {}
    if not isinstance(body, dict):
        raise ValueError("the body is a JSON object")
    return body


def _answering(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    @wraps(handler)
    async def answer(request: Request) -> Response:
        try:
            return _json(await handler(request), 200)
        except LookupError as error:
            return _json({"error": str(error.args[0] if error.args else error)}, 404)
        except (ValueError, TypeError) as error:
            return _json({"error": str(error)}, 400)

    return answer


def _json(body: dict[str, Any], status: int) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
