"""The keeper of events: the ledger line in `capi_event` and, while it is not delivered, its payload in `capi_outbox`.

    due ──deliver──► delivered        due ──park──► parked ──release──► due
    due, parked ──bury──► dead ──retry──► due        due ──skip──► skipped (or skipped from the start)

An event that a worker is sending is still `due`: what says "sending" is its pixel's lease (`core.store.pixels`), so
that handing out work costs one small row, not one write per event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Delete,
    Text,
    Update,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    select,
    text,
    true,
    update,
)

from core.errors import Conflict
from core.store.database import as_list, chunks, in_list
from core.store.schema import capi_event, capi_outbox, capi_pixel
from core.store.wake import Work, wake
from core.store.wiping import wiping

# verb → (states it starts from, state it leads to)
MOVES: dict[str, tuple[tuple[str, ...], str]] = {
    "deliver": (("due",), "delivered"),
    "park": (("due",), "parked"),
    "release": (("parked",), "due"),
    "bury": (("due", "parked"), "dead"),
    "retry": (("dead",), "due"),
    "skip": (("due",), "skipped"),
}
STATES = ("due", "sending", "parked", "dead", "delivered", "skipped")

# Rows moved in one statement: bounded, so that no transaction holds SQLite's only writer for long.
CHUNK = 2_000
# No token was stored at all: the event waits for the first one.
NO_TOKEN = ""
# The failure of an event whose payload was emptied for a person's or a shop's privacy: it can never be sent.
REDACTED = "redacted"
# Before the names of new values in a statement: the names alone are the columns' own.
_NEW = "new_"

_O, _E = capi_outbox.c, capi_event.c


def move(conn: Connection, verb: str, ids: Sequence[int], **changes: Any) -> None:
    """Move these events by one of MOVES, all of them or (Conflict) none.

    `changes` go to the ledger line; those that the outbox row has too go there as well.
    """
    if not ids:
        return
    in_outbox, in_ledger = _moving(conn.dialect.name, verb, frozenset(changes))
    values = {_NEW + name: value for name, value in changes.items()}
    for chunk in chunks(ids, CHUNK):
        named = values | {"ids": as_list(conn, chunk)}
        conn.execute(in_outbox, named)
        if conn.execute(in_ledger, named).rowcount != len(chunk):
            raise Conflict()


@cache
def _moving(dialect: str, verb: str, names: frozenset[str]) -> tuple[Delete | Update, Update]:
    """What moves the outbox rows and the ledger lines of `ids`, made once for each verb and each set of changes."""
    origins, state = MOVES[verb]
    ids = bindparam("ids", type_=Text)
    row, line = in_list(dialect, _O.id, ids), in_list(dialect, _E.id, ids)
    new: dict[str, Any] = {name: bindparam(_NEW + name) for name in names}
    if state in ("delivered", "skipped"):
        in_outbox: Delete | Update = delete(capi_outbox).where(row)
    else:
        own = {name: value for name, value in new.items() if name in _O}
        in_outbox = update(capi_outbox).where(row).values(state=state, **own)
    # No index on the state may serve this: it would read all that is due. The ids find the lines.
    origin = (_E.state + literal_column("''")).in_(origins)
    shared = {name: value for name, value in new.items() if name in _E}
    return in_outbox, update(capi_event).where(line, origin).values(state=state, **shared)


def fill(conn: Connection, event_id: int, payload: bytes, *, now: datetime) -> None:
    """An event that waited for its browser is complete and due."""
    row = update(capi_outbox).where(capi_outbox.c.id == event_id)
    conn.execute(row.values(payload=payload, next_attempt_at=now))


def refused(
    conn: Connection,
    ids: Sequence[int],
    *,
    failure: str,
    attempt_id: int | None,
    next_at: datetime | None,
    counted: int = 1,
    wears: int = 0,
) -> None:
    """These due events were refused and stay due, until `next_at` where there is one.

    `counted` tries more are shown, of which `wears` may end the event: they alone are counted in the outbox.
    """
    for chunk in chunks(ids, CHUNK):
        later = {"attempts": capi_outbox.c.attempts + wears} | ({"next_attempt_at": next_at} if next_at else {})
        conn.execute(update(capi_outbox).where(capi_outbox.c.id.in_(chunk)).values(**later))
        seen = {"attempts": capi_event.c.attempts + counted, "failure": failure, "attempt_id": attempt_id}
        conn.execute(update(capi_event).where(capi_event.c.id.in_(chunk)).values(**seen))


def postpone(conn: Connection, ids: Sequence[int], *, until: datetime, failure: str) -> None:
    """These due events wait for something else than their own trouble: no try is counted."""
    for chunk in chunks(ids, CHUNK):
        conn.execute(update(capi_outbox).where(capi_outbox.c.id.in_(chunk)).values(next_attempt_at=until))
        conn.execute(update(capi_event).where(capi_event.c.id.in_(chunk)).values(failure=failure))


def count_due(conn: Connection, *, now: datetime) -> int:
    """How many events are due, and wait for nothing of their own."""
    o = capi_outbox.c
    waiting = select(func.count()).select_from(capi_outbox).where(text("state = 'due'"), o.deadline_at > now)
    return conn.scalar(waiting.where(o.next_attempt_at <= now)) or 0


def has_due(conn: Connection, *, now: datetime) -> bool:
    """Whether any event is due now or later."""
    o = capi_outbox.c
    return conn.scalar(select(o.id).where(text("state = 'due'"), o.deadline_at > now).limit(1)) is not None


def reached(conn: Connection, pixel_id: str, fingerprint: str, *, now: datetime) -> int:
    """Meta lets this token use this pixel again: what waits for that is tried at once; how many."""
    o = capi_outbox.c
    waits = (o.pixel_id == pixel_id) & (o.parked_by == fingerprint) & (o.next_attempt_at > now)
    hurried = update(capi_outbox).where(text("state = 'parked'"), waits)
    return conn.execute(hurried.values(next_attempt_at=now)).rowcount


def parked_by(conn: Connection) -> list[tuple[str, str, datetime]]:
    """(App.id, fingerprint, when the first may be tried with it again) of every token that events wait for."""
    o = capi_outbox.c
    first = func.min(o.next_attempt_at).label("first")
    groups = select(o.app_id, o.parked_by, first).where(text("state = 'parked'")).group_by(o.app_id, o.parked_by)
    return [(row.app_id, row.parked_by or NO_TOKEN, row.first) for row in conn.execute(groups)]


def barred_until(conn: Connection, pixel_id: str, app_ids: Sequence[str], fingerprint: str) -> datetime | None:
    """Until when this token must not be tried on this pixel: events that it was refused for say so."""
    o = capi_outbox.c
    parked = select(o.next_attempt_at).where(text("state = 'parked'"), o.parked_by == fingerprint)
    last = parked.where(o.pixel_id == pixel_id).order_by(o.next_attempt_at.desc()).limit(1)
    found = [conn.scalar(last.where(o.app_id == app_id)) for app_id in app_ids]
    return max((moment for moment in found if moment is not None), default=None)


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


def redact(conn: Connection, ids: Sequence[int], *, due: bool) -> list[int]:
    """Empty these payloads for good and end their events; the ids of those that were.

    `due`: due events too, which the caller may say only while nobody sends for their pixel. Rows that another
    transaction moves at this moment are left: ask again.
    """
    o = capi_outbox.c
    states = ("due", "parked", "dead") if due else ("parked", "dead")
    mine = select(o.id, o.state).where(o.id.in_(ids), o.state.in_(states), o.payload != b"").order_by(o.id)
    rows = conn.execute(mine.with_for_update(skip_locked=True)).all()
    dead = [row.id for row in rows if row.state == "dead"]
    others = [row.id for row in rows if row.state != "dead"]
    with wiping(conn):
        move(conn, "bury", others, failure=REDACTED, payload=b"", parked_by=None)
        conn.execute(update(capi_outbox).where(o.id.in_(dead)).values(payload=b"", parked_by=None))
    conn.execute(update(capi_event).where(capi_event.c.id.in_(dead)).values(failure=REDACTED))
    return [row.id for row in rows]


def forget_orders(conn: Connection, ids: Sequence[int]) -> int:
    """These ledger lines no longer name their order; how many did (rows in another's hands are left: ask again)."""
    e = capi_event.c
    named = select(e.id).where(e.id.in_(ids), e.order_id.is_not(None)).with_for_update(skip_locked=True)
    mine = conn.scalars(named).all()
    return conn.execute(update(capi_event).where(e.id.in_(mine)).values(order_id=None)).rowcount


def expire(conn: Connection, *, now: datetime) -> int:
    """Bury what Meta would no longer take; returns how many (at most CHUNK)."""
    o, p = capi_outbox.c, capi_pixel.c
    in_flight = exists().where(p.pixel_id == o.pixel_id, p.lease_until > now)  # its answer decides, not we
    late = select(o.id).where(text("state != 'dead'"), o.deadline_at <= now, ~in_flight).limit(CHUNK)
    ids = conn.scalars(late).all()
    move(conn, "bury", ids, failure="past_deadline")
    return len(ids)
