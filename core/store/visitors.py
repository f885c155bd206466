"""The keeper of browsers that were seen, under the keys that a later webhook carries, and of events that wait for one.

Only what a browser is known by is kept, never who sat before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    delete,
    exists,
    literal,
    or_,
    select,
    tuple_,
)

from core.store.database import chunks
from core.store.many import Column, insert_many
from core.store.schema import capi_alias, capi_join, capi_outbox, capi_visitor

# A cart is soon another buyer's story; a checkout and a browser live longer.
TIME_TO_LIVE = {
    "order": timedelta(hours=24),
    "checkout": timedelta(hours=24),
    "cart": timedelta(hours=12),
    "fbp": timedelta(hours=24),
}
# Which key is believed first: the one closest to the purchase.
KINDS = ("order", "checkout", "cart", "fbp")
# The keys that a waiting event carries itself; what its order is called stands among its aliases.
_CARRIED = ("checkout", "cart", "fbp")
_ORDER = "order:"
_CHUNK = 500


class Visitor(NamedTuple):
    """One browser as a tracking call showed it, under one key. Consent: None where it was not said."""

    app_id: str
    kind: str
    key: str
    address: str | None = None
    user_agent: str | None = None
    fbp: str | None = None
    fbc: str | None = None
    page_url: str | None = None
    marketing: bool | None = None
    sale_of_data: bool | None = None


# What a browser is known by; nothing of it is kept of one that denies marketing.
MARKS = ("address", "user_agent", "fbp", "fbc", "page_url")

_SAID = {name: f"coalesce(excluded.{name}, capi_visitor.{name})" for name in ("marketing", "sale_of_data")}
_NEW = (
    _SAID
    | {name: f"CASE WHEN {_SAID['marketing']} IS FALSE THEN NULL ELSE excluded.{name} END" for name in MARKS}
    | {name: f"excluded.{name}" for name in ("seen_at", "expires_at")}
)
_REPLACED = f"""
    ON CONFLICT (app_id, kind, key) DO UPDATE SET {", ".join(f"{name} = {value}" for name, value in _NEW.items())}
"""


@dataclass(frozen=True, slots=True)
class Join:
    """The keys under which an event's browser may have been seen, and until when it waits for it."""

    until_at: datetime
    cart: str | None = None
    checkout: str | None = None
    fbp: str | None = None


def remember(conn: Connection, seen: Sequence[Visitor], *, now: datetime) -> None:
    """Write these browsers down; what was known under the same key before is replaced as a whole, but for consent: who
    says nothing leaves standing what was said before, and where that was a no, no mark of the browser is kept."""
    latest = {(one.app_id, one.kind, one.key): one for one in seen}
    if not latest:
        return
    # Two endpoints that see the same browsers at once meet them in the same order.
    browsers = [latest[key] for key in sorted(latest)]
    columns: dict[str, Column] = dict(zip(Visitor._fields, zip(*browsers, strict=True), strict=True))
    times = {"seen_at": [now] * len(browsers), "expires_at": [now + TIME_TO_LIVE[one.kind] for one in browsers]}
    insert_many(conn, capi_visitor, columns | times, then=_REPLACED)


def find(conn: Connection, app_id: str, join: Row[Any], *, now: datetime) -> list[Row[Any]]:
    """The browsers seen with a waiting event, the most trusted key first."""
    v, a = capi_visitor.c, capi_alias.c
    named = select(a.alias).where(a.event_id == join.event_id, a.alias.startswith(_ORDER))
    keys = [("order", alias.removeprefix(_ORDER)) for alias in conn.scalars(named)]
    keys += [(kind, key) for kind in _CARRIED if (key := getattr(join, kind))]
    rows = conn.execute(
        select(capi_visitor).where(v.app_id == app_id, v.expires_at > now, tuple_(v.kind, v.key).in_(keys))
    )
    return sorted(rows, key=lambda row: KINDS.index(row.kind))


def await_(conn: Connection, waiting: Sequence[tuple[int, str, Join]]) -> None:
    """Note events that wait for their browser."""
    rows = [
        {"event_id": id_, "app_id": app_id, **{name: getattr(join, name) for name in Join.__slots__}}
        for id_, app_id, join in waiting
    ]
    if rows:
        conn.execute(capi_join.insert(), rows)


