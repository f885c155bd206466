"""How an event enters: its ledger line, its payload and its other names, in one transaction, each event once."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from core.meta.events import MAX_EVENT_BYTES
from core.store import aliases, visitors
from core.store.aliases import Claim
from core.store.database import insert_into
from core.store.schema import capi_event, capi_outbox
from core.store.visitors import Join
from core.store.wake import Work, wake


@dataclass(frozen=True, slots=True)
class NewEvent:
    """One thing Meta should hear, as the inbound rooms hand it over. `app_id` is `App.id`; `payload` the ready JSON."""

    app_id: str
    pixel_id: str
    event_name: str
    event_id: str
    source: str
    event_time: datetime
    deadline_at: datetime
    payload: bytes
    order_id: str | None = None
    value: Decimal | None = None
    currency: str | None = None
    skipped: str | None = None
    # What else the same thing is called (`order:ID`): whoever comes second under such a name is a duplicate.
    aliases: tuple[str, ...] = ()
    # Aliases that it only leaves behind, and is never a duplicate by (one cart sees many AddToCarts).
    notes: tuple[str, ...] = ()
    # Waits for a browser that was seen with one of these keys; `payload` is not complete before.
    join: Join | None = None


def first_id(moment: datetime) -> int:
    """No event that came in at or after this moment has a smaller id."""
    return int(moment.timestamp() * 1000) << 22


def new_ids(count: int, now: datetime) -> range:
    """Time-ordered 63-bit ids: milliseconds since 1970, then 22 bits that begin at random and count on.

    Ranges of the same millisecond may overlap, once in some 10,000 times for a hundred events each: the insert then
    fails as a whole and is made again with new ids.
    """
    start = first_id(now) | secrets.randbits(22)
    return range(start, start + count)


def accept(conn: Connection, events: Sequence[NewEvent], *, now: datetime) -> list[bool]:
    """Write these events; True for each that is new, False for each that was known by (app, name, event_id)."""
    if not events:
        return []
    events = [replace(one, skipped="too_large") if len(one.payload) > MAX_EVENT_BYTES else one for one in events]
    ids = new_ids(len(events), now)
    claims = [
        Claim(id_, event.app_id, event.event_name, event.aliases, event.notes)
        for event, id_ in zip(events, ids, strict=True)
        if (event.aliases or event.notes) and event.skipped is None
    ]
    told = aliases.claim(conn, claims, now=now)
    unless_known = insert_into(conn, capi_event).on_conflict_do_nothing(
        index_elements=["app_id", "event_name", "event_id"]
    )
    rows = [_ledger_line(event, id_, now) for event, id_ in zip(events, ids, strict=True) if id_ not in told]
    # Two endpoints that take the same events at once meet them in the same order, and do not lock each other out.
    rows.sort(key=lambda row: (row["app_id"], row["event_name"], row["event_id"]))
    new = set(conn.scalars(unless_known.returning(capi_event.c.id), rows)) if rows else set()
    aliases.give_back(conn, [claim.event_id for claim in claims if claim.event_id not in new | told])
    due = [(event, id_) for event, id_ in zip(events, ids, strict=True) if id_ in new and event.skipped is None]
    if due:
        conn.execute(capi_outbox.insert(), [_outbox_row(event, id_, now) for event, id_ in due])
        visitors.await_(conn, [(id_, event.app_id, event.join) for event, id_ in due if event.join])
        wake(conn, Work.DELIVER, (event.pixel_id for event, _ in due if event.join is None))
    return [id_ in new for id_ in ids]


def _ledger_line(event: NewEvent, id_: int, now: datetime) -> dict[str, Any]:
    return {
        "id": id_,
        "app_id": event.app_id,
        "pixel_id": event.pixel_id,
        "event_name": event.event_name,
        "event_id": event.event_id,
        "source": event.source,
        "order_id": event.order_id,
        "value": event.value,
        "currency": event.currency,
        "event_time": event.event_time,
        "received_at": now,
        "deadline_at": event.deadline_at,
        "state": "skipped" if event.skipped else "due",
        "failure": event.skipped,
    }


def _outbox_row(event: NewEvent, id_: int, now: datetime) -> dict[str, Any]:
    return {
        "id": id_,
        "app_id": event.app_id,
        "pixel_id": event.pixel_id,
        "state": "due",
        "deadline_at": event.deadline_at,
        # One that waits for its browser is not due before `core.inbound.visitors` has completed it.
        "next_attempt_at": event.deadline_at if event.join else now,
        "payload": event.payload,
    }
