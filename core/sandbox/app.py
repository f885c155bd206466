"""The stand-in over HTTP: Meta's paths, and the control paths below `/_sandbox/`."""

from __future__ import annotations

import asyncio
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from core.clock import from_unix
from core.sandbox import dialog, graph
from core.sandbox.control import control_routes
from core.sandbox.faults import AFTER, Fault, take
from core.sandbox.refusals import Refusal, invalid, trace_id
from core.sandbox.state import State
from core.sandbox.strangers import refusal

LARGEST_BODY: Final = 8 * 1024 * 1024
# Facebook's own pages cannot be framed either.
_UNFRAMED: Final = (b"x-frame-options", b"DENY")
_PAGE: Final = "<!DOCTYPE html><html><body><h1>Sorry, something went wrong.</h1></body></html>"


class Sandbox(Starlette):
    """Starlette that can also drop a connection: uvicorn's transport is kept at hand for that fault."""

    def __init__(self, stand_in: State, routes: list[BaseRoute]) -> None:
        super().__init__(routes=routes)
        self.stand_in = stand_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["sandbox.transport"] = getattr(getattr(send, "__self__", None), "transport", None)

        async def dated(message: Message) -> None:
            # uvicorn's own Date is the real time: here it is the time that the stand-in plays.
            if message["type"] == "http.response.start":
                moment = format_datetime(from_unix(self.stand_in.now()), usegmt=True)
                message = {**message, "headers": [*message["headers"], (b"date", moment.encode()), _UNFRAMED]}
            await send(message)

        answer = refusal(scope)
        await (super().__call__ if answer is None else answer)(scope, receive, dated)


class Meta:
    """The endpoints of the Graph API."""

    def __init__(self, state: State) -> None:
        self.state = state

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/{version}/oauth/access_token", self.exchange, methods=["GET"]),
            Route("/{version}/oauth/revoke", self.revoke, methods=["GET"]),
            Route("/{version}/debug_token", self.debug, methods=["GET"]),
            Route("/{version}/{pixel}/events", self.events, methods=["POST"]),
            Route("/{version}/{pixel}", self.pixel, methods=["GET"]),
        ]

    async def events(self, request: Request) -> Response:
        pixel = request.path_params["pixel"]
        given = await _given(request)
        value = _token(request, given)
        fingerprint = self.state.fingerprint(value)
        faults = await self._faults("events", pixel, fingerprint)
        answer = _spoil_before(faults)
        batch = given.get("data")
        if answer is None:
            answer = self._take(value, pixel, given, batch)
            answer = await _spoil_after(request, faults, answer, len(batch) if isinstance(batch, list) else 0)
        size = len(batch) if isinstance(batch, list) else 0
        self._note("events", answer, fingerprint=fingerprint, pixel=pixel, events=size)
        return answer

    def _take(self, value: str | None, pixel: str, given: dict[str, Any], batch: Any) -> Response:
        admitted = graph.admit(self.state, value, pixel, given)
        refusal = admitted if isinstance(admitted, Refusal) else graph.refuse_batch(batch, self.state.now())
        if refusal:
            return _no(refusal)
        if not isinstance(admitted, Refusal):
            self.state.accept(pixel, admitted.fingerprint, batch)
        return _json({"events_received": len(batch), "messages": [], "fbtrace_id": trace_id()})

    async def exchange(self, request: Request) -> Response:
        given = dict(request.query_params)
        fingerprint = self.state.fingerprint(given.get("fb_exchange_token"))
        kind, work = ("code", dialog.redeem) if "code" in given else ("exchange", graph.exchange)
        faults = await self._faults(kind, None, fingerprint)
        answer = _spoil_before(faults)
        if answer is None:
            answer = await _spoil_after(request, faults, _reply(work(self.state, given)), 0)
        self._note(kind, answer, fingerprint=fingerprint)
        return answer

    async def debug(self, request: Request) -> Response:
        asked = request.query_params.get("input_token", "")
        fingerprint = self.state.fingerprint(asked)
        faults = await self._faults("debug", None, fingerprint)
        answer = _spoil_before(faults)
        if answer is None:
            result = graph.debug(self.state, asked, _token(request, {}) or "")
            answer = await _spoil_after(request, faults, _reply(result), 0)
        self._note("debug", answer, fingerprint=fingerprint)
        return answer

    async def pixel(self, request: Request) -> Response:
        pixel = request.path_params["pixel"]
        value = _token(request, {})
        faults = await self._faults("pixel", pixel, self.state.fingerprint(value))
        answer = _spoil_before(faults)
        if answer is None:
            admitted = graph.admit(self.state, value, pixel, request.query_params)
            answer = _no(admitted) if isinstance(admitted, Refusal) else _json({"id": pixel, "name": f"Pixel {pixel}"})
        self._note("pixel", answer, fingerprint=self.state.fingerprint(value), pixel=pixel)
        return answer

    async def revoke(self, request: Request) -> Response:
        token = self.state.tokens.get(request.query_params.get("revoke_token", ""))
        if token is None:
            return _no(invalid("Invalid parameter"))
        token.dead = 458
        return _json({"success": "true"})

    async def _faults(self, path: str, pixel: str | None, fingerprint: str | None) -> list[Fault]:
        faults = take(self.state.faults, path, pixel, fingerprint) if self.state.faults else []
        for fault in faults:
            if fault.kind == "latency":
                await asyncio.sleep(fault.seconds)
        return faults

    def _note(self, kind: str, answer: Response, **fields: Any) -> None:
        code = answer.headers.get("x-sandbox-code")
        if code:
            self.state.refusals[f"{kind} {code}"] += 1
        self.state.note_call(kind, status=answer.status_code, code=code, **fields)


