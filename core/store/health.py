"""The health of a token, in the platform's own four words and three more.

The platform's monitoring query knows `No expiry set`, `EXPIRED`, `Expiring soon` and `Valid` from the stored
expiry alone; `PLATFORM_WORD` leads each of ours back to the word the platform shows for the same row, except
that `Needs reconnect` says nothing about the date.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum


class Health(StrEnum):
    """Most urgent first."""

    NEEDS_RECONNECT = "Needs reconnect"
    EXPIRED = "EXPIRED"
    EXPIRING_SOON = "Expiring soon"
    RENEWING = "Renewing"
    NO_EXPIRY = "No expiry set"
    VALID = "Valid"
    NEVER = "Never expires"


def platform_word(expires_at: datetime | None, *, now: datetime, soon: timedelta) -> str:
    """What the platform's monitoring query says of a stored expiry."""
    if expires_at is None:
        return Health.NO_EXPIRY
    if expires_at < now:
        return Health.EXPIRED
    return Health.EXPIRING_SOON if expires_at < now + soon else "Valid"


def health_of(
    expires_at: datetime | None,
    *,
    never_expires: bool,
    needs_reconnect: bool,
    now: datetime,
    soon: timedelta,
    window: timedelta,
) -> Health:
    """The health that the console shows; refines `platform_word` and never contradicts it."""
    if needs_reconnect:
        return Health.NEEDS_RECONNECT
    word = Health(platform_word(expires_at, now=now, soon=soon))
    if word is Health.NO_EXPIRY and never_expires:
        return Health.NEVER
    if word is Health.VALID and expires_at is not None and expires_at < now + window:
        return Health.RENEWING
    return word
