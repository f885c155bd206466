"""The keeper of an event's other names: by them a browser's event and a webhook's are known to be the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select, tuple_

from core.store.database import chunks, insert_into
from core.store.schema import capi_alias

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Claim:
    """Who finds one of its `aliases` taken is a duplicate; `notes` are taken over from whoever had them."""

    event_id: int
    app_id: str
    event_name: str
    aliases: tuple[str, ...]
    notes: tuple[str, ...]


def claim(conn: Connection, claims: Sequence[Claim], *, now: datetime) -> set[int]:
    """Note these aliases; the ids of those events that somebody else has reported under one of them."""
    # Sorted: two endpoints that take the same events at once must meet in the same order.
    counting = _rows([(one, alias) for one in claims for alias in one.aliases], now)
    noted = _rows([(one, alias) for one in claims for alias in one.notes], now)
    a = capi_alias.c
    key = (a.app_id, a.event_name, a.alias)
    if noted:
        note = insert_into(conn, capi_alias)
        newest = {"event_id": note.excluded.event_id, "at": note.excluded.at}
        conn.execute(note.on_conflict_do_update(index_elements=list(key), set_=newest), noted)
    if not counting:
        return set()
    fresh = insert_into(conn, capi_alias).on_conflict_do_nothing().returning(*key, a.event_id)
    mine = {tuple(row) for row in conn.execute(fresh, counting)}
    return {row["event_id"] for row in counting if tuple(row.values())[:4] not in mine}


def _rows(claimed: Sequence[tuple[Claim, str]], now: datetime) -> list[dict[str, Any]]:
    rows = [
        {"app_id": one.app_id, "event_name": one.event_name, "alias": alias, "event_id": one.event_id, "at": now}
        for one, alias in claimed
    ]
    return sorted(rows, key=lambda row: tuple(map(str, row.values())))


def reporter(conn: Connection, app_id: str, event_name: str, alias: str) -> int | None:
    """The id of the event that reported this last, None when nobody did."""
    a = capi_alias.c
    its = select(a.event_id).where(a.app_id == app_id, a.event_name == event_name, a.alias == alias)
    return conn.scalar(its)


def give_back(conn: Connection, event_ids: Sequence[int]) -> None:
    """These events were not sent after all: another source may report them."""
    for chunk in chunks(event_ids, _CHUNK):
        conn.execute(delete(capi_alias).where(capi_alias.c.event_id.in_(chunk)))


def of_app(conn: Connection, app_id: str) -> list[tuple[str, str]]:
    """(event name, alias) of an app; at most a few thousand: ask again."""
    a = capi_alias.c
    rows = select(a.event_name, a.alias).where(a.app_id == app_id).order_by(a.event_name, a.alias).limit(_CHUNK * 10)
    return [(row.event_name, row.alias) for row in conn.execute(rows)]


def orders_of(conn: Connection, app_id: str, event_ids: Sequence[int], order_id: str | None) -> list[tuple[str, str]]:
    """(event name, alias) by which these events are known as an order, and every alias of `order_id` itself."""
    a = capi_alias.c
    theirs = select(a.event_name, a.alias).where(a.app_id == app_id, a.event_id.in_(event_ids))
    its = select(a.event_name, a.alias).where(a.app_id == app_id, a.alias == f"order:{order_id}")
    found = {tuple(row) for row in conn.execute(theirs.where(a.alias.startswith("order:")))}
    return sorted(found | ({tuple(row) for row in conn.execute(its)} if order_id else set()))


def forget(conn: Connection, app_id: str, names: Sequence[tuple[str, str]]) -> int:
    """Drop these aliases of an app; how many were there (rows in another's hands are left: ask again)."""
    a = capi_alias.c
    gone = 0
    for chunk in chunks(names, _CHUNK):
        there = select(a.event_name, a.alias).where(a.app_id == app_id, tuple_(a.event_name, a.alias).in_(chunk))
        mine = [tuple(row) for row in conn.execute(there.with_for_update(skip_locked=True))]
        conn.execute(delete(capi_alias).where(a.app_id == app_id, tuple_(a.event_name, a.alias).in_(mine)))
        gone += len(mine)
    return gone


def forget_old(conn: Connection, *, before: datetime) -> int:
    """Drop aliases noted before this moment; how many (bounded: ask again)."""
    a = capi_alias.c
    old = list(conn.execute(select(a.app_id, a.event_name, a.alias).where(a.at < before).limit(_CHUNK)))
    for row in old:
        conn.execute(delete(capi_alias).where(a.app_id == row[0], a.event_name == row[1], a.alias == row[2]))
    return len(old)