def create_app(state: State) -> Starlette:
    """The whole stand-in as an ASGI application."""
    return Sandbox(state, [*control_routes(state), *dialog.routes(state), *Meta(state).routes()])


def run(host: str, port: int, state: State) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "date_header": False}
    uvicorn.run(create_app(state), host=host, port=port, lifespan="off", **quiet)


async def _given(request: Request) -> dict[str, Any]:
    """The parameters of a call, whatever their encoding; `data` as a list of objects where it is one."""
    raw = await request.body() if int(request.headers.get("content-length") or 0) <= LARGEST_BODY else b""
    kind = request.headers.get("content-type", "")
    given: dict[str, Any] = dict(request.query_params)
    if kind.startswith("application/json"):
        body = _load(raw)
        given |= body if isinstance(body, dict) else {}
    elif kind.startswith("multipart/form-data"):
        given |= {key: value for key, value in (await request.form()).items() if isinstance(value, str)}
    else:
        given |= dict(parse_qsl(raw.decode("utf-8", "replace")))
    if isinstance(given.get("data"), str):
        given["data"] = _load(given["data"].encode())
    if isinstance(given.get("data"), list):
        # Meta's own SDK sends a list of JSON strings inside a JSON string.
        given["data"] = [_load(event.encode()) if isinstance(event, str) else event for event in given["data"]]
    return given


def _load(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def _token(request: Request, given: dict[str, Any]) -> str | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value
    return given.get("access_token") or request.query_params.get("access_token")


def _spoil_before(faults: list[Fault]) -> Response | None:
    for fault in faults:
        refusal = fault.refusal()
        if refusal:
            return _no(refusal)
        if fault.kind in ("html_502", "html_200"):
            return Response(_PAGE, 502 if fault.kind == "html_502" else 200, media_type="text/html")
        if fault.kind == "raw":
            return Response(str(fault.error.get("body", "")), int(fault.error.get("status", 200)), fault.headers)
    return None


async def _spoil_after(request: Request, faults: list[Fault], answer: Response, size: int) -> Response:
    spoiling = next((fault for fault in faults if fault.kind in AFTER), None)
    if spoiling is None or answer.status_code != 200:
        return answer
    kind = spoiling.kind
    if kind == "usage":
        answer.headers.update(spoiling.headers)
        return answer
    if kind == "reset_after_accept":
        transport = request.scope.get("sandbox.transport")
        if transport is not None:
            transport.abort()
            # uvicorn learns of it on the next turn of the loop and then swallows the answer.
            await asyncio.sleep(0.01)
        return answer
    if kind == "short_ack":
        return _json({"events_received": size - 1, "messages": [], "fbtrace_id": trace_id()})
    return Response(bytes(answer.body)[:18], 200, media_type="application/json")


def _reply(result: dict[str, Any] | Refusal) -> Response:
    return _no(result) if isinstance(result, Refusal) else _json(result)


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def _no(refusal: Refusal) -> Response:
    answer = _json(refusal.body(), refusal.status)
    subcode = f"/{refusal.subcode}" if refusal.subcode is not None else ""
    answer.headers["x-sandbox-code"] = f"{refusal.code}{subcode}"
    answer.headers.update(refusal.headers)
    return answer
