"""When a token is refreshed: the few numbers, and the moments that follow from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from core.settings import Settings

DAY = timedelta(days=1)
# A token that we have just mended and that fails again is not mended a second time by ourselves.
ON_ERROR_PAUSE = timedelta(minutes=10)
# Two ends closer than this are the same end: Meta counts from the moment of the answer.
SAME_END = timedelta(hours=1)
# An exchange that moved no end is asked for this often in a day, whoever asks without a person behind it.
EXCHANGES_A_DAY = 2
# "Session does not match" though Meta calls the token valid: this often in a day, then its owner is asked.
SOFT_A_DAY = 6
_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Policy:
    """`window`: refreshed from this long before the end; `soon`: the alarm; `app_id`: our own Meta app;
    `refreshes_a_minute`: scheduled refreshes that all workers together may begin in one minute; `keep_…`: how long
    the contents of dead events, what happened to events, and the history of tokens and orders are kept."""

    window: timedelta = timedelta(days=30)
    soon: timedelta = timedelta(days=7)
    app_id: str | None = None
    refreshes_a_minute: int = 60
    keep_payload: timedelta = timedelta(days=14)
    keep_events: timedelta = timedelta(days=90)
    keep_history: timedelta = timedelta(days=400)

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        days = settings.refresh_window_days, settings.expiring_soon_days
        spans = timedelta(days=days[0]), timedelta(days=days[1])
        kept = settings.keep_payload_days, settings.keep_event_days, settings.keep_history_days
        lengths = (timedelta(days=days) for days in kept)
        return cls(*spans, settings.facebook_app_id, settings.refreshes_a_minute, *lengths)

    def kept(self, what: Literal["payload", "events", "history"]) -> timedelta:
        """How long rows of a class are kept (`core.store.retention`)."""
        return {"payload": self.keep_payload, "events": self.keep_events, "history": self.keep_history}[what]

    def near_end(self, expires_at: datetime | None, now: datetime) -> bool:
        return expires_at is not None and expires_at < now + self.window

    def first_refresh(self, fingerprint: str, expires_at: datetime | None, now: datetime) -> datetime | None:
        """When a token just seen is refreshed by itself; None while its end is not known.

        Every token has its own moment within the day from which it is due, by its fingerprint: neither tokens
        with one end nor a start nor a clock that jumped refreshes everything at once. The last week does not wait.
        """
        if expires_at is None:
            return None
        jitter = DAY * spread(fingerprint)
        if expires_at > now + self.window:
            return expires_at - self.window + jitter
        return now if expires_at <= now + self.soon else now + jitter

    def next_day(self, expires_at: datetime | None, now: datetime) -> datetime:
        """When to ask again after Meta answered and the end did not move: tomorrow, twice a day in the last days."""
        return now + (DAY / EXCHANGES_A_DAY if expires_at and expires_at <= now + self.soon else DAY)

    def after_failure(self, failures: int, expires_at: datetime | None, now: datetime) -> datetime:
        """When to try again after Meta could not be asked: a minute, doubling, up to six hours; one on the last day."""
        wait = min(_MINUTE * 2 ** min(failures, 10), 6 * _HOUR)
        return now + (min(wait, _HOUR) if expires_at and expires_at <= now + DAY else wait)

    def after_soft(self, tries: int, now: datetime) -> datetime:
        """When a token is looked at again that Meta calls valid and yet refuses: ten minutes, doubling."""
        return now + ON_ERROR_PAUSE * 2 ** min(tries, SOFT_A_DAY)


def spread(fingerprint: str) -> float:
    """A number in [0, 1) that is always the same for one token."""
    return int.from_bytes(hashlib.sha256(fingerprint.encode()).digest()[:4]) / 2**32
