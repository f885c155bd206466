"""The calls to Meta's Graph API: they return the answer or raise `GraphError`.

One of the two files that may read a token in the clear. Revealed values are written straight into the
argument of the call, never into a variable, so that no frame of a traceback holds one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from core.errors import SettingsError
from core.logs import redact
from core.meta.answers import Exchanged, Pixel, Sent, TokenFacts, token_facts
from core.meta.app_answer import AppAnswer, moment, upgrade
from core.meta.failures import NOT_JSON, SHORT_ACK, UNREACHABLE, Failure, Rule, classify, numbers
from core.meta.limits import retry_after, used_up
from core.meta.refusal import ANSWER, WORDS, GraphError
from core.meta.wire import Answer, Wire
from core.secret import Secret

__all__ = ["MAX_BYTES", "MAX_EVENTS", "Exchanged", "Graph", "GraphError", "Pixel", "Sent", "TokenFacts"]

log = logging.getLogger(__name__)

# 1,000 is Meta's limit. The bytes are ours: no limit is documented, about 1 MB is said to be refused.
# https://developers.facebook.com/docs/marketing-api/conversions-api/using-the-api
MAX_EVENTS: Final = 1_000
MAX_BYTES: Final = 800_000
_BLAME: Final = re.compile(r"\$\[['\"]?data['\"]?\]\[(\d+)\]")


class Graph:
    """Meta's Graph API for one app. Safe to share between threads; `close` when done."""

    def __init__(
        self,
        *,
        base_url: str,
        version: str,
        app_id: str | None,
        app_secret: Secret | None,
        connect_timeout: float = 3.0,
        read_timeout: float = 10.0,
        partner_agent: str = "capi-console",
    ) -> None:
        base = f"{base_url.rstrip('/')}/{version.strip('/')}"
        self._wire = Wire(base, connect_timeout=connect_timeout, read_timeout=read_timeout)
        self._app_id, self._app_secret = app_id, app_secret
        self._tail = b'],"partner_agent":' + orjson.dumps(partner_agent)

    def close(self) -> None:
        self._wire.close()

    def send(
        self,
        pixel_id: str,
        payloads: Sequence[bytes],
        token: Secret,
        *,
        test_event_code: str | None = None,
        ours: bool = False,
    ) -> Sent:
        """Sends ready JSON events as one request, which Meta takes or refuses whole.

        `ours` says that our app issued the token: only then is appsecret_proof sent, since a proof made with
        another app's secret is refused (https://developers.facebook.com/docs/graph-api/securing-requests).
        ValueError beyond MAX_EVENTS or MAX_BYTES.
        """
        _check_size(payloads)
        _check_token(token)
        path = f"{_segment(pixel_id)}/events"
        extra = {"test_event_code": test_event_code} if test_event_code else {}
        answer = self._wire.call(
            "POST", path, bearer=token.reveal(), body=self._batch(payloads, extra | self._proof(token, ours=ours))
        )
        return self._acknowledged(answer, self._object(answer, path, token), len(payloads), token)

    def exchange(self, token: Secret, *, system_user: bool = False) -> Exchanged:
        """A new token for one that is still valid; Meta exchanges no expired one.

        https://developers.facebook.com/documentation/facebook-login/guides/access-tokens/get-long-lived ;
        for a system user's token Meta wants `set_token_expires_in_60_days`.
        """
        app_id, app_secret = self._credentials()
        _check_token(token)
        path = "oauth/access_token"
        answer = self._wire.call(
            "GET",
            path,
            params={
                "grant_type": "fb_exchange_token",
                "client_id": app_id,
                "client_secret": app_secret.reveal(),
                "fb_exchange_token": token.reveal(),
            }
            | ({"set_token_expires_in_60_days": "true"} if system_user else {}),
        )
        return self._exchanged(answer, self._object(answer, path, token))

    def exchange_code(self, code: Secret, *, redirect_uri: str) -> Exchanged:
        """A short-lived token for the code that the login dialog gave; `redirect_uri` exactly as the dialog had it.

        https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow
        """
        app_id, app_secret = self._credentials()
        path = "oauth/access_token"
        said = {"client_id": app_id, "redirect_uri": redirect_uri}
        answer = self._wire.call(
            "GET", path, params=said | {"client_secret": app_secret.reveal(), "code": code.reveal()}
        )
        return self._exchanged(answer, self._object(answer, path, code))

    def debug_token(self, token: Secret) -> TokenFacts:
        """What Meta knows of a token of our app.

        https://developers.facebook.com/docs/graph-api/reference/debug_token ; a token of another app is
        refused with code 100 and comes as GraphError PERMISSION.
        """
        app_id, app_secret = self._credentials()
        _check_token(token)
        path = "debug_token"
        answer = self._wire.call(
            "GET",
            path,
            params={"input_token": token.reveal(), "access_token": f"{app_id}|{app_secret.reveal()}"},
        )
        data = self._object(answer, path, token).get("data")
        if not isinstance(data, Mapping):
            raise self._error(NOT_JSON, "The answer says nothing about the token", answer, token)
        error = data.get("error")
        words = error.get("message") if isinstance(error, Mapping) else ""
        return token_facts(data, self._clean(str(words or ""), token)[:WORDS])

    def about_app(self) -> AppAnswer:
        """Whether Meta takes our own app id and secret, asked of the app's own token, and what time it is there.

        Never a GraphError: the answer holds it. SettingsError while id or secret are missing.
        """
        app_id, app_secret = self._credentials()
        own = Secret(f"{app_id}|{app_secret.reveal()}")
        answer = self._wire.call(
            "GET", "debug_token", params={"input_token": own.reveal(), "access_token": own.reveal()}
        )
        refusal = self._refusal(answer, "debug_token", own)
        return AppAnswer(refusal, moment(answer.headers), upgrade(answer.headers), answer.duration_ms)

    def check_app(self) -> None:
        """The cheapest question whether Meta knows our app id and secret; GraphError when it does not."""
        if refusal := self.about_app().refusal:
            raise refusal

    def probe_pixel(self, pixel_id: str, token: Secret, *, ours: bool = False) -> Pixel:
        """The cheapest question whether a token reaches a pixel."""
        path = _segment(pixel_id)
        _check_token(token)
        answer = self._wire.call(
            "GET", path, params={"fields": "id,name"} | self._proof(token, ours=ours), bearer=token.reveal()
        )
        body = self._object(answer, path, token)
        return Pixel(str(body.get("id") or pixel_id), str(body.get("name") or ""))

    def _credentials(self) -> tuple[str, Secret]:
        if not self._app_id:
            raise SettingsError("FACEBOOK_APP_ID is missing: put the app id from developers.facebook.com there")
        if self._app_secret is None:
            raise SettingsError("FACEBOOK_APP_SECRET is missing: put the app secret from developers.facebook.com there")
        return self._app_id, self._app_secret

    def _batch(self, payloads: Sequence[bytes], extra: Mapping[str, str]) -> bytes:
        ending = b"," + orjson.dumps(dict(extra))[1:] if extra else b"}"
        return b'{"data":[' + b",".join(payloads) + self._tail + ending

    def _proof(self, token: Secret, *, ours: bool) -> dict[str, str]:
        if self._app_secret is None or not ours:
            return {}
        return {"appsecret_proof": self._app_secret.sign(token.reveal().encode()).hex()}

    def _object(self, answer: Answer, path: str, token: Secret) -> Mapping[str, Any]:
        """The answer's JSON object, or the refusal it stands for."""
        refusal = self._refusal(answer, path, token)
        if refusal is not None:
            raise refusal from None
        body: Mapping[str, Any] = answer.body
        return body

    def _refusal(self, answer: Answer, path: str, token: Secret) -> GraphError | None:
        if answer.status is None:
            return self._error(UNREACHABLE, answer.broken or "", answer, token)
        body = answer.body
        if isinstance(body, Mapping) and "error" not in body and answer.status < 300:
            return None
        rule = classify(body, answer.status, endpoint=path)
        words = f"The answer was not JSON (HTTP {answer.status})" if rule is NOT_JSON else ""
        return self._error(rule, words, answer, token)

    def _error(self, rule: Rule, words: str, answer: Answer, token: Secret) -> GraphError:
        body = answer.body if isinstance(answer.body, Mapping) else {}
        error = body.get("error")
        error = error if isinstance(error, Mapping) else {}
        code, subcode = numbers(error)
        said = str(error.get("message") or "")
        user_said = str(error.get("error_user_msg") or "")
        found = _BLAME.search(f"{said} {user_said}")
        unread = rule is NOT_JSON and answer.status is not None and answer.status < 300
        return GraphError(
            rule.failure,
            self._clean(words or said or user_said or f"{rule.name} (HTTP {answer.status})", token),
            name=rule.name,
            code=code,
            subcode=subcode,
            trace_id=_trace(body, answer),
            status=answer.status,
            retry_after=retry_after(answer.headers, refused=True, least=rule.least),
            answer=self._clean(answer.raw[: 4 * ANSWER].decode("utf-8", "replace"), token),
            ambiguous=answer.ambiguous or unread,
            blame=int(found[1]) if found else None,
            fingerprint=token.fingerprint,
        )

    def _acknowledged(self, answer: Answer, body: Mapping[str, Any], sent: int, token: Secret) -> Sent:
        received = body.get("events_received")
        if received != sent or isinstance(received, bool):
            words = f"Meta acknowledged {received if isinstance(received, int) else 'none'} of {sent} events"
            raise self._error(SHORT_ACK, words, answer, token)
        if upgraded := upgrade(answer.headers):
            log.warning("Meta answered with another API version", extra={"warning": upgraded})
        messages = body.get("messages")
        words = "; ".join(str(message) for message in messages) if isinstance(messages, list) else ""
        limit = used_up(answer.headers)
        return Sent(sent, _trace(body, answer), redact(words), answer.status or 200, answer.duration_ms, limit)

    def _exchanged(self, answer: Answer, body: Mapping[str, Any]) -> Exchanged:
        fresh = body.get("access_token")
        if not isinstance(fresh, str) or not fresh:
            words = "The answer holds no token"
            raise GraphError(Failure.UNKNOWN, words, status=answer.status, trace_id=_trace(body, answer))
        seconds = body.get("expires_in")
        whole = int(seconds) if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) else None
        return Exchanged(Secret(fresh), whole or None, _trace(body, answer), answer.duration_ms)

    def _clean(self, text: str, token: Secret) -> str:
        text = token.strike(text)
        return redact(self._app_secret.strike(text) if self._app_secret else text)


