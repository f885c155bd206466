"""Upkeep: hours are counted for the charts, and what was kept long enough goes, without holding anybody up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Engine

from core import failpoints
from core.services.policy import Policy
from core.store import retention, rollups
from core.store.database import reading, writing
from core.store.retention import STEP, Class
from core.store.rollups import HOUR

# A request is written down when its answer is there: an hour is counted once more after it has ended.
SETTLES = timedelta(minutes=5)
# One run's share, so that a worker that is told to stop does not wait for it; the next run goes on.
BUDGET = 5.0
# After each step everybody else has the database for this many times as long as the step took.
YIELD = 2.0


def roll_up(engine: Engine, policy: Policy, *, now: datetime) -> int:
    """Count the hour that runs, those that were not counted yet, and the last one until it has settled; how many."""
    this = rollups.hour_of(now)
    with reading(engine) as conn:
        counted, first = rollups.last_hour(conn), rollups.first_request(conn)
    start = counted or min(rollups.hour_of(first) if first else this, this)
    if counted == this and now - this < SETTLES:
        start -= HOUR
    start = max(start, rollups.hour_of(now - policy.keep_history))
    done = 0
    while start <= this:
        with writing(engine) as conn:
            rollups.put(conn, start, rollups.count(conn, start))
            failpoints.hit("rollup.before_commit")
        start += HOUR
        done += 1
    return done


def forget(
    engine: Engine, policy: Policy, *, now: datetime, clock: Callable[[], float] = time.monotonic
) -> dict[str, int]:
    """Drop what was kept long enough, for BUDGET seconds at most; class → steps that found something."""
    done: dict[str, int] = {}
    ends = clock() + BUDGET
    # None stands always at the end of the line: much of one kind must not keep the others for ever.
    for kind in random.sample(retention.CLASSES, len(retention.CLASSES)):
        before = now - policy.kept(kind.kept)
        while clock() < ends:
            started = time.monotonic()
            found = _step(engine, kind, before)
            done[kind.what] = done.get(kind.what, 0) + bool(found)
            if found < STEP:
                break
            time.sleep(YIELD * (time.monotonic() - started))
    return {what: steps for what, steps in done.items() if steps}


def _step(engine: Engine, kind: Class, before: datetime) -> int:
    with writing(engine) as conn:
        found = kind.drop(conn, before)
        failpoints.hit("retention.before_commit")
        return found
