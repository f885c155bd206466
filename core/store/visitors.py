"""The keeper of browsers that were seen, under the keys that a later webhook carries, and of events that wait for one.

Only what a browser is known by is kept, never who sat before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, or_, select, tuple_

from core.store.database import chunks, insert_into
from core.store.schema import capi_join, capi_outbox, capi_visitor

# A cart is soon another buyer's story; a checkout and a browser live longer.
TIME_TO_LIVE = {"cart": timedelta(hours=12), "checkout": timedelta(hours=24), "fbp": timedelta(hours=24)}
# Which key is believed first: the one closest to the purchase.
KINDS = ("checkout", "cart", "fbp")
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Visitor:
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


@dataclass(frozen=True, slots=True)
class Join:
    """The keys under which an event's browser may have been seen, and until when it waits for it."""

    until_at: datetime
    cart: str | None = None
    checkout: str | None = None
    fbp: str | None = None


def remember(conn: Connection, seen: Sequence[Visitor], *, now: datetime) -> None:
    """Write these browsers down; what was known under the same key before is replaced as a whole."""
    latest = {(one.app_id, one.kind, one.key): one for one in seen}
    if not latest:
        return
    rows = [
        {field: getattr(one, field) for field in Visitor.__slots__}
        | {"seen_at": now, "expires_at": now + TIME_TO_LIVE[one.kind]}
        for _, one in sorted(latest.items())
    ]
    new = insert_into(conn, capi_visitor)
    key = ("app_id", "kind", "key")
    values = {name: new.excluded[name] for name in rows[0] if name not in key}
    conn.execute(new.on_conflict_do_update(index_elements=list(key), set_=values), rows)


def find(conn: Connection, app_id: str, join: Join | Row[Any], *, now: datetime) -> list[Row[Any]]:
    """The browsers seen under these keys, the most trusted key first."""
    v = capi_visitor.c
    keys = {kind: getattr(join, kind) for kind in KINDS if getattr(join, kind)}
    if not keys:
        return []
    under = or_(*(and_(v.kind == kind, v.key == key) for kind, key in keys.items()))
    rows = conn.execute(select(capi_visitor).where(v.app_id == app_id, v.expires_at > now, under))
    return sorted(rows, key=lambda row: KINDS.index(row.kind))


def await_(conn: Connection, waiting: Sequence[tuple[int, str, Join]]) -> None:
    """Note events that wait for their browser."""
    rows = [
        {"event_id": id_, "app_id": app_id, **{name: getattr(join, name) for name in Join.__slots__}}
        for id_, app_id, join in waiting
    ]
    if rows:
        conn.execute(capi_join.insert(), rows)


def anybody_waits(conn: Connection) -> bool:
    """Whether any event waits: a look that takes no write lock."""
    return conn.execute(select(capi_join.c.event_id).limit(1)).first() is not None


def ready(conn: Connection, *, now: datetime) -> list[Row[Any]]:
    """Waiting events whose browser was seen or whose time is over, with their payload; at most a few hundred."""
    j = capi_join.c
    wanted = (
        select(capi_join, capi_outbox.c.payload, capi_outbox.c.pixel_id)
        .join(capi_outbox, (capi_outbox.c.id == j.event_id) & (capi_outbox.c.state == "due"))
        .where(or_(j.until_at <= now, _seen(now)))
        .order_by(j.event_id)
        .limit(_CHUNK)
        .with_for_update(of=capi_outbox, skip_locked=True)
    )
    return list(conn.execute(wanted))


def _seen(now: datetime) -> ColumnElement[bool]:
    j, v = capi_join.c, capi_visitor.c
    under = or_(*(and_(v.kind == kind, v.key == j[kind]) for kind in KINDS))
    return exists().where(v.app_id == j.app_id, v.expires_at > now, under)


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
    old = list(conn.execute(select(v.app_id, v.kind, v.key).where(v.expires_at <= now).limit(_CHUNK)))
    for row in old:
        conn.execute(delete(capi_visitor).where(v.app_id == row[0], v.kind == row[1], v.key == row[2]))
    gone = ~exists().where(capi_outbox.c.id == capi_join.c.event_id, capi_outbox.c.state == "due")
    conn.execute(delete(capi_join).where(gone))
    return len(old)
