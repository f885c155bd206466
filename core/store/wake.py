"""Wake-ups: jobs on PgQueuer's queue, written in the caller's own transaction.

A wake-up is never the truth, only a hint that saves the wait for the next sweep. The embedded default
has no queue that two processes share: there a worker sees that its file has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, cast

from sqlalchemy import Connection, Engine, text

if TYPE_CHECKING:
    from pgqueuer.domain.settings import DBSettings
    from psycopg import Connection as PsycopgConnection

# PgQueuer's own tables carry our prefix, so that a platform that uses PgQueuer itself is not disturbed.
PREFIX = "capi_"
_FORGOTTEN_AT_ONCE = 20_000


class Work(StrEnum):
    """What a worker can be woken for, in order of urgency."""

    REFRESH = "refresh"
    RUN = "run"
    DELIVER = "deliver"


URGENCY = {Work.REFRESH: 20, Work.RUN: 10, Work.DELIVER: 0}


@cache
def queue_settings() -> DBSettings:
    # Imported here: the endpoint on the embedded default queues nothing and need not load PgQueuer.
    from pgqueuer.domain.settings import DBSettings

    return DBSettings(prefix=PREFIX)


@cache
def _enqueue_sql() -> str:
    from pgqueuer.adapters.persistence.qb import QueryQueueBuilder

    return QueryQueueBuilder(settings=queue_settings()).build_enqueue_query("skip")


def dedupe_key(work: Work, subject: str) -> str:
    return f"{work}:{subject}"


def wake(conn: Connection, work: Work, subjects: Iterable[str]) -> None:
    """Ask for `work` on each subject (a pixel id, a fingerprint, a job id) once this transaction commits."""
    wanted = sorted(set(subjects))
    if not wanted or conn.dialect.name != "postgresql":
        return
    from psycopg import RawCursor

    count = len(wanted)
    cursor = RawCursor(cast("PsycopgConnection", conn.connection.driver_connection))
    cursor.execute(
        _enqueue_sql(),
        (
            [URGENCY[work]] * count,
            [str(work)] * count,
            [subject.encode() for subject in wanted],
            [timedelta(0)] * count,
            [dedupe_key(work, subject) for subject in wanted],
            ["{}"] * count,
        ),
    )
    cursor.close()


@contextmanager
def changes(engine: Engine) -> Iterator[Callable[[], bool]]:
    """On the embedded default: asks whether anybody else has committed since it was last asked; some microseconds."""
    connection = engine.raw_connection()
    cursor, seen = connection.cursor(), 0

    def changed() -> bool:
        nonlocal seen
        before = seen
        # https://www.sqlite.org/pragma.html#pragma_data_version
        (seen,) = cursor.execute("PRAGMA data_version").fetchone()
        return seen != before

    try:
        yield changed
    finally:
        connection.close()


def forget_old(conn: Connection, *, before: datetime) -> int:
    """Drop PgQueuer's log of wake-ups before this moment, which it keeps for ever; how many (bounded: ask again)."""
    if conn.dialect.name != "postgresql":
        return 0
    log, statistics = queue_settings().queue_table_log, queue_settings().statistics_table
    some = f"SELECT id FROM {log} WHERE created < :before LIMIT {_FORGOTTEN_AT_ONCE}"
    old = text(f"DELETE FROM {log} WHERE id IN ({some})")
    conn.execute(text(f"DELETE FROM {statistics} WHERE created < :before"), {"before": before})
    return conn.execute(old, {"before": before}).rowcount
