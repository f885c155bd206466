"""The sandbox from outside: what tests, the demo and the console ask of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import requests

from core.secret import Secret


class Sandbox:
    """One running sandbox. `requests.HTTPError` for an order it does not understand."""

    def __init__(self, url: str, *, timeout: float = 5.0) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False

    def close(self) -> None:
        self._session.close()

    def create_token(
        self,
        *,
        token: str | None = None,
        app_id: str | None = None,
        user: str = "1001",
        name: str | None = None,
        type: str = "USER",
        expires_in: float | None = None,
        expires_at: datetime | None = None,
        never: bool = False,
        long_lived: bool = True,
        scopes: Sequence[str] | None = None,
        pixels: Sequence[str] | None = None,
        mode: str | None = None,
    ) -> Secret:
        """A token Meta would honour: 60 days unless told otherwise, for all pixels unless some are named. `name` is
        what the login dialog calls its user.

        `expires_in` in seconds, negative for one that is over already; `mode` is one of
        `core.sandbox.state.MODES`: how an exchange of it turns out.
        """
        order: dict[str, Any] = {
            "token": token,
            "app_id": app_id,
            "meta_user_id": user,
            "name": name,
            "type": type,
            "long_lived": long_lived,
            "scopes": list(scopes) if scopes is not None else None,
            "pixels": list(pixels) if pixels is not None else "*",
            "mode": mode,
        }
        if never:
            order["expires_at"] = 0
        elif expires_at is not None:
            order["expires_at"] = expires_at.timestamp()
        elif expires_in is not None:
            order["expires_in"] = expires_in
        return Secret(self._post("tokens", order)["token"])

    def tokens(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("tokens")["tokens"]
        return found

    def expire(self, token: Secret | str) -> None:
        """The token's time is over as of now."""
        self._post(f"tokens/{_name(token)}/expire")

    def kill(self, token: Secret | str, subcode: int = 460) -> None:
        """The token dies of 190 with this subcode."""
        self._post(f"tokens/{_name(token)}/kill", {"subcode": subcode})

    def revive(self, token: Secret | str) -> None:
        """A killed token works again, as when its owner has passed a check at facebook.com."""
        self._post(f"tokens/{_name(token)}/revive")

    def fault(
        self,
        path: str,
        kind: str,
        *,
        count: int | None = None,
        rate: float = 1.0,
        pixel: str | None = None,
        token: Secret | str | None = None,
        **more: Any,
    ) -> None:
        """Order trouble on a path (events, exchange, code, debug, pixel, any); kinds are in `core.sandbox.faults`.

        `more` is `seconds` (latency), `minutes` (rate limits), `error` (code, subcode, message, status; of `raw`:
        status, body) or `headers` (with any refusal, `raw` and `usage`).
        """
        order = {"kind": kind, "path": path, "count": count, "rate": rate, "pixel": pixel} | more
        self._post("faults", order | ({"token": _name(token)} if token is not None else {}))

    def login(
        self,
        *,
        user: str | None = None,
        scopes: Sequence[str] | None = None,
        pixels: Sequence[str] | None = None,
        at_once: bool = True,
        error: str | None = None,
    ) -> None:
        """Who logs in at the dialog from now on, what they grant, and which pixels they may use (else what the page
        is told, and all). `at_once`: nobody has to press a button; `error`: the dialog ends with it, such as
        access_denied."""
        order: dict[str, Any] = {"user": user, "at_once": at_once, "error": error}
        order |= {"scopes": list(scopes) if scopes is not None else None}
        self._post("login", order | {"pixels": list(pixels) if pixels is not None else None})

    def clear_faults(self, *, general: bool = False) -> None:
        """All of them, or (`general`) only those meant for no certain token or pixel."""
        self._call("DELETE", "faults", params={"general": "1"} if general else None)

    def events(self, pixel: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        """Every accepted event: seq, event_id, event_name, pixel, token (fingerprint), at."""
        found: list[dict[str, Any]] = self._get("events", pixel=pixel, since=since)["events"]
        return found

    def calls(self, kind: str) -> list[dict[str, Any]]:
        """The calls of a kind (events, exchange, code, debug, pixel) with fingerprint, status and code."""
        found: list[dict[str, Any]] = self._get("calls", kind=kind)["calls"]
        return found

    def count(self, kind: str) -> int:
        """How many calls of a kind there were, exact."""
        return int(self._get("calls", kind=kind)["count"])

    def stats(self) -> dict[str, Any]:
        return self._get("stats")

    def advance(self, seconds: float) -> None:
        self._post("clock", {"advance": seconds})

    def set_clock(self, moment: datetime) -> None:
        self._post("clock", {"set": moment.timestamp()})

    def reset(self) -> None:
        self._post("reset")

    def _get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._call("GET", path, params={key: value for key, value in query.items() if value is not None})

    def _post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._call("POST", path, json=body or {})

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        answer = self._session.request(method, f"{self.url}/_sandbox/{path}", timeout=self._timeout, **more)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body


def _name(token: Secret | str) -> str:
    return token.fingerprint if isinstance(token, Secret) else token