def anybody_ready(conn: Connection, *, now: datetime) -> bool:
    """Whether `ready` would find any: a look that takes no write lock."""
    return conn.execute(_ready(now).limit(1)).first() is not None


def ready(conn: Connection, *, now: datetime) -> list[Row[Any]]:
    """Waiting events whose browser was seen or whose time is over, with their payload; at most a few hundred."""
    some = _ready(now).order_by(capi_join.c.event_id).limit(_CHUNK)
    return list(conn.execute(some.with_for_update(of=capi_outbox, skip_locked=True)))


def _ready(now: datetime) -> Select[Any]:
    j, o = capi_join.c, capi_outbox.c
    # In other words `state = 'due'`: said so, SQLite would go through all that is due to find the few that wait.
    due = o.state.not_in(("parked", "dead"))
    waiting = select(capi_join, o.payload, o.pixel_id).join(capi_outbox, (o.id == j.event_id) & due)
    return waiting.where(or_(j.until_at <= now, *_seen(now)))


def _seen(now: datetime) -> Iterator[ColumnElement[bool]]:
    """One question for each kind of key: an OR inside one would read every browser of the app on SQLite."""
    j, v, a = capi_join.c, capi_visitor.c, capi_alias.c
    theirs = (v.app_id == j.app_id) & (v.expires_at > now)
    for kind in _CARRIED:
        yield exists().where(theirs, v.kind == kind, v.key == j[kind])
    named = (a.event_id == j.event_id) & (a.alias == literal(_ORDER) + v.key)
    yield exists().where(theirs, v.kind == "order", exists().where(named))


def done(conn: Connection, event_ids: Sequence[int]) -> None:
    """These wait no longer."""
    for chunk in chunks(event_ids, _CHUNK):
        conn.execute(delete(capi_join).where(capi_join.c.event_id.in_(chunk)))


def of_app(conn: Connection, app_id: str) -> list[tuple[str, str]]:
    """(kind, key) of browsers seen for an app; at most a few thousand: ask again."""
    v = capi_visitor.c
    rows = select(v.kind, v.key).where(v.app_id == app_id).order_by(v.kind, v.key).limit(_CHUNK * 10)
    return [(row.kind, row.key) for row in conn.execute(rows)]


def under(conn: Connection, app_id: str, keys: Iterable[tuple[str, str]]) -> list[Row[Any]]:
    """The browsers of an app that are stored under these keys."""
    v = capi_visitor.c
    found: list[Row[Any]] = []
    for chunk in chunks(sorted(keys), _CHUNK):
        found += conn.execute(select(capi_visitor).where(v.app_id == app_id, tuple_(v.kind, v.key).in_(chunk)))
    return found


def forget(conn: Connection, app_id: str, keys: Iterable[tuple[str, str]]) -> int:
    """Drop these browsers of an app; how many were there (rows in another's hands are left: ask again)."""
    v = capi_visitor.c
    gone = 0
    for chunk in chunks(sorted(keys), _CHUNK):
        there = select(v.kind, v.key).where(v.app_id == app_id, tuple_(v.kind, v.key).in_(chunk))
        mine = [tuple(row) for row in conn.execute(there.with_for_update(skip_locked=True))]
        conn.execute(delete(capi_visitor).where(v.app_id == app_id, tuple_(v.kind, v.key).in_(mine)))
        gone += len(mine)
    return gone


def let_go(conn: Connection, event_ids: Sequence[int]) -> int:
    """These wait no longer; how many did (rows in another's hands are left: ask again)."""
    j = capi_join.c
    mine = conn.scalars(select(j.event_id).where(j.event_id.in_(event_ids)).with_for_update(skip_locked=True)).all()
    done(conn, mine)
    return len(mine)


def forget_old(conn: Connection, *, now: datetime) -> int:
    """Drop browsers whose time is over, and waits whose event is gone; how many browsers (bounded: ask again)."""
    v = capi_visitor.c
    keys = (v.app_id, v.kind, v.key)
    old = list(conn.execute(select(*keys).where(v.expires_at <= now).order_by(*keys).limit(_CHUNK)))
    for row in old:
        conn.execute(delete(capi_visitor).where(v.app_id == row[0], v.kind == row[1], v.key == row[2]))
    gone = ~exists().where(capi_outbox.c.id == capi_join.c.event_id, capi_outbox.c.state == "due")
    conn.execute(delete(capi_join).where(gone))
    return len(old)