def _check_size(payloads: Sequence[bytes]) -> None:
    if not 1 <= len(payloads) <= MAX_EVENTS:
        raise ValueError(f"a request holds 1 to {MAX_EVENTS} events, not {len(payloads)}")
    if sum(map(len, payloads)) > MAX_BYTES:
        raise ValueError(f"a request holds at most {MAX_BYTES} bytes of events")


def _check_token(token: Secret) -> None:
    """A value no header can carry never reaches `requests`, whose exception would quote it."""
    if not re.fullmatch(r"[\x21-\x7e]+", token.reveal()):
        raise GraphError(Failure.TOKEN_DEAD, "The stored token is damaged", name="stored token is damaged")


def _segment(pixel_id: str) -> str:
    """A pixel id is digits; anything that could lead the path elsewhere is refused before it is called."""
    if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", pixel_id):
        raise GraphError(Failure.PERMISSION, "The pixel id is not a number", name="pixel id malformed")
    return pixel_id


def _trace(body: Mapping[str, Any], answer: Answer) -> str | None:
    error = body.get("error")
    inner = error.get("fbtrace_id") if isinstance(error, Mapping) else None
    found = inner or body.get("fbtrace_id") or answer.headers.get("X-FB-Trace-ID")
    return str(found)[:64] if found else None
