"""The keeper of an event's other names: by them a browser's event and a webhook's are known to be the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, select, tuple_, update

from core.store.database import chunks, insert_into
from core.store.schema import capi_alias

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Claim:
    """Who finds one of its `aliases` taken is a duplicate, unless it was taken before `since`, when what the event
    tells of had not happened yet. `notes` are only left behind, taken over from whoever had them."""

    event_id: int
    app_id: str
    event_name: str
    aliases: tuple[str, ...]
    notes: tuple[str, ...]
    since: datetime | None = None

    def key(self, alias: str) -> Key:
        return self.app_id, self.event_name, alias


Key = tuple[str, str, str]
_PARTS = ("app_id", "event_name", "alias")
_THE_ONE = and_(*(capi_alias.c[part] == bindparam(f"its_{part}") for part in _PARTS))


def _named(key: Key) -> dict[str, Any]:
    return {f"its_{part}": value for part, value in zip(_PARTS, key, strict=True)}


@dataclass(frozen=True, slots=True)
class Claimed:
    """`told`: event → the event that has reported the same already. `fresh`: aliases that were nobody's before."""

    told: dict[int, int]
    fresh: dict[Key, int]


def claim(conn: Connection, claims: Sequence[Claim], *, now: datetime) -> Claimed:
    """Take these aliases, or find out who has them; every row stays locked until the transaction ends."""
    wanted: dict[Key, int] = {}
    for one in claims:
        for alias in (*one.aliases, *one.notes):
            wanted.setdefault(one.key(alias), one.event_id)
    if not wanted:
        return Claimed({}, {})
    # Sorted, and all in one statement: whoever claims the same at once meets the others in the same order.
    rows = [
        {"app_id": key[0], "event_name": key[1], "alias": key[2], "event_id": id_, "at": now}
        for key, id_ in sorted(wanted.items())
    ]
    a = capi_alias.c
    taking = insert_into(conn, capi_alias)
    held = taking.on_conflict_do_update(index_elements=["app_id", "event_name", "alias"], set_={"alias": a.alias})
    answer = conn.execute(held.returning(a.app_id, a.event_name, a.alias, a.event_id, a.at), rows)
    owners = {(row.app_id, row.event_name, row.alias): (row.event_id, row.at) for row in answer}
    told = {one.event_id: owner for one in claims if (owner := _owner(one, owners)) is not None}
    return Claimed(told, {key: id_ for key, id_ in wanted.items() if owners[key][0] == id_})


def _owner(one: Claim, owners: dict[Key, tuple[int, datetime]]) -> int | None:
    for alias in one.aliases:
        id_, at = owners[one.key(alias)]
        if id_ != one.event_id and (one.since is None or at >= one.since):
            return id_
    return None


def settle(conn: Connection, claims: Sequence[Claim], claimed: Claimed, new: Collection[int], *, now: datetime) -> None:
    """After the events were written, say whose each alias is: of one that was told already the one's who told it, of
    one that is new its own; what else was fresh is nobody's again."""
    owner: dict[Key, int] = {}
    for one in claims:
        teller = claimed.told.get(one.event_id) if one.event_id not in new else None
        mine = {one.key(alias) for alias in one.aliases}
        if one.event_id in new:
            owner |= dict.fromkeys({*mine, *(one.key(note) for note in one.notes)}, one.event_id)
        elif teller is not None:
            owner |= {key: teller for key in mine if claimed.fresh.get(key) == one.event_id}
    changed = {key: id_ for key, id_ in owner.items() if claimed.fresh.get(key) != id_}
    taken_over = [_named(key) | {"event_id": changed[key], "at": now} for key in sorted(changed)]
    nobodys = [_named(key) for key in sorted(claimed.fresh) if key not in owner]
    if taken_over:
        conn.execute(update(capi_alias).where(_THE_ONE), taken_over)
    if nobodys:
        conn.execute(delete(capi_alias).where(_THE_ONE), nobodys)


def reporter(conn: Connection, app_id: str, event_name: str, alias: str, *, since: datetime) -> int | None:
    """The id of the event that reported this last, None when nobody did since."""
    a = capi_alias.c
    its = select(a.event_id).where(a.app_id == app_id, a.event_name == event_name, a.alias == alias)
    return conn.scalar(its.where(a.at >= since))


def give_back(conn: Connection, event_ids: Sequence[int]) -> None:
    """These events were not sent after all: another source may report them."""
    a = capi_alias.c
    for chunk in chunks(event_ids, _CHUNK):
        theirs = select(a.app_id, a.event_name, a.alias).where(a.event_id.in_(chunk))
        # Locked in the order in which `claim` locks them, then dropped.
        conn.execute(theirs.order_by(a.app_id, a.event_name, a.alias).with_for_update()).all()
        conn.execute(delete(capi_alias).where(a.event_id.in_(chunk)))


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
    key = (a.app_id, a.event_name, a.alias)
    old = list(conn.execute(select(*key).where(a.at < before).order_by(*key).limit(_CHUNK)))
    for row in old:
        conn.execute(delete(capi_alias).where(a.app_id == row[0], a.event_name == row[1], a.alias == row[2]))
    return len(old)
