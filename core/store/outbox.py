"""The keeper of events: the ledger line in `capi_event` and, while it is not delivered, its payload in `capi_outbox`.

    due ──deliver──► delivered        due ──park──► parked ──release──► due
    due, parked ──bury──► dead ──retry──► due        due ──skip──► skipped (or skipped from the start)

An event that a worker is sending is still `due`: what says "sending" is its pixel's lease (`core.store.pixels`), so
that handing out work costs one small row, not one write per event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, func, select, text, true, update

from core.errors import Conflict
from core.store.database import among, chunks
from core.store.schema import capi_event, capi_outbox, capi_pixel
from core.store.types import Moment
from core.store.wake import Work, wake

if TYPE_CHECKING:
    from psycopg import Connection as PsycopgConnection

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


class Payload(NamedTuple):
    """One due event, ready to be sent."""

    id: int
    app_id: str
    attempts: int
    after_refresh: bool
    body: bytes


# The literal states let both databases use the partial indexes; one step of the recursion is one index probe,
# so the cost follows the number of pixels and not the number of events.
_DUE_PIXELS = text("""
    WITH RECURSIVE pixel(id) AS (
        SELECT min(pixel_id) FROM capi_outbox WHERE state = 'due'
        UNION ALL
        SELECT (SELECT min(pixel_id) FROM capi_outbox WHERE state = 'due' AND pixel_id > pixel.id)
        FROM pixel WHERE pixel.id IS NOT NULL
    )
    SELECT id FROM (
        SELECT pixel.id AS id,
               (SELECT o.deadline_at FROM capi_outbox o
                WHERE o.state = 'due' AND o.pixel_id = pixel.id AND o.next_attempt_at <= :now AND o.deadline_at > :now
                ORDER BY o.deadline_at LIMIT 1) AS ends
        FROM pixel LEFT JOIN capi_pixel p ON p.pixel_id = pixel.id
        WHERE pixel.id IS NOT NULL
          AND (p.wait_until IS NULL OR p.wait_until <= :now)
          AND (p.lease_until IS NULL OR p.lease_until <= :now)
    ) AS waiting
    WHERE ends IS NOT NULL ORDER BY ends, id
""").bindparams(bindparam("now", type_=Moment()))


# The same as `_due`. As text PostgreSQL would write bytes out in hexadecimal digits, and read in the driver's own rows:
# a thousand payloads are read eight times as fast.
_TAKE = """
    SELECT id, app_id, attempts, after_refresh, payload FROM capi_outbox
    WHERE state = 'due' AND pixel_id = %(pixel)s AND next_attempt_at <= %(now)s AND deadline_at > %(now)s
    AND (%(apps)s::text[] IS NULL OR app_id = ANY(%(apps)s::text[]))
    ORDER BY deadline_at, id LIMIT %(count)s
"""


def due_pixels(conn: Connection, *, now: datetime) -> list[str]:
    """Pixels with work that nobody holds and nothing holds back, earliest deadline first: each has its turn."""
    return list(conn.scalars(_DUE_PIXELS, {"now": now}))


def is_due(pixel_id: str, *, now: datetime) -> ColumnElement[bool]:
    """That anything of this pixel may go now, as a condition."""
    due: ColumnElement[bool] = _due(pixel_id, now).with_only_columns(capi_outbox.c.id).exists()
    return due


def take(
    conn: Connection, pixel_id: str, app_ids: Sequence[str] | None = None, *, now: datetime, count: int, size: int
) -> list[Payload]:
    """At most `count` due events (of these apps), `size` bytes in all (one at least), earliest deadline first."""
    taken: list[Payload] = []
    room = size
    for row in _rows(conn, pixel_id, app_ids, now, count):
        payload = Payload._make(row)
        room -= len(payload.body) + 1
        if room < 0 and taken:
            break
        taken.append(payload)
    return taken


def _rows(
    conn: Connection, pixel_id: str, app_ids: Sequence[str] | None, now: datetime, count: int
) -> Iterable[Sequence[Any]]:
    if conn.dialect.name == "postgresql":
        cursor = cast("PsycopgConnection", conn.connection.driver_connection).cursor(binary=True)
        apps = list(app_ids) if app_ids is not None else None
        return cursor.execute(_TAKE, {"pixel": pixel_id, "apps": apps, "now": now, "count": count}).fetchall()
    mine = true() if app_ids is None else capi_outbox.c.app_id.in_(app_ids)
    return conn.execute(_due(pixel_id, now).where(mine).limit(count)).all()


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
        mine = among(conn, capi_outbox.c.id, chunk)
        if state in ("delivered", "skipped"):
            conn.execute(delete(capi_outbox).where(mine))
        else:
            own = {k: v for k, v in changes.items() if k in capi_outbox.c}
            conn.execute(update(capi_outbox).where(mine).values(state=state, **own))
        where = among(conn, capi_event.c.id, chunk) & capi_event.c.state.in_(origins)
        shared = {k: v for k, v in changes.items() if k in capi_event.c}
        if conn.execute(update(capi_event).where(where).values(state=state, **shared)).rowcount != len(chunk):
            raise Conflict()


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
    move(conn, "bury", [row.id for row in rows if row.state != "dead"], failure=REDACTED, payload=b"", parked_by=None)
    dead = [row.id for row in rows if row.state == "dead"]
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
