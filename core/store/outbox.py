"""The keeper of events: the ledger line in `capi_event` and, while it is not delivered, its payload in `capi_outbox`.

    due ──deliver──► delivered        due ──park──► parked ──release──► due
    due, parked ──bury──► dead ──retry──► due        (skipped is where a line begins and ends)

An event that a worker is sending is still `due`: what says "sending" is its pixel's lease (`core.store.pixels`), so
that handing out work costs one small row, not one write per event.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, exists, func, select, text, true, update

from core.errors import Conflict
from core.meta.events import MAX_EVENT_BYTES
from core.store.database import chunks, insert_into
from core.store.schema import capi_event, capi_outbox, capi_pixel
from core.store.types import Moment
from core.store.wake import Work, wake

# verb → (states it starts from, state it leads to)
MOVES: dict[str, tuple[tuple[str, ...], str]] = {
    "deliver": (("due",), "delivered"),
    "park": (("due",), "parked"),
    "release": (("parked",), "due"),
    "bury": (("due", "parked"), "dead"),
    "retry": (("dead",), "due"),
}
STATES = ("due", "sending", "parked", "dead", "delivered", "skipped")

# Rows moved in one statement: bounded, so that no transaction holds SQLite's only writer for long.
CHUNK = 2_000
# No token was stored at all: the event waits for the first one.
NO_TOKEN = ""


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


@dataclass(frozen=True, slots=True)
class Payload:
    """One due event, ready to be sent."""

    id: int
    app_id: str
    attempts: int
    after_refresh: bool
    body: bytes


def new_ids(count: int, now: datetime) -> range:
    """Time-ordered 63-bit ids: milliseconds since 1970, then 22 bits that begin at random and count on.

    Ranges of the same millisecond may overlap, once in some 10,000 times for a hundred events each: the insert then
    fails as a whole and is made again with new ids.
    """
    start = int(now.timestamp() * 1000) << 22 | secrets.randbits(22)
    return range(start, start + count)


def accept(conn: Connection, events: Sequence[NewEvent], *, now: datetime) -> list[bool]:
    """Write these events; True for each that is new, False for each that was known by (app, name, event_id)."""
    if not events:
        return []
    events = [replace(one, skipped="too_large") if len(one.payload) > MAX_EVENT_BYTES else one for one in events]
    ids = new_ids(len(events), now)
    unless_known = insert_into(conn, capi_event).on_conflict_do_nothing(
        index_elements=["app_id", "event_name", "event_id"]
    )
    rows = [_ledger_line(event, id_, now) for event, id_ in zip(events, ids, strict=True)]
    # Two endpoints that take the same events at once meet them in the same order, and do not lock each other out.
    rows.sort(key=lambda row: (row["app_id"], row["event_name"], row["event_id"]))
    new = set(conn.scalars(unless_known.returning(capi_event.c.id), rows))
    due = [(event, id_) for event, id_ in zip(events, ids, strict=True) if id_ in new and event.skipped is None]
    if due:
        conn.execute(capi_outbox.insert(), [_outbox_row(event, id_, now) for event, id_ in due])
        wake(conn, Work.DELIVER, (event.pixel_id for event, _ in due))
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
        "next_attempt_at": now,
        "payload": event.payload,
    }


# The literal states let both databases use the partial indexes; one step of the recursion is one index probe,
# so the cost follows the number of pixels and not the number of events.
_DUE_PIXELS = text("""
    WITH RECURSIVE pixel(id) AS (
        SELECT min(pixel_id) FROM capi_outbox WHERE state = 'due'
        UNION ALL
        SELECT (SELECT min(pixel_id) FROM capi_outbox WHERE state = 'due' AND pixel_id > pixel.id)
        FROM pixel WHERE pixel.id IS NOT NULL
    )
    SELECT pixel.id FROM pixel LEFT JOIN capi_pixel p ON p.pixel_id = pixel.id
    WHERE pixel.id IS NOT NULL
      AND (p.wait_until IS NULL OR p.wait_until <= :now)
      AND (p.lease_until IS NULL OR p.lease_until <= :now)
      AND EXISTS (SELECT 1 FROM capi_outbox o
                  WHERE o.state = 'due' AND o.pixel_id = pixel.id AND o.next_attempt_at <= :now
                    AND o.deadline_at > :now)
