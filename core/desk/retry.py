"""What a retry would do, before it is ordered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, exists, select

from core.store.database import chunks
from core.store.hopeless import why_no_retry
from core.store.schema import capi_event, capi_join, capi_outbox

_LOOKUPS = 1_000


@dataclass(frozen=True, slots=True)
class RetryPreview:
    """What retrying these events would do: how many go out again, and why the others would not."""

    retried: int
    skipped: dict[str, int]


def retry_preview(conn: Connection, event_ids: Sequence[int], *, now: datetime) -> RetryPreview:
    """Asked before a retry is ordered; the worker decides again for each event when its turn comes."""
    skipped: dict[str, int] = {}
    retried = 0
    for found in _states_of(conn, event_ids):
        reason = why_no_retry(
            found.state, found.failure, found.deadline_at, now=now, waits=found.waits, stored=found.stored
        )
        if reason is None:
            retried += 1
        else:
            skipped[reason] = skipped.get(reason, 0) + 1
    missing = len(set(event_ids)) - retried - sum(skipped.values())
    if missing:
        skipped["not stored any more"] = missing
    return RetryPreview(retried, skipped)


def _states_of(conn: Connection, event_ids: Sequence[int]) -> list[Row]:
    e = capi_event.c
    waits = exists().where(capi_join.c.event_id == e.id).label("waits")
    stored = exists().where(capi_outbox.c.id == e.id).label("stored")
    return [
        row
        for part in chunks(sorted(set(event_ids)), _LOOKUPS)
        for row in conn.execute(select(e.state, e.failure, e.deadline_at, waits, stored).where(e.id.in_(part)))
    ]
