"""What a browser keeps while its person signs in elsewhere: a signed cookie, checked without asking a database.

    cookie   URL-safe base64 of HMAC (32) and JSON: state, nonce, verifier (256 random bits each), where to go, the end

The key is made from the client secret for this purpose alone.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import threading
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Final

import orjson

from core.secret import Secret

LOGIN_TIME: Final = timedelta(minutes=10)
_FOR: Final = b"capi-console sign-in elsewhere 1"
_TAG: Final = 32
# Browsers drop a cookie beyond 4 KiB; who came from a longer address is led to the first page.
_LONGEST: Final = 1_500


@dataclass(frozen=True, slots=True)
class Login:
    """One sign-in under way. `to`: the page it leads to; `ends`: Unix seconds."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    to: str
    ends: int


class Logins:
    """Begins sign-ins, and takes each back once, from the browser that began it."""

    def __init__(self, client_secret: Secret) -> None:
        self._key = client_secret.sign(_FOR)
        self._taken: dict[str, int] = {}
        self._taking = threading.Lock()

    def new(self, to: str, *, now: datetime) -> Login:
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        ends = int((now + LOGIN_TIME).timestamp())
        return Login(state, nonce, verifier, to if len(to.encode()) <= _LONGEST else "/", ends)

    def write(self, login: Login) -> str:
        """The cookie."""
        said = orjson.dumps(asdict(login))
        return base64.urlsafe_b64encode(self._tag(said) + said).decode().rstrip("=")

    def take(self, cookie: str, state: str, *, now: datetime) -> Login | None:
        """The login that this browser began with this state; None when it began none, it is over, or it was taken
        before (by this process: elsewhere the provider takes no code twice)."""
        login = self._read(cookie)
        at = int(now.timestamp())
        if login is None or at >= login.ends or not hmac.compare_digest(login.state.encode(), state.encode()):
            return None
        with self._taking:
            self._taken = {one: ends for one, ends in self._taken.items() if ends > at}
            if login.state in self._taken:
                return None
            self._taken[login.state] = login.ends
        return login

    def _read(self, cookie: str) -> Login | None:
        try:
            raw = base64.b64decode(cookie + "=" * (-len(cookie) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        said = raw[_TAG:]
        return Login(**orjson.loads(said)) if hmac.compare_digest(raw[:_TAG], self._tag(said)) else None

    def _tag(self, said: bytes) -> bytes:
        return hmac.digest(self._key, said, "sha256")
