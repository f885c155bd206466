"""What Meta's answers hold, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.clock import from_unix
from core.meta.failures import Failure, classify, numbers
from core.meta.limits import UsedUp
from core.secret import Secret


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch Meta took whole; `used_up` is the limit that the next one would break."""

    events_received: int
    trace_id: str | None
    words: str
    status: int
    duration_ms: int
    used_up: UsedUp | None


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A new token; `expires_in` is in seconds and missing for tokens without an end (and sometimes otherwise)."""

    token: Secret
    expires_in: int | None
    trace_id: str | None
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Pixel:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What /debug_token says of a token; `issued_at` is only given for long-lived ones."""

    is_valid: bool
    kind: str | None
    meta_app_id: str | None
    meta_user_id: str | None
    scopes: tuple[str, ...]
    expires_at: datetime | None
    never_expires: bool
    data_access_expires_at: datetime | None
    issued_at: datetime | None
    failure: Failure | None = None
    code: int | None = None
    subcode: int | None = None
    words: str = ""


def token_facts(data: Mapping[str, Any], words: str) -> TokenFacts:
    """Reads the `data` object; `words` is its error's message, already redacted."""
    error = data.get("error")
    error = error if isinstance(error, Mapping) else {}
    code, subcode = numbers(error)
    valid = data.get("is_valid") is True
    return TokenFacts(
        is_valid=valid,
        kind=_text(data.get("type")),
        meta_app_id=_text(data.get("app_id")),
        meta_user_id=_text(data.get("user_id")),
        scopes=tuple(str(scope) for scope in data.get("scopes") or ()),
        expires_at=_moment(data.get("expires_at")),
        never_expires=valid and data.get("expires_at") == 0,
        data_access_expires_at=_moment(data.get("data_access_expires_at")),
        issued_at=_moment(data.get("issued_at")),
        failure=_failure(error, valid),
        code=code,
        subcode=subcode,
        words=words,
    )


def _failure(error: Mapping[str, Any], valid: bool) -> Failure | None:
    if error:
        return classify({"error": error}, 400).failure
    return None if valid else Failure.TOKEN_DEAD


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "" else None


def _moment(value: object) -> datetime | None:
    """Unix seconds; Meta writes 0 for "never"."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        return None
    try:
        return from_unix(value)
    except (OverflowError, OSError, ValueError):
        return None
