"""What the stand-in knows: tokens, a clock that can be moved, and what it was called with.

Everything kept is bounded; counts stay exact when old entries have gone.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from core.clock import from_unix
from core.sandbox.faults import Fault
from core.sandbox.refusals import Refusal, dead, expired
from core.secret import Secret

SIXTY_DAYS: Final = 5_184_000
SCOPES: Final = ("ads_management", "ads_read", "business_management")
# How an exchange turns out; None: as Meta's documentation has it.
MODES: Final = (
    None,
    "no_expires_in",
    "same_token",
    "same_expiry",
    "shorter_expiry",
    "fewer_scopes",
    "other_user",
)
KEPT_EVENTS: Final = 100_000
KEPT_CALLS: Final = 20_000
KEPT_TOKENS: Final = 50_000


@dataclass(slots=True)
class Token:
    """`expires_at` in Unix seconds, 0 for never; `pixels` None for all; `dead` is the subcode it died of."""

    value: str = field(repr=False)
    app_id: str
    meta_user_id: str = "1001"
    type: str = "USER"
    expires_at: float = 0
    long_lived: bool = True
    scopes: tuple[str, ...] = SCOPES
    pixels: frozenset[str] | None = None
    mode: str | None = None
    issued_at: float = 0
    dead: int | None = None
    fingerprint: str = ""

    def shown(self) -> dict[str, Any]:
        """Everything but the value."""
        return {
            "fingerprint": self.fingerprint,
            "app_id": self.app_id,
            "meta_user_id": self.meta_user_id,
            "type": self.type,
            "expires_at": self.expires_at,
            "scopes": list(self.scopes),
            "pixels": "*" if self.pixels is None else sorted(self.pixels),
            "mode": self.mode,
            "dead": self.dead,
        }


@dataclass(slots=True)
class Grant:
    """What a login gave: a code for it works once, for ten minutes and for one redirect_uri."""

    redirect_uri: str
    meta_user_id: str
    scopes: tuple[str, ...]
    pixels: frozenset[str] | None
    ends_at: float
    used: bool = False


@dataclass(slots=True)
class Login:
    """Who logs in at the dialog, and how it goes; `at_once`: without showing the page. `error` is the dialog's own."""

    user: str | None = None
    scopes: tuple[str, ...] | None = None
    pixels: frozenset[str] | None = None
    at_once: bool = False
    error: str | None = None


class State:
    """The stand-in's memory. One event loop writes it; other threads may read."""

    def __init__(
        self,
        *,
        app_id: str = "1234567890",
        app_secret: Secret | None = None,
        require_proof: bool = False,
        kept_events: int = KEPT_EVENTS,
    ) -> None:
        self.app_id = app_id
        self.app_secret = app_secret or Secret("sandbox-app-secret")
        self.require_proof = require_proof
        self._kept_events = kept_events
        self.reset()

    def reset(self) -> None:
        """Forget everything but the app's id and secret."""
        self.offset = 0.0
        self.tokens: dict[str, Token] = {}
        self._by_fingerprint: dict[str, Token] = {}
        self.faults: list[Fault] = []
        self.events: deque[tuple[int, str, str, str, str, float]] = deque(maxlen=self._kept_events)
        self.received = 0
        self.received_by_pixel: Counter[str] = Counter()
        self.calls: dict[str, deque[dict[str, Any]]] = {}
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.login = Login()
        self.names: dict[str, str] = {}
        self.grants: dict[str, Grant] = {}

    def now(self) -> float:
        return time.time() + self.offset

    def set_clock(self, moment: float) -> None:
        self.offset = moment - time.time()

    def add_token(self, value: str | None = None, **given: Any) -> Token:
        fields: dict[str, Any] = {"app_id": self.app_id, "issued_at": self.now()} | given
        token = Token(value or new_value(), **fields)
        token.fingerprint = Secret(token.value).fingerprint
        if len(self.tokens) >= KEPT_TOKENS:
            oldest = self.tokens.pop(next(iter(self.tokens)))
            self._by_fingerprint.pop(oldest.fingerprint, None)
        self.tokens[token.value] = token
        self._by_fingerprint[token.fingerprint] = token
        return token

    def find(self, name: str) -> Token | None:
        """A token by its value or by its fingerprint."""
        return self.tokens.get(name) or self._by_fingerprint.get(name)

    def fingerprint(self, value: str | None) -> str | None:
        if not value:
            return None
        token = self.tokens.get(value)
        return token.fingerprint if token else Secret(value).fingerprint

    def trouble(self, token: Token) -> Refusal | None:
        """What is wrong with a known token now."""
        if token.dead is not None:
            return dead(token.dead)
        if token.expires_at and token.expires_at <= self.now():
            return expired(_words(token.expires_at), _words(self.now()))
        return None

    def accept(self, pixel: str, fingerprint: str, batch: Iterable[Mapping[str, Any]]) -> None:
        moment = self.now()
        for event in batch:
            self.received += 1
            self.received_by_pixel[pixel] += 1
            self.events.append(
                (
                    self.received,
                    str(event.get("event_id") or ""),
                    str(event.get("event_name")),
                    pixel,
                    fingerprint,
                    moment,
                )
            )

    def note_call(self, kind: str, **fields: Any) -> None:
        self.counts[kind] += 1
        self.calls.setdefault(kind, deque(maxlen=KEPT_CALLS)).append({"at": self.now()} | fields)

    def grant(self, code: str, grant: Grant) -> None:
        if len(self.grants) >= KEPT_CALLS:
            self.grants.pop(next(iter(self.grants)))
        self.grants[code] = grant

    def called(self, user: str) -> str:
        """A Meta user as the dialog shows them."""
        return f"{self.names[user]} (user {user})" if user in self.names else f"user {user}"

    def users(self) -> list[str]:
        """Meta users who may log in, those whose token is over first."""
        over = [token.meta_user_id for token in reversed(self.tokens.values()) if self.trouble(token)]
        alive = (token.meta_user_id for token in self.tokens.values())
        return list(dict.fromkeys([*over, *alive]))


def new_value() -> str:
    """A token of Meta's shape."""
    return "EAA" + secrets.token_hex(80)


def _words(moment: float) -> str:
    return from_unix(moment).strftime("%A, %d-%b-%y %H:%M:%S UTC")
