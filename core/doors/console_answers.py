"""What the console's door answers with: pages, redirects, and the session's cookie."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, RedirectResponse, Response

from core.doors import console_reach
from core.settings import Settings

# The name without TLS.
COOKIE: Final = "capi_session"
_NO_STORE: Final = {"Cache-Control": "no-store"}


def page(html: str, status: int) -> Response:
    return HTMLResponse(html, status, headers=_NO_STORE)


def see_other(to: str) -> Response:
    return RedirectResponse(to, 303, headers=_NO_STORE)


def later(answer: Response, seconds: int) -> Response:
    answer.headers["Retry-After"] = str(seconds)
    return answer


def cookie_name(host: str, settings: Settings | None) -> str:
    """The session's cookie under this host name. Behind TLS the prefix keeps sites on neighbouring names from planting
    one of their own (https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Set-Cookie#cookie_prefixes)."""
    return f"__Host-{COOKIE}" if is_secure(host, settings) else COOKIE


def is_secure(host: str, settings: Settings | None) -> bool:
    """Whether the browser came by TLS, which ends at the proxy before us: by its host name."""
    public = (settings.console_public_url if settings else None) or ""
    return public.startswith("https:") and host not in console_reach.LOCAL_NAMES


def session(request: HTTPConnection, settings: Settings | None) -> str | None:
    """The cookie of the session that the browser has, if it has one."""
    return request.cookies.get(cookie_name(console_reach.host_name(request.scope), settings))


def admitted(to: str, cookie: str, request: HTTPConnection, settings: Settings | None) -> Response:
    """Into the console, with a session."""
    answer = see_other(to)
    answer.set_cookie(value=cookie, **_kept(request, settings))
    return answer


def dismissed(to: str, request: HTTPConnection, settings: Settings | None) -> Response:
    """Out of the console, without one."""
    answer = see_other(to)
    answer.delete_cookie(**_kept(request, settings))
    return answer


def _kept(request: HTTPConnection, settings: Settings | None) -> dict[str, Any]:
    host = console_reach.host_name(request.scope)
    secure = is_secure(host, settings) or request.url.scheme == "https"
    return {"key": cookie_name(host, settings), "httponly": True, "samesite": "lax", "secure": secure}
