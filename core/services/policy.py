"""When a token is refreshed: the few numbers, and the moments that follow from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.settings import Settings

DAY = timedelta(days=1)
# A token that we have just mended and that fails again is not mended a second time by ourselves.
ON_ERROR_PAUSE = timedelta(minutes=10)
# Two ends closer than this are the same end: Meta counts from the moment of the answer.
SAME_END = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Policy:
    """`window`: refreshed from this long before the end; `soon`: the alarm; `app_id`: our own Meta app."""

    window: timedelta = timedelta(days=30)
    soon: timedelta = timedelta(days=7)
    app_id: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        days = settings.refresh_window_days, settings.expiring_soon_days
        return cls(timedelta(days=days[0]), timedelta(days=days[1]), settings.facebook_app_id)

    def near_end(self, expires_at: datetime | None, now: datetime) -> bool:
        return expires_at is not None and expires_at < now + self.window

    def first_refresh(self, fingerprint: str, expires_at: datetime | None, now: datetime) -> datetime | None:
        """When a token just seen is refreshed by itself; None while its end is not known.

        Tokens already inside the window are spread over a day by their fingerprint, so that a start or a
        clock that jumped does not refresh everything at once; the last week does not wait.
        """
        if expires_at is None:
            return None
        if expires_at > now + self.window:
            return expires_at - self.window
        return now if expires_at <= now + self.soon else now + DAY * spread(fingerprint)

    def after_failure(self, failures: int, expires_at: datetime | None, now: datetime) -> datetime:
        """When to try again after a refresh that came to nothing: a minute, doubling, at most a day."""
        wait = min(timedelta(minutes=1) * 2 ** min(failures, 11), DAY)
        return now + (min(wait, timedelta(hours=1)) if expires_at and expires_at <= now + DAY else wait)


def spread(fingerprint: str) -> float:
    """A number in [0, 1) that is always the same for one token."""
    return int.from_bytes(hashlib.sha256(fingerprint.encode()).digest()[:4]) / 2**32
