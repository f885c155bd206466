"""Keys of tokens at rest: what a person may see of them, and the orders that bring every token to another key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from core.desk.operators import Operator
from core.errors import Refused
from core.store import audit, key_ids, keyring, rekey
from core.store.database import reading, writing
from core.store.keyring import SETTING
from core.store.rekey import Census

MISSING, CLEAR, DAMAGED, GIVEN_UP = "missing", "in the clear", "damaged", "given up"


@dataclass(frozen=True, slots=True)
class KeyRow:
    """How many stored tokens need this key. `key` is empty for those that are in the clear, damaged or given up."""

    key: str
    state: str
    tokens: int
    source: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What a rotation came to: to which key (None: plain text), how many tokens, how many cannot be opened."""

    key: str | None
    tokens: int
    unreadable: int


def make_key() -> str:
    """A new key in the clear, for its only showing. Nothing is stored."""
    return keyring.new_key()


def encryption_state(conn: Connection) -> str:
    """Whether tokens are encrypted at rest, and where the keys come from, in words."""
    return keyring.of(conn).state


def key_rows(conn: Connection) -> list[KeyRow]:
    """Every key, newest first, then keys that stored tokens need and that are not here, then tokens without one."""
    ring, found = keyring.of(conn), rekey.census(conn)
    rows = [
        KeyRow(key.id, "newest" if key is ring.newest else "older", found.by_key[key.id], key.source, key.fingerprint)
        for key in ring
    ]
    rows += [KeyRow(key_id, MISSING, count, "", "") for key_id, count in sorted(found.missing.items())]
    without = {CLEAR: found.plain, DAMAGED: found.damaged, GIVEN_UP: found.given_up}
    return rows + [KeyRow("", state, count, "", "") for state, count in without.items() if count]


def rotate(
    engine: Engine,
    *,
    by: Operator,
    now: datetime,
    new_key: bool = False,
    reason: str | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> Rewritten:
    """Encrypt every token with the newest key; may be ended at any moment and begun again.

    `new_key` puts one before the others in the key file first. Refused where encryption is off. `tell` hears how many
    rows were looked at.
    """
    by.must("rotate_keys")
    if new_key:
        _new_key(engine)
    newest = keyring.of(engine).newest
    if newest is None:
        raise Refused(f"encryption is off: put a key into {SETTING} first (`capi-console keys make` prints one)")
    with reading(engine) as conn:
        found = rekey.census(conn)
    _audit(engine, f"to key {newest.id}", _not_with(newest.id, found), by=by, reason=reason, now=now)
    changed = rekey.rewrite(engine, rekey.to_newest(engine), tell=tell)
    return Rewritten(newest.id, changed, found.unreadable)


def to_plain(
    engine: Engine,
    *,
    by: Operator,
    now: datetime,
    reason: str | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> Rewritten:
    """Store every token in the clear again, for a platform that reads them itself; Refused with a key file."""
    by.must("rotate_keys")
    if any(key.source != SETTING for key in keyring.of(engine)):
        raise Refused("this database has a key file: nobody else reads it, and its tokens stay encrypted")
    with reading(engine) as conn:
        found = rekey.census(conn)
    _audit(engine, "to plain text", _not_with(None, found), by=by, reason=reason, now=now)
    changed = rekey.rewrite(engine, rekey.to_plain(engine), tell=tell)
    return Rewritten(None, changed, found.unreadable)


def abandon(engine: Engine, lost: Sequence[str], *, by: Operator, now: datetime, reason: str | None = None) -> int:
    """Give up keys that are lost, so that their tokens no longer stand in the way of a start; how many tokens.

    The tokens stay as they are; their owners connect again. A key that turns up after all opens them still.
    """
    by.must("rotate_keys")
    ring = keyring.of(engine)
    if here := [key_id for key_id in lost if ring.find(key_id)]:
        raise Refused(f"the key {here[0]} is not lost: it is in {ring.places}")
    with reading(engine) as conn:
        found = rekey.census(conn)
    if unknown := [key_id for key_id in lost if not found.missing[key_id]]:
        raise Refused(f"no stored token is encrypted with the key {unknown[0]}: `capi-console keys list` tells")
    for key_id in lost:
        _audit(engine, f"gave up key {key_id}", found.missing[key_id], by=by, reason=reason, now=now)
    with writing(engine) as conn:
        key_ids.give_up(conn, lost)
    return sum(found.missing[key_id] for key_id in set(lost))


def _new_key(engine: Engine) -> None:
    ring = keyring.of(engine)
    if ring.file is None or not ring.file.is_file() or any(key.source == SETTING for key in ring):
        raise Refused(f"the keys of this database come from {SETTING}: put a new one before the others there")
    with writing(engine) as conn:  # SQLite's only writer: nobody else puts a key into the file now, nor uses it yet
        keyring.add_to_file(ring.file)
        if ring.newest is not None:
            key_ids.note(conn, ring.newest.id)


def _not_with(key_id: str | None, found: Census) -> int:
    """Tokens that a rotation to this key will write."""
    return found.by_key.total() + found.plain - (found.plain if key_id is None else found.by_key[key_id])


def _audit(engine: Engine, subject: str, count: int, *, by: Operator, reason: str | None, now: datetime) -> None:
    """Before the work: what was ordered is on record even when it is cut short. Nothing to do is no line."""
    if count > 0:
        with writing(engine) as conn:
            audit.write(conn, by=by.name, action="rotate_keys", subject=subject, count=count, reason=reason, now=now)
