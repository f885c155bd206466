"""Actors that stop wherever another could come between: each runs in a greenlet up to its next gate.

A gate is a call to Meta (once before it is asked, once before its answer is read) or a wait for somebody else's
refresh. Nothing is left to chance: whoever drives decides who goes on, and an actor that is left standing has crashed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import greenlet

from core.meta.answers import Exchanged, Pixel, Sent, TokenFacts
from core.meta.failures import Failure
from core.meta.graph import GraphError
from core.secret import Secret
from core.store import tokens

SIXTY_DAYS = timedelta(days=60)


class Actor:
    """One piece of work that can be stopped at every gate."""

    def __init__(self, name: str, work: Callable[[], Any]) -> None:
        self.name, self.at = name, "start"
        self._greenlet = greenlet.greenlet(work)

    @property
    def done(self) -> bool:
        return bool(self._greenlet.dead)

    def step(self) -> None:
        """Go on to the next gate."""
        self.at = self._greenlet.switch() or "done"

    def bury(self) -> None:
        """End a crashed actor for good, when nothing that it does counts any more."""
        if self._greenlet and not self.done:
            self._greenlet.throw()


def gate(name: str) -> None:
    """Where an actor stops; whoever is none goes through."""
    parent = greenlet.getcurrent().parent
    if parent is not None:
        parent.switch(name)


@dataclass
class Token:
    """A token as Meta knows it; `serial` counts what was issued."""

    serial: int
    user: str
    ends_at: datetime
    dead: int | None = None
    keeps_end: bool = False


@dataclass
class Meta:
    """Meta in memory: the calls of `core.meta.graph.Graph` that a refresh and a delivery make."""

    now: Callable[[], datetime]
    app_id: str
    tokens: dict[str, Token] = field(default_factory=dict)
    delivered: list[str] = field(default_factory=list)
    exchanges: int = 0
    broken: list[str] = field(default_factory=list)
    _serial: int = 0
    _asking: dict[str, datetime] = field(default_factory=dict)

    def issue(self, user: str, *, days: float = 60, keeps_end: bool = False, ends_at: datetime | None = None) -> Secret:
        self._serial += 1
        value = f"EAA{self._serial:05d}" + "x" * 20
        token = Token(self._serial, user, ends_at or self.now() + timedelta(days=days), keeps_end=keeps_end)
        self.tokens[Secret(value).fingerprint] = token
        return Secret(value)

    def of(self, token: Secret | str) -> Token:
        return self.tokens[token.fingerprint if isinstance(token, Secret) else token]

    def works(self, token: Secret | str | None) -> bool:
        known = self.tokens.get(token.fingerprint if isinstance(token, Secret) else token or "")
        return known is not None and known.dead is None and known.ends_at > self.now()

    def exchange(self, token: Secret, *, system_user: bool = False) -> Exchanged:  # noqa: ARG002
        self._single_flight(token.fingerprint)
        gate("exchange asked")
        try:
            self._refuse(token)
            old = self.of(token)
            self.exchanges += 1
            ends = old.ends_at if old.keeps_end else None
            fresh = self.issue(old.user, keeps_end=old.keeps_end, ends_at=ends)
            gate("exchange answered")
        finally:
            self._asking.pop(token.fingerprint, None)
        left = self.of(fresh).ends_at - self.now()
        return Exchanged(fresh, max(1, int(left.total_seconds())), None, 1)

    def debug_token(self, token: Secret) -> TokenFacts:
        gate("debug asked")
        known, works = self.of(token), self.works(token)
        failure = None if works else Failure.TOKEN_DEAD if known.dead else Failure.TOKEN_EXPIRED
        gate("debug answered")
        return TokenFacts(
            works, "USER", self.app_id, known.user, ("ads_management",), known.ends_at, False, None, None, failure
        )

    def probe_pixel(self, pixel_id: str, token: Secret, *, ours: bool = False) -> Pixel:  # noqa: ARG002
        self._refuse(token)
        return Pixel(pixel_id, "")

    def send(self, _pixel_id: str, payloads: Sequence[bytes], token: Secret, **_: Any) -> Sent:
        gate("events sent")
        self._refuse(token)
        gate("events answered")
        return Sent(len(payloads), None, "", 200, 1, None)

    def _refuse(self, token: Secret) -> None:
        if self.works(token):
            return
        dead = self.of(token).dead
        failure = Failure.TOKEN_DEAD if dead else Failure.TOKEN_EXPIRED
        raise GraphError(failure, "refused", code=190, subcode=dead or 463, fingerprint=token.fingerprint)

    def _single_flight(self, fingerprint: str) -> None:
        """Two may ask for one token only when a lease has run out: the one's that was silent too long."""
        mine, theirs = leased_at(), self._asking.get(fingerprint)
        fresh = [at is not None and self.now() < at + tokens.LEASE for at in (mine, theirs)]
        if all(fresh):
            self.broken.append(f"two exchanges of {fingerprint} at once")
        if mine is not None:
            self._asking[fingerprint] = mine


def note_lease(at: datetime) -> None:
    """The actor that runs now is about to take a lease."""
    greenlet.getcurrent().leased_at = at  # type: ignore[attr-defined]


def leased_at() -> datetime | None:
    return getattr(greenlet.getcurrent(), "leased_at", None)
