"""Single flight: of all who want the same token mended, one does it and the others wait for what comes of it.

Threads of one process share one call (`join`); processes share a lease on the token's row (`take`, `wait`).
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Engine, Row

from core.errors import Conflict
from core.services.outcome import USABLE, Outcome
from core.store import apps, history, tokens
from core.store.database import reading, writing

_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What became of one token: its outcome, the token that is stored now, and how much it set free."""

    outcome: Outcome
    fingerprint: str
    apps_updated: int = 0
    events_released: int = 0
    words: str = ""

    @property
    def usable(self) -> bool:
        return self.outcome in USABLE


def replaced(fingerprint: str) -> Refreshed:
    """Somebody stored another token already."""
    return Refreshed(Outcome.ADOPTED, fingerprint, words="another token is stored already")


class Flight:
    """The leases of one process. Safe to share between threads."""

    def __init__(self, engine: Engine, worker: str, clock: Callable[[], datetime]) -> None:
        self.engine, self.worker, self.clock = engine, worker, clock
        self.sleep: Callable[[float], None] = time.sleep
        self._flying: dict[Hashable, Future[Refreshed]] = {}
        self._lock = threading.Lock()

    def join(self, key: Hashable, work: Callable[[], Refreshed]) -> Refreshed:
        """`work`, done once for all threads that ask with the same key while it is under way."""
        with self._lock:
            flying = self._flying.get(key)
            mine = flying is None
            if flying is None:
                flying = self._flying[key] = Future()
        if not mine:
            return replace(flying.result(), apps_updated=0, events_released=0)
        try:
            flying.set_result(work())
        except BaseException as error:
            flying.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flying[key]
        return flying.result()

    def new_lease(self) -> str:
        return f"{self.worker}:{uuid.uuid4().hex[:8]}"  # threads of one worker fence each other, too

    def is_taken(self, known: Row | None) -> bool:
        """Whether somebody refreshes this token right now."""
        return known is not None and tokens.is_leased(known, now=self.clock())

    def give_back(self, fingerprint: str, lease: str) -> None:
        with writing(self.engine) as conn:
            tokens.release(conn, fingerprint, by=lease)

    def insist(self, fingerprint: str, lease: str) -> None:
        """Take the lease, after whoever has it; Conflict when it cannot be had."""
        give_up = time.monotonic() + tokens.LEASE.total_seconds()
        while True:
            with writing(self.engine) as conn:
                if tokens.lease(conn, fingerprint, by=lease, now=self.clock()) is not None:
                    return
            if time.monotonic() > give_up:
                raise Conflict("this token is being refreshed by another worker: try again")
            self.sleep(_POLL)

    def wait(self, fingerprint: str, user_id: str | None, since: datetime) -> Refreshed | None:
        """Until whoever refreshes this token is done, or its lease has run out; then what came of it.

        None when it was done for another user only: this user's apps still hold the token.
        """
        give_up = time.monotonic() + tokens.LEASE.total_seconds()
        while time.monotonic() < give_up:
            with reading(self.engine) as conn:
                known = tokens.get(conn, fingerprint)
                if not self.is_taken(known):
                    return self._seen(conn, fingerprint, user_id, known, since)
            self.sleep(_POLL)
        return Refreshed(Outcome.UNREACHABLE, fingerprint, words="another worker is still refreshing this token")

    def _seen(
        self, conn: Connection, fingerprint: str, user_id: str | None, known: Row | None, since: datetime
    ) -> Refreshed | None:
        holding = [app for app in apps.holders(conn, fingerprint) if user_id in (None, app.user_id)]
        last = history.last_refresh(conn, fingerprint, since=since - tokens.LEASE)
        if last is not None and user_id not in (None, last.user_id) and holding:
            return None
        if last is not None:
            return Refreshed(Outcome(last.outcome), last.new_fingerprint or fingerprint, words=last.words or "")
        if not holding:
            return replaced(fingerprint)
        broken = known is not None and known.broken_since is not None
        return Refreshed(Outcome.UNREACHABLE if broken else Outcome.STILL_VALID, fingerprint)
