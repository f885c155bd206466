"""Upkeep of the account per app and day: arrivals are folded into it, and the events counted against them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine

from core.services.policy import DAY, Policy
from core.services.upkeep import YIELD
from core.store import ledger
from core.store.database import chunks, reading, writing

# One run's share, in seconds; what is left is the next run's.
BUDGET = 5.0
_APPS = 500


def keep(engine: Engine, policy: Policy, *, now: datetime, clock: Callable[[], float] = time.monotonic) -> int:
    """Fold what came in, then count the days that are due, one by one; how many days were counted.

    Nothing is counted while much is not folded yet: a worker that was away for long takes several runs.
    """
    if not fold(engine, clock=clock):
        return 0
    with reading(engine) as conn:
        due = ledger.days_due(conn, now=now, back=days_back(policy))
    for day in due:
        count(engine, day, now=now)
    return len(due)


def fold(engine: Engine, *, clock: Callable[[], float] = time.monotonic) -> bool:
    """Put what came in into the account and the rhythms, for BUDGET seconds at most; whether that was all."""
    ends = clock() + BUDGET
    while True:
        started = time.monotonic()
        with writing(engine) as conn:
            found = ledger.fold(conn)
        if found < ledger.STEP:
            return True
        if clock() > ends:
            return False
        time.sleep(YIELD * (time.monotonic() - started))


def days_back(policy: Policy) -> int:
    """How many days can be checked: of older ones, lines are dropped."""
    return max(1, min(ledger.LOOKED_BACK, policy.keep_events // DAY))


def count(engine: Engine, day: datetime, *, now: datetime) -> None:
    """Compare one day in a snapshot that holds up nobody, then write it down in short transactions."""
    with reading(engine) as conn:
        seen = ledger.look(conn, day)
    with writing(engine) as conn:
        ledger.fold(conn, seen.taken)
    for part in chunks(list(seen.counts), _APPS):
        with writing(engine) as conn:
            ledger.put(conn, seen, part, now=now)
