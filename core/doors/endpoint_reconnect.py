"""`/reconnect/{signed}` and `/auth/facebook/callback`: the merchant's way back to a token that works.

Opening a link changes nothing (mail programs open every link); the button is a POST. Nothing of a query or a path is
ever logged here: they hold codes, states and links.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from core.doors import reconnect_pages as pages
from core.errors import CoreError
from core.inbound.rates import Buckets
from core.services.reconnect import CALLBACK, LOGIN_TIME, Login, NoLink, NoLogin, Reconnect, login_name

__all__ = ["CALLBACK", "PAGE", "ReconnectDoor"]

log = logging.getLogger("reconnect")

PATH = "/reconnect/"
PAGE = PATH + "{signed}"
# A person looks a few times and presses once or twice; more than that is no person.
_LOOKS, _PRESSES = (1.0, 30.0), (1 / 20, 6.0)
_THREADS = 4
T = TypeVar("T")


class ReconnectDoor:
    """Pages and redirects around `Reconnect`; without one (no public address, no app secret) a page that says so."""

    def __init__(self, reconnect: Reconnect | None) -> None:
        self.reconnect = reconnect
        self._looks, self._presses = Buckets(*_LOOKS), Buckets(*_PRESSES)
        self._tell = _headers(_form_targets(reconnect.settings.dialog_url) if reconnect else "")

    def routes(self) -> list[Route]:
        return [Route(PAGE, self.page, methods=["GET", "POST"]), Route(CALLBACK, self.callback)]

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        """Own threads: a login waits for Meta, and tracking must not wait for a login."""
        return ThreadPoolExecutor(_THREADS, thread_name_prefix="reconnect")

    def close(self) -> None:
        if "_threads" in self.__dict__:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def page(self, request: Request) -> Response:
        """GET: look. POST: begin a login."""
        if self.reconnect is None:
            return self._html(pages.unavailable(), 503)
        try:
            return await (self._begin(request) if request.method == "POST" else self._look(request))
        except NoLink:
            return self._html(pages.unusable(), 404)
        except (SQLAlchemyError, CoreError) as error:
            return self._trouble(error)

    async def callback(self, request: Request) -> Response:
        """Where Facebook's dialog sends the browser back to."""
        if request.method == "HEAD" or self.reconnect is None:
            return self._html(pages.unavailable(), 503 if self.reconnect is None else 200)
        answer = dict(request.query_params)
        browser = request.cookies.get(self._cookie(login_name(answer.get("state", ""))), "")
        try:
            link = await self._in_thread(lambda ours: ours.finish(answer, browser))
        except NoLogin as error:
            way = PATH + error.link if error.link else None
            return self._html(pages.no_login(way), 400)
        except (SQLAlchemyError, CoreError) as error:
            return self._trouble(error)
        return self._away(PATH + link)

    async def _look(self, request: Request) -> Response:
        signed = request.path_params["signed"]
        if self._is_too_often(self._looks, signed):
            return self._later()
        view = await self._in_thread(lambda ours: ours.look(signed))
        return self._html(pages.connected(view) if view.done else pages.invitation(view, action=PATH + signed))

    async def _begin(self, request: Request) -> Response:
        # Another site must not press our button. No Origin to look at: our own pages send `null` (no-referrer).
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise NoLink()
        signed = request.path_params["signed"]
        if self._is_too_often(self._presses, signed):
            return self._later()
        login = await self._in_thread(lambda ours: ours.begin(signed))
        return self._away(PATH + signed) if login is None else self._to_facebook(login)

    def _to_facebook(self, login: Login) -> Response:
        away = self._away(login.dialog)
        away.set_cookie(
            self._cookie(login.name),
            login.browser,
            max_age=int(LOGIN_TIME.total_seconds()),
            path="/" if self._secure else CALLBACK,
            secure=self._secure,
            httponly=True,
            samesite="lax",
        )
        return away

    @property
    def _secure(self) -> bool:
        return self.reconnect is not None and self.reconnect.redirect_uri.startswith("https://")

    def _cookie(self, name: str) -> str:
        # The prefix keeps sites on neighbouring names from setting it; browsers want Secure and the path / for it.
        return f"{'__Host-' if self._secure else ''}capi-login-{name}"

    async def _in_thread(self, work: Callable[[Reconnect], T]) -> T:
        assert self.reconnect is not None
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, self.reconnect)

    def _is_too_often(self, buckets: Buckets, signed: str) -> bool:
        """By case. What we have not signed costs no look into the database, and is not counted."""
        link = self.reconnect.links.read(signed) if self.reconnect else None
        if link is None:
            return False
        now = time.monotonic()
        often = buckets.lacks(link.case_id, 1, now) > 0
        buckets.take(link.case_id, 0 if often else 1, now)
        return often

    def _html(self, page: str, status: int = 200, more: dict[str, str] | None = None) -> Response:
        return HTMLResponse(page, status, {**self._tell, **(more or {})})

    def _away(self, url: str) -> Response:
        return Response(status_code=303, headers={**self._tell, "Location": url})

    def _later(self) -> Response:
        return self._html(pages.too_often(), 429, {"Retry-After": "60"})

    def _trouble(self, error: Exception) -> Response:
        log.error("a reconnect page could not be served", extra={"error": type(error).__name__})
        return self._html(pages.unavailable(), 503, {"Retry-After": "60"})


def _form_targets(dialog_url: str) -> str:
    """Chromium holds redirects that follow a form against `form-action`, and facebook.com redirects among its hosts."""
    parts = urlsplit(dialog_url)
    return "https://*.facebook.com" if parts.hostname == "www.facebook.com" else f"{parts.scheme}://{parts.netloc}"


def _headers(form_targets: str) -> dict[str, str]:
    policy = {
        "default-src": "'none'",
        "style-src": f"'sha256-{pages.STYLE_HASH}'",
        "form-action": f"'self' {form_targets}".strip(),
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex, nofollow",
        "Cache-Control": "no-store",
    }
