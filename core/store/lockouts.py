"""The keeper of tries to sign in: counted before the password is looked at, so that many at once are counted, too.

Names and addresses are kept as SHA-256 only: people type passwords into the wrong field. A name is counted whether it
is anybody's or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, case, delete, literal, null, or_, select

from core.store.database import insert_into
from core.store.schema import capi_lockout
from core.store.types import Moment

FREE: Final = 5
# After the fifth failure in a row, the sixth, and so on.
WAITS: Final = tuple(timedelta(seconds=seconds) for seconds in (30, 60, 120, 240, 480, 900))
FORGOTTEN_AFTER: Final = timedelta(hours=24)
# Rows dropped in one transaction.
STEP: Final = 500
_L = capi_lockout.c


@dataclass(frozen=True, slots=True)
class Taken:
    """A try that was counted (`tries` of the subject that has most), or was not: `locked_until` says until when."""

    tries: int
    locked_until: datetime | None = None


def take(conn: Connection, subjects: Sequence[str], *, now: datetime) -> Taken:
    """Count a try against each of these, in this order; not against those behind one that is locked."""
    most = 0
    for subject in map(_hash, subjects):
        tries = conn.scalar(_count(conn, subject, now))
        if tries is None:
            return Taken(most, conn.scalar(select(_L.locked_until).where(_L.subject == subject)))
        most = max(most, tries)
    return Taken(most)


def _count(conn: Connection, subject: str, now: datetime) -> Any:
    """One statement, so that of many at once each sees what the one before it has counted."""
    tries = case((_L.tried_at < now - FORGOTTEN_AFTER, 1), else_=_L.tries + 1)
    until = [(tries == FREE + step, literal(now + wait, Moment)) for step, wait in enumerate(WAITS)]
    locked = case((tries < FREE, null()), *until, else_=literal(now + WAITS[-1], Moment))
    first = insert_into(conn, capi_lockout).values(subject=subject, tries=1, tried_at=now)
    return first.on_conflict_do_update(
        index_elements=["subject"],
        set_={"tries": tries, "tried_at": now, "locked_until": locked},
        where=or_(_L.locked_until.is_(None), _L.locked_until <= now),
    ).returning(_L.tries)


def forgive(conn: Connection, subjects: Sequence[str]) -> None:
    """Forget all that was counted against these."""
    conn.execute(delete(capi_lockout).where(_L.subject.in_([_hash(subject) for subject in subjects])))


def locked_until(conn: Connection, subject: str, *, now: datetime) -> datetime | None:
    """None when a try would be taken."""
    mine = select(_L.locked_until).where(_L.subject == _hash(subject), _L.locked_until > now)
    return conn.scalar(mine)


def forget(conn: Connection, *, now: datetime) -> int:
    """Drop what was last tried a day ago, STEP rows at most; how many. Passes by what somebody tries just now."""
    old = select(_L.subject).where(_L.tried_at < now - FORGOTTEN_AFTER).limit(STEP)
    found = list(conn.scalars(old.with_for_update(skip_locked=True)))
    if found:
        conn.execute(delete(capi_lockout).where(_L.subject.in_(found)))
    return len(found)


def _hash(subject: str) -> str:
    return hashlib.sha256(subject.encode()).hexdigest()
