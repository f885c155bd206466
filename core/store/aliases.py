"""The keeper of an event's other names: by them a browser's event and a webhook's are known to be the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from core.store.database import chunks, insert_into
from core.store.schema import capi_alias

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Claim:
    """`counts`: who claims a taken alias is a duplicate. Otherwise it takes the alias over and is none."""

    event_id: int
    app_id: str
    event_name: str
    aliases: tuple[str, ...]
    counts: bool


def claim(conn: Connection, claims: Sequence[Claim], *, now: datetime) -> set[int]:
    """Note these aliases; the ids of those events that somebody else has reported under one of them."""
    # Sorted: two endpoints that take the same events at once must meet in the same order.
    counting, noted = _rows(claims, now, counts=True), _rows(claims, now, counts=False)
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


def _rows(claims: Sequence[Claim], now: datetime, *, counts: bool) -> list[dict[str, Any]]:
    rows = [
        {"app_id": one.app_id, "event_name": one.event_name, "alias": alias, "event_id": one.event_id, "at": now}
        for one in claims
        if one.counts is counts
        for alias in one.aliases
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


def forget_old(conn: Connection, *, before: datetime) -> int:
    """Drop aliases noted before this moment; how many (bounded: ask again)."""
    a = capi_alias.c
    old = list(conn.execute(select(a.app_id, a.event_name, a.alias).where(a.at < before).limit(_CHUNK)))
    for row in old:
        conn.execute(delete(capi_alias).where(a.app_id == row[0], a.event_name == row[1], a.alias == row[2]))
    return len(old)
