"""The words of a refresh: how a token stands before it, and what it can come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from core.meta.answers import TokenFacts
from core.meta.failures import TOKEN_FAILURES, Failure
from core.secret import Secret

__all__ = ["PASSING", "TOKEN_FAILURES", "USABLE", "Outcome", "Result", "Standing"]

PASSING = frozenset({Failure.TRANSIENT, Failure.RATE_LIMITED})


class Outcome(StrEnum):
    """What a refresh came to."""

    EXTENDED = "extended"
    NEW_TOKEN_SAME_EXPIRY = "new_token_same_expiry"
    NOT_EXTENDED = "not_extended"
    ADOPTED = "adopted"
    RECONNECTED = "reconnected"
    STILL_VALID = "still_valid"
    NEEDS_RECONNECT = "needs_reconnect"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


# After these the stored token can be used.
USABLE = frozenset(
    {
        Outcome.EXTENDED,
        Outcome.NEW_TOKEN_SAME_EXPIRY,
        Outcome.NOT_EXTENDED,
        Outcome.ADOPTED,
        Outcome.RECONNECTED,
        Outcome.STILL_VALID,
    }
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A token before its refresh: how it stands in the apps that hold it, and what Meta said of it before.

    `broken`: why Meta refused it; `past_end`: nobody did, its stored end has passed. `foreign`: another Meta app made
    it. `siblings`: newer tokens of the same user's other apps with their end, best first. `may_exchange`: Meta was not
    asked often enough today. `never_expires`: by Meta's last word it has no end. `pixels`: of its apps.
    """

    token: Secret
    expires_at: datetime | None
    broken: Failure | None
    just_mended: bool
    meta_app_id: str | None
    kind: str | None
    siblings: Sequence[tuple[Secret, datetime]] = ()
    past_end: bool = False
    foreign: bool = False
    may_exchange: bool = True
    soft_tries: int = 0
    meta_user_id: str | None = None
    scopes: tuple[str, ...] = ()
    never_expires: bool = False
    pixels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What the climb came to: `token` is the new one, where there is a new one; `facts` are /debug_token's about
    the token that is to be used from now on. `forget_end`: the stored end is wrong, and nobody knows the right one.
    `foreign`: the call was made in the name of another Meta app."""

    outcome: Outcome
    token: Secret | None = None
    expires_at: datetime | None = None
    facts: TokenFacts | None = None
    failure: Failure | None = None
    words: str = ""
    code: int | None = None
    subcode: int | None = None
    trace_id: str | None = None
    retry_after: float | None = None
    forget_end: bool = False
    foreign: bool = False
