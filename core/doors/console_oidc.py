"""`/login/oidc` and its callback: to the provider with whose accounts people sign in, and back.

Our own session is begun afterwards, exactly as by a password; of the provider's tokens nothing is kept. Streamlit's own
`st.login` would do the same behind a WebSocket that is open to strangers, with a cookie of 30 days. Neither the query
nor what the provider answers is ever logged: they hold codes and states.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from core.desk.explain_sign_in import SIGN_INS
from core.doors import console_answers as answers
from core.doors import console_login_page as pages
from core.doors.console_gate import Gate
from core.doors.console_login_page import Other, local_path
from core.doors.console_turns import Busy, Turns
from core.errors import CoreError, SettingsError
from core.secret import Secret
from core.services.oidc_login import LOGIN_TIME, Login, Logins
from core.services.oidc_trouble import OidcTrouble, code_of
from core.services.sign_in import NoOperator
from core.settings import Settings

if TYPE_CHECKING:
    from core.services.oidc import Provider

log = logging.getLogger("sign-in")

BEGIN: Final = "/login/oidc"
CALLBACK: Final = "/login/oidc/callback"
Way = Callable[[Request], Awaitable[Response]]
# At the provider at once, and waiting for it: a slow one holds none of the threads that everybody shares beyond that.
AT_ONCE, IN_LINE, COME_AGAIN = 4, 32, 5
# Troubles that are answered with another status than 403.
_STATUS: Final = {
    "not_begun_here": 400,
    "provider_refused": 502,
    "odd_answer": 502,
    "code_refused": 502,
    "provider_away": 503,
    "busy": 503,
}
_WORDS: Final[Mapping[type[Exception], str]] = {Busy: "busy", NoOperator: "no_operator"}


def check(settings: Settings) -> None:
    """SettingsError when people are to sign in so and what speaks the protocol is not installed."""
    if settings.oidc_issuer and importlib.util.find_spec("authlib") is None:
        raise SettingsError(
            "CAPI_OIDC_ISSUER is set and Authlib is not installed: run `pip install 'capi-console[oidc]'`"
        )


class Elsewhere:
    """The way to the provider and back; `is_on` only where the settings name one."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._turns = Turns(AT_ONCE, in_line=IN_LINE)

    @property
    def is_on(self) -> bool:
        settings = self.gate.settings()
        return settings is not None and settings.oidc_issuer is not None

    def way(self, path: str) -> Way | None:
        """What answers a GET of this path."""
        return {BEGIN: self.begin, CALLBACK: self.finish}.get(path) if self.is_on else None

    def button(self, to: str) -> Other | None:
        """What stands below the form. It leads to the one address that the provider knows: the cookie must be of the
        host that the way back leads to."""
        if not self.is_on:
            return None
        return Other(self._name, f"{self._settings.console_address}{BEGIN}?next={quote(to, safe='/')}")

    async def begin(self, request: Request) -> Response:
        """To the provider."""
        login = self._logins.new(local_path(request.query_params.get("next")), now=self.gate.now())
        try:
            url = await self._turns.take(lambda: self._provider.begin(login, now=self.gate.now()))
        except (Busy, OidcTrouble) as error:
            return _trouble(error)
        answer = answers.see_other(url)
        longest = int(LOGIN_TIME.total_seconds())
        answer.set_cookie(value=self._logins.write(login), max_age=longest, **self._cookie)
        return answer

    async def finish(self, request: Request) -> Response:
        """Back from the provider; whatever comes of it, the browser's cookie is taken away, unless it belongs to
        another sign-in, which may be under way in another tab."""
        try:
            answer = await self._finished(request)
        except (Busy, OidcTrouble, NoOperator) as error:
            answer = _trouble(error)
            if isinstance(error, OidcTrouble) and error.word == "not_begun_here":
                return answer
        except (CoreError, SQLAlchemyError) as error:
            log.warning("nobody can sign in: the database cannot be asked", extra={"error": type(error).__name__})
            answer = answers.page(pages.away(), 503)
        answer.delete_cookie(**self._cookie)
        return answer

    async def _finished(self, request: Request) -> Response:
        given, now = request.query_params, self.gate.now()
        login = self._logins.take(request.cookies.get(self._cookie["key"], ""), given.get("state", ""), now=now)
        if login is None:
            raise OidcTrouble("not_begun_here")
        if given.get("iss", self._settings.oidc_issuer) != self._settings.oidc_issuer:  # RFC 9207
            raise OidcTrouble("not_proven", "another iss came back")
        code, error = given.get("code"), given.get("error")
        if error is not None or not code:
            raise OidcTrouble("cancelled" if error == "access_denied" else "provider_refused", code_of(error))
        cookie = await self._session(login, code)
        return answers.admitted(login.to, cookie, request, self._settings)

    async def _session(self, login: Login, code: str) -> str:
        address = await self._turns.take(lambda: self._provider.finish(login, code, now=self.gate.now()))
        return await run_in_threadpool(lambda: self.gate.sign_in_as(address, how=f"with {self._name}"))

    @property
    def _settings(self) -> Settings:
        found = self.gate.settings()
        assert found is not None
        return found

    @property
    def _secret(self) -> Secret:
        assert self._settings.oidc_client_secret is not None
        return self._settings.oidc_client_secret

    @property
    def _name(self) -> str:
        return self._settings.oidc_name or urlsplit(self._settings.oidc_issuer or "").netloc

    @cached_property
    def _cookie(self) -> dict[str, Any]:
        """What the browser keeps while it is away; it comes along when the provider leads back to us."""
        secure = self._settings.console_address.startswith("https:")
        # The prefix keeps sites on neighbouring names from setting it; browsers want Secure and the path / for it.
        key, path = ("__Host-capi_oidc", "/") if secure else ("capi_oidc", BEGIN)
        return {"key": key, "path": path, "httponly": True, "samesite": "lax", "secure": secure}

    @cached_property
    def _logins(self) -> Logins:
        return Logins(self._secret)

    @cached_property
    def _provider(self) -> Provider:
        from core.services.oidc import Provider

        return Provider(
            self._settings.oidc_issuer or "",
            client_id=self._settings.oidc_client_id or "",
            client_secret=self._secret,
            redirect_uri=self._settings.console_address + CALLBACK,
        )


def _trouble(error: Busy | OidcTrouble | NoOperator) -> Response:
    word = error.word if isinstance(error, OidcTrouble) else _WORDS[type(error)]
    status, said = _STATUS.get(word, 403), SIGN_INS[word]
    # Strangers can make as many of the others as they like.
    level = logging.WARNING if status >= 500 else logging.INFO
    log.log(level, "nobody was signed in", extra={"why": word, "detail": getattr(error, "detail", "")})
    answer = answers.page(pages.not_signed_in(said.what, said.do), status)
    return answers.later(answer, COME_AGAIN) if status == 503 else answer
