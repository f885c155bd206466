"""How an event enters: its ledger line, its payload and its other names, in one transaction, each event once."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, select

from core.clock import from_unix
from core.meta.events import MAX_EVENT_BYTES
from core.store import aliases, ledger, visitors
from core.store.aliases import Claim
from core.store.many import Column, insert_many
from core.store.schema import capi_event, capi_outbox
from core.store.visitors import Join
from core.store.wake import Work, wake

# When a skipped line gives way to a report that can be sent: it is another source's, the line was not skipped for what
# the thing itself is, and its browser did not say no.
_GIVES_WAY = """
    capi_event.state = 'skipped' AND excluded.state = 'due' AND excluded.source <> capi_event.source
    AND capi_event.failure NOT IN ('test_order', 'cancelled', 'reported_by_browser')
    AND NOT (capi_event.failure = 'no_consent' AND capi_event.source = 'track')
"""
# A ledger line's columns that are an event's own.
_OWN = (
    "app_id",
    "pixel_id",
    "event_name",
    "event_id",
    "source",
    "order_id",
    "value",
    "currency",
    "event_time",
    "deadline_at",
)
# What a line takes over when it gives way: not when it came in, by which day it is accounted for (`core.store.ledger`).
_COLUMNS = ("id", *_OWN, "state", "failure")
_ONCE = f"""
    ON CONFLICT (app_id, event_name, event_id)
    DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)} WHERE {_GIVES_WAY}
"""


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
    # When this cannot have been told yet: aliases taken before do not count.
    aliases_since: datetime | None = None
    # Waits for a browser that was seen with one of these keys; `payload` is not complete before.
    join: Join | None = None


def first_id(moment: datetime) -> int:
    """No event that came in at or after this moment has a smaller id."""
    return int(moment.timestamp() * 1000) << 22


def moment_of(event_id: int) -> datetime:
    """When an event with this id came in."""
    return from_unix((event_id >> 22) / 1000)


def new_ids(count: int, now: datetime) -> range:
    """Time-ordered 63-bit ids: milliseconds since 1970, then 22 bits that begin at random and count on.

    Ranges of the same millisecond may overlap, once in some 10,000 times for a hundred events each: the insert then
    fails as a whole and is made again with new ids.
    """
    start = first_id(now) | secrets.randbits(22)
    return range(start, start + count)


def accept(conn: Connection, events: Sequence[NewEvent], *, now: datetime) -> list[bool]:
    """Write these events; True for each that is new, False for each that was known by (app, name, event_id) or told
    under an alias. A line that was skipped gives way to another source's report that can be sent."""
    if not events:
        return []
    events = [replace(one, skipped="too_large") if len(one.payload) > MAX_EVENT_BYTES else one for one in events]
    numbered = dict(zip(new_ids(len(events), now), events, strict=True))
    claims = [
        Claim(id_, event.app_id, event.event_name, event.aliases, event.notes, event.aliases_since)
        for id_, event in numbered.items()
        if (event.aliases or event.notes) and event.skipped is None
    ]
    claimed = aliases.claim(conn, claims, now=now)
    new = _write_lines(conn, {id_: event for id_, event in numbered.items() if id_ not in claimed.told}, now)
    # Told only by an event of this very group that was not written itself: then it is the one.
    late = {id_ for id_, teller in claimed.told.items() if teller in numbered and teller not in new}
    if late:
        new |= _write_lines(conn, {id_: numbered[id_] for id_ in sorted(late)}, now)
    aliases.settle(conn, claims, claimed, new, now=now)
    due = [(event, id_) for id_, event in numbered.items() if id_ in new and event.skipped is None]
    if due:
        insert_many(conn, capi_outbox, _payloads(due, now))
        visitors.await_(conn, [(id_, event.app_id, event.join) for event, id_ in due if event.join])
        wake(conn, Work.DELIVER, (event.pixel_id for event, _ in due if event.join is None))
    ledger.take(conn, ((event.app_id, event.source, new.get(id_, False)) for id_, event in numbered.items()), now=now)
    return [id_ in new for id_ in numbered]


def _write_lines(conn: Connection, numbered: dict[int, NewEvent], now: datetime) -> dict[int, bool]:
    """The ids of those that are new, and whether a line was made for it: the others took over a skipped one's."""
    once: dict[tuple[str, str, str], tuple[int, NewEvent]] = {}
    for id_, event in numbered.items():
        key = (event.app_id, event.event_name, event.event_id)
        known = once.get(key)
        if known is None or (known[1].skipped is not None and event.skipped is None):
            once[key] = (id_, event)
    # Two endpoints that take the same events at once meet them in the same order, and do not lock each other out.
    lines = [once[key] for key in sorted(once)]
    if not lines:
        return {}
    insert_many(conn, capi_event, _ledger_lines(lines, now), then=_ONCE)
    # New is what now stands under an id of ours. (By its event_id too: another process may have drawn the same ids.)
    ours = {(id_, event.event_id) for id_, event in lines}
    c = capi_event.c
    among = select(c.id, c.event_id, c.received_at).where(c.id.between(min(numbered), max(numbered)))
    return {id_: at == now for id_, event_id, at in conn.execute(among) if (id_, event_id) in ours}


def _ledger_lines(lines: Sequence[tuple[int, NewEvent]], now: datetime) -> dict[str, Column]:
    events = [event for _, event in lines]
    return {
        "id": [id_ for id_, _ in lines],
        **{name: [getattr(event, name) for event in events] for name in _OWN},
        "received_at": [now] * len(lines),
        "state": ["skipped" if event.skipped else "due" for event in events],
        "failure": [event.skipped for event in events],
    }


def _payloads(due: Sequence[tuple[NewEvent, int]], now: datetime) -> dict[str, Column]:
    return {
        "id": [id_ for _, id_ in due],
        "app_id": [event.app_id for event, _ in due],
        "pixel_id": [event.pixel_id for event, _ in due],
        "state": ["due"] * len(due),
        "deadline_at": [event.deadline_at for event, _ in due],
        # One that waits for its browser is not due before `core.inbound.visitors` has completed it.
        "next_attempt_at": [event.deadline_at if event.join else now for event, _ in due],
        "payload": [event.payload for event, _ in due],
    }