""").bindparams(bindparam("now", type_=Moment()))


def due_pixels(conn: Connection, *, now: datetime) -> list[str]:
    """Pixels with work that nobody holds and nothing holds back."""
    return list(conn.scalars(_DUE_PIXELS, {"now": now}))


def first_due(conn: Connection, pixel_id: str, *, now: datetime) -> str | None:
    """The app of the event of this pixel that must go first."""
    return conn.scalar(_due(pixel_id, now).with_only_columns(capi_outbox.c.app_id).limit(1))


def take(
    conn: Connection, pixel_id: str, app_ids: Sequence[str], *, now: datetime, count: int, size: int
) -> list[Payload]:
    """At most `count` due events of these apps, `size` bytes in all (one at least), earliest deadline first."""
    rows = conn.execute(_due(pixel_id, now).where(capi_outbox.c.app_id.in_(app_ids)).limit(count))
    taken: list[Payload] = []
    room = size
    for row in rows:
        room -= len(row.payload) + 1
        if room < 0 and taken:
            break
        taken.append(Payload(row.id, row.app_id, row.attempts, row.after_refresh, bytes(row.payload)))
    return taken


def _due(pixel_id: str, now: datetime) -> Any:
    o = capi_outbox.c
    return (
        select(o.id, o.app_id, o.attempts, o.after_refresh, o.payload)
        .where(text("state = 'due'"), o.pixel_id == pixel_id, o.next_attempt_at <= now, o.deadline_at > now)
        .order_by(o.deadline_at, o.id)
    )


def move(conn: Connection, verb: str, ids: Sequence[int], **changes: Any) -> None:
    """Move these events by one of MOVES, all of them or (Conflict) none.

    `changes` go to the ledger line; those that the outbox row has too go there as well.
    """
    if not ids:
        return
    origins, state = MOVES[verb]
    for chunk in chunks(ids, CHUNK):
        mine = capi_outbox.c.id.in_(chunk)
        if state == "delivered":
            conn.execute(delete(capi_outbox).where(mine))
        else:
            own = {k: v for k, v in changes.items() if k in capi_outbox.c}
            conn.execute(update(capi_outbox).where(mine).values(state=state, **own))
        where = capi_event.c.id.in_(chunk) & capi_event.c.state.in_(origins)
        shared = {k: v for k, v in changes.items() if k in capi_event.c}
        if conn.execute(update(capi_event).where(where).values(state=state, **shared)).rowcount != len(chunk):
            raise Conflict()


def refused(conn: Connection, ids: Sequence[int], *, failure: str, attempt_id: int | None, next_at: datetime) -> None:
    """Count a refused try against these due events; they stay due and wait until `next_at`."""
    for chunk in chunks(ids, CHUNK):
        later = {"attempts": capi_outbox.c.attempts + 1, "next_attempt_at": next_at}
        conn.execute(update(capi_outbox).where(capi_outbox.c.id.in_(chunk)).values(**later))
        counted = {"attempts": capi_event.c.attempts + 1, "failure": failure, "attempt_id": attempt_id}
        conn.execute(update(capi_event).where(capi_event.c.id.in_(chunk)).values(**counted))


def parked_by(conn: Connection) -> list[tuple[str, str]]:
    """(App.id, fingerprint) of every token that events wait for."""
    o = capi_outbox.c
    rows = conn.execute(select(o.app_id, o.parked_by).where(text("state = 'parked'")).distinct())
    return [(row.app_id, row.parked_by or NO_TOKEN) for row in rows]


def barred_until(conn: Connection, pixel_id: str, app_ids: Sequence[str], fingerprint: str) -> datetime | None:
    """Until when this token must not be tried on this pixel: events that it was refused for say so."""
    o = capi_outbox.c
    parked = select(func.max(o.next_attempt_at)).where(text("state = 'parked'"), o.app_id.in_(app_ids))
    return conn.scalar(parked.where(o.parked_by == fingerprint, o.pixel_id == pixel_id))


def release(
    conn: Connection, app_ids: Iterable[str], fingerprint: str, *, now: datetime, all_of_them: bool = True
) -> int:
    """Make events of these apps that wait for this token due; returns how many (at most CHUNK: ask again).

    Not `all_of_them`: only those whose next try has come.
    """
    o = capi_outbox.c
    wanted = (
        select(o.id, o.pixel_id)
        .where(text("state = 'parked'"), o.app_id.in_(list(app_ids)), o.parked_by == fingerprint)
        .where(true() if all_of_them else o.next_attempt_at <= now)
        .limit(CHUNK)
        .with_for_update(skip_locked=True)  # two who release at once share the work
    )
    rows = conn.execute(wanted).all()
    changes = {"parked_by": None, "next_attempt_at": now, "failure": None, "after_refresh": fingerprint != NO_TOKEN}
    move(conn, "release", [row.id for row in rows], **changes)
    wake(conn, Work.DELIVER, (row.pixel_id for row in rows))
    return len(rows)


def why_no_retry(state: str, failure: str | None, deadline_at: datetime, *, now: datetime) -> str | None:
    """Why an event cannot be sent again by an order, in words; None when it can."""
    if state == "parked" and failure != "permission":
        return "waits for its token and goes out by itself once that is mended"
    if state not in ("dead", "due", "parked"):
        return f"is {state} already"
    return "its deadline has passed" if deadline_at <= now else None


def find(conn: Connection, event_id: int) -> Row | None:
    """A stored payload's row without the payload; None once it was delivered."""
    o = capi_outbox.c
    ours = select(o.id, o.app_id, o.pixel_id, o.state, o.deadline_at, capi_event.c.failure)
    return conn.execute(ours.join(capi_event, capi_event.c.id == o.id).where(o.id == event_id)).first()


def hurry(conn: Connection, event_id: int, *, now: datetime) -> None:
    """A due event that waits for its next try goes now; a parked one with all that wait for the same token."""
    o = capi_outbox.c
    row = conn.execute(select(o.state, o.app_id, o.parked_by).where(o.id == event_id)).one()
    alike = (o.app_id == row.app_id) & (o.parked_by == row.parked_by) & (o.state == "parked")
    which = alike if row.state == "parked" else o.id == event_id
    conn.execute(update(capi_outbox).where(which).values(next_attempt_at=now))


def expire(conn: Connection, *, now: datetime) -> int:
    """Bury what Meta would no longer take; returns how many (at most CHUNK)."""
    o = capi_outbox.c
    p = capi_pixel.c
    in_flight = exists().where(p.pixel_id == o.pixel_id, p.lease_until > now)  # its answer decides, not we
    late = select(o.id).where(text("state != 'dead'"), o.deadline_at <= now, ~in_flight).limit(CHUNK)
    ids = conn.scalars(late).all()
    move(conn, "bury", ids, failure="past_deadline")
    return len(ids)
