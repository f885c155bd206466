"""The console's door: `/login` and `/logout`, and nobody reaches Streamlit who is not signed in.

It stands before every path and every WebSocket, so that no script runs for a stranger. The cookie says nothing but a
random number; who that is, the database says, for each request.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from urllib.parse import parse_qs

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from core.doors import console_answers as answers
from core.doors import console_login_page as pages
from core.doors import console_reach
from core.doors.console_gate import Gate, Pass
from core.doors.console_line import Line
from core.doors.console_login_page import LOGIN, LOGOUT, local_path, login_at
from core.doors.console_oidc import Elsewhere, Way
from core.doors.console_turns import Busy, Turns
from core.doors.endpoint_http import body_of
from core.errors import BadInput, CoreError
from core.hosts import is_loopback
from core.inbound.policy import client_address
from core.services import passwords
from core.services.sign_in import LockedOut, WrongPassword

log = logging.getLogger("console")

HEALTH: Final = "/_stcore/health"
CHECK_EVERY: Final = 5.0
# Tries to sign in that wait for their turn; about as many seconds later the line is short again.
IN_LINE, COME_AGAIN = 32, 5
# What a page asks for by itself: a stranger is refused there, and sent to the form elsewhere.
_PARTS: Final = ("/_stcore/", "/static/", "/media/", "/component/", "/vendor/")
_LARGEST: Final = 8 * 1024
_WRONG: Final = "Name or password is wrong."
_BUSY: Final = "Too many people sign in just now. Try again in a few seconds."


class SignIn:
    """ASGI middleware. `check_every`: seconds after which an open WebSocket's session is asked for again."""

    def __init__(self, app: ASGIApp, gate: Gate | None = None, *, check_every: float = CHECK_EVERY) -> None:
        self.app, self.gate, self.check_every = app, gate or Gate(), check_every
        self.elsewhere = Elsewhere(self.gate)
        self._turns = Turns(passwords.AT_ONCE, in_line=IN_LINE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or _is_health(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            answer = await self._answer(scope, receive)
            await (answer or self.app)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        """What is said instead of Streamlit's answer; None: go in."""
        request, path = Request(scope, receive), scope["path"]
        if path == LOGOUT:
            return await self._logout(request)
        if path == LOGIN and scope["method"] == "POST":
            return await self._login(request)
        is_page = scope["method"] in ("GET", "HEAD") and not path.startswith(_PARTS)
        said = await self._ask(request, by_hand=is_page)
        way = self.elsewhere.way(path) if scope["method"] == "GET" else None
        if path == LOGIN or way is not None:
            return await self._enter(request, said, way)
        if said is Pass.SIGN_IN and is_page:
            return answers.see_other(login_at(path + (f"?{request.url.query}" if request.url.query else "")))
        if said is Pass.IN:
            return None
        return answers.page(_FOR[said], _STATUS[said]) if is_page else PlainTextResponse("Sign in first", 403)

    async def _enter(self, request: Request, said: Pass, way: Way | None) -> Response:
        """Who wants to sign in gets the form, or goes the `way` over the provider; who is in goes on."""
        to = local_path(request.query_params.get("next"))
        if said is Pass.IN:
            return answers.see_other(to)
        if said is not Pass.SIGN_IN:
            return answers.page(_FOR[said], _STATUS[said])
        return await way(request) if way else self._form(200, to=to)

    async def _login(self, request: Request) -> Response:
        if not self._is_own(request):
            return answers.page(pages.from_elsewhere(), 403)
        try:
            given = _fields(await body_of(request, _LARGEST))
        except BadInput:
            return PlainTextResponse("This form cannot be read", 400)
        to, name, password = local_path(given.get("next")), given.get("name", "")[:64], given.get("password", "")
        address = _address(request, self.gate)
        if await self._ask(request, by_hand=False) is Pass.CLOSED:
            return answers.page(pages.nobody_yet(), 403)
        try:
            cookie = await self._turns.take(lambda: self.gate.sign_in(name, password, address=address))
        except Busy:
            return answers.later(self._form(503, to=to, name=name, wrong=_BUSY), COME_AGAIN)
        except WrongPassword:
            return self._form(401, to=to, name=name, wrong=_WRONG)
        except LockedOut as error:
            seconds, words = _locked(error, now=self.gate.now())
            return answers.later(self._form(429, to=to, name=name, wrong=words), seconds)
        except (CoreError, SQLAlchemyError) as error:
            log.warning("nobody can sign in: the database cannot be asked", extra={"error": type(error).__name__})
            return answers.page(pages.away(), 503)
        return answers.admitted(to, cookie, request, self.gate.settings())

    async def _logout(self, request: Request) -> Response:
        """Only a form of ours signs somebody out: opening a link changes nothing."""
        if request.method != "POST":
            return answers.see_other("/")
        if not self._is_own(request):
            return answers.page(pages.from_elsewhere(), 403)
        cookie = answers.session(request, self.gate.settings())
        if cookie:
            try:
                await run_in_threadpool(lambda: self.gate.sign_out(cookie))
            except (CoreError, SQLAlchemyError):
                return answers.page(pages.away(), 503)
        return answers.dismissed(LOGIN, request, self.gate.settings())

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = HTTPConnection(scope)
        if not self._is_own(request) or await self._ask(request, by_hand=False) is not Pass.IN:
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: HTTP 403
            return

        async def ask(by_hand: bool) -> Pass:
            return await self._ask(request, by_hand=by_hand)

        line = Line(ask, receive, send, check_every=self.check_every)
        await line.carry(lambda: self.app(scope, line.hear, line.say))

    async def _ask(self, request: HTTPConnection, *, by_hand: bool) -> Pass:
        cookie, local = answers.session(request, self.gate.settings()), _is_local(request)
        return await run_in_threadpool(lambda: self.gate.ask(cookie, local=local, by_hand=by_hand))

    def _is_own(self, request: HTTPConnection) -> bool:
        """Whether a page of ours sent this. Browsers say where a form or a WebSocket comes from; the cookie's
        SameSite keeps other sites out as well."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site is not None and site != "same-origin":
            return False
        if origin is None:
            return site is not None or request.scope["type"] == "websocket"  # a program, which has no cookie to steal
        settings = self.gate.settings()
        public = settings.console_public_url if settings else None
        return origin == public or origin.partition("://")[2] == request.headers.get("host", "-")

    def _form(self, status: int, *, to: str, name: str = "", wrong: str = "") -> Response:
        return answers.page(pages.form(to=to, name=name, wrong=wrong, other=self.elsewhere.button(to)), status)


_FOR: Final[Mapping[Pass, str]] = {Pass.CLOSED: pages.nobody_yet(), Pass.AWAY: pages.away()}
_STATUS: Final[Mapping[Pass, int]] = {Pass.CLOSED: 403, Pass.AWAY: 503}


def _is_health(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["path"] == HEALTH and scope["method"] in ("GET", "HEAD")


def _is_local(request: HTTPConnection) -> bool:
    """A caller on this machine; one who comes through a proxy may be anywhere."""
    peer = request.client.host if request.client else ""
    proxied = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip"))
    at_home = console_reach.host_name(request.scope) in console_reach.LOCAL_NAMES
    return bool(peer) and is_loopback(peer) and not proxied and at_home


def _address(request: Request, gate: Gate) -> str:
    peer = request.client.host if request.client else None
    return client_address(peer, request.headers.getlist("x-forwarded-for"), gate.trusted()) or ""


def _fields(body: bytes) -> dict[str, str]:
    """A form's fields, the first of each name; BadInput when it is none."""
    try:
        found = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=10, errors="strict")
    except ValueError:
        raise BadInput() from None
    return {name: values[0] for name, values in found.items()}


def _locked(error: LockedOut, *, now: datetime) -> tuple[int, str]:
    """(seconds until the next try is taken, the same in words)"""
    seconds = max(1, math.ceil((error.until - now).total_seconds()))
    minutes = math.ceil(seconds / 60)
    return seconds, f"Too many tries. The next one is taken in {minutes} {'minute' if minutes == 1 else 'minutes'}."
