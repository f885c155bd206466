"""Tokens at rest as a whole: which keys a database needs, and bringing every token to one key.

Where encryption comes from: CAPI_ENCRYPTION_KEYS for any database; without it a key file beside a SQLite database that
we made ourselves. Any other database stays readable to the platform.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, Engine

from core import failpoints
from core.errors import SettingsError
from core.secret import Secret
from core.store import key_ids, keyring, platform, sealing, token_column
from core.store.database import insist, is_embedded, reading
from core.store.keyring import Keyring
from core.store.sealing import Stored, Unreadable
from core.store.wiping import wiping

# Rows in one transaction: bounded, so that nobody waits long for SQLite's only writer.
ROWS_AT_ONCE = 200
_LOOKED_AT_ONCE = 5_000


def use(engine: Engine, given: Sequence[Secret] = ()) -> Keyring:
    """Open this database with these keys and those of its key file, which is made where there should be one.

    SettingsError when a stored token needs a key of ours that is in neither place: nothing is changed then.
    """
    ring = take_up(engine, given)
    with reading(engine) as conn:
        needed, known = token_column.named_keys(conn), key_ids.every(conn)
    awaited = {key_id: n for key_id, n in needed.items() if known.get(key_id) is False}
    if missing := {key_id: n for key_id, n in awaited.items() if ring.find(key_id) is None}:
        raise SettingsError(_missing(missing, ring))
    file = keyring.file_of(engine)
    if not ring and file is not None and _is_ours(engine):
        keyring.make_file(file)
        ring = take_up(engine, given)
    if ring.newest is not None and known.get(ring.newest.id) is not False:
        insist(engine, partial(key_ids.note, key_id=ring.newest.id))
    return ring


def take_up(engine: Engine, given: Sequence[Secret]) -> Keyring:
    """Open this database with the keys there are, whether or not they are enough."""
    ring = Keyring(given, keyring.file_of(engine))
    keyring.put(engine, ring)
    return ring


def _is_ours(engine: Engine) -> bool:
    with reading(engine) as conn:
        return platform.made_by_us(conn)


def _missing(missing: dict[str, int], ring: Keyring) -> str:
    named = " and ".join(f"{key_id} (tokens: {count})" for key_id, count in sorted(missing.items()))
    lost = " ".join(sorted(missing))
    return (
        f"stored tokens are encrypted with a key that is not here: {named}. It was looked for in {ring.places}. "
        f"Put it back and start again; nothing was changed. If it is lost for good, `capi-console keys abandon {lost}` "
        "gives these tokens up, and their owners connect again"
    )


@dataclass(frozen=True, slots=True)
class Census:
    """How many stored tokens open with which key, lack theirs, stand in the clear, or open with none."""

    by_key: Counter[str]
    missing: Counter[str]
    plain: int
    damaged: int
    given_up: int

    @property
    def unreadable(self) -> int:
        return self.missing.total() + self.damaged + self.given_up


def census(conn: Connection) -> Census:
    """Looks at every stored token; some 50,000 a second."""
    found: Counter[tuple[str | None, Unreadable | None]] = Counter()
    ring, known = keyring.of(conn), key_ids.every(conn)
    for app_id, text in _every(conn):
        one = sealing.unseal(text, app_id, ring)
        found[one.key_id, one.why] += 1
    locked = {key_id: n for (key_id, why), n in found.items() if key_id and why is Unreadable.LOCKED}
    return Census(
        by_key=Counter({key_id: n for (key_id, why), n in found.items() if key_id and why is None}),
        missing=Counter({key_id: n for key_id, n in locked.items() if known.get(key_id) is False}),
        plain=found[None, None],
        damaged=sum(n for (_, why), n in found.items() if why is Unreadable.DAMAGED)
        + sum(n for key_id, n in locked.items() if key_id not in known),
        given_up=sum(n for key_id, n in locked.items() if known.get(key_id)),
    )


def stored(conn: Connection) -> int:
    """How many apps hold something."""
    return token_column.count(conn)


def _every(conn: Connection) -> Iterator[tuple[str, Stored]]:
    last: str | None = ""
    while last is not None:
        rows = token_column.after(conn, last, limit=_LOOKED_AT_ONCE)
        yield from rows
        last = rows[-1][0] if rows else None


def rewrite(
    engine: Engine, change: Callable[[str, Stored], Stored | None], *, tell: Callable[[int], None] = lambda _: None
) -> int:
    """Store another form of every token for which `change` gives one, in short transactions; how many.

    Ended at any moment, it may be begun again: what is done shows in the rows. A row that somebody writes to
    meanwhile keeps what they wrote. `tell` hears after each transaction how many rows were looked at.
    """
    changed = looked_at = 0
    last = ""
    while True:
        seen, more = insist(engine, partial(_rewrite_some, change, last))
        if not seen:
            _truncate_log(engine)
            return changed
        last, looked_at, changed = seen[-1], looked_at + len(seen), changed + more
        tell(looked_at)
        failpoints.hit("rekey.mid_way")


def _rewrite_some(change: Callable[[str, Stored], Stored | None], last: str, conn: Connection) -> tuple[list[str], int]:
    """The ids of the next rows, and how many of them were changed."""
    rows = token_column.after(conn, last, limit=ROWS_AT_ONCE)
    new = [(app_id, stored, change(app_id, stored)) for app_id, stored in rows]
    with wiping(conn):
        changed = sum(token_column.swap(conn, app_id, old, form) for app_id, old, form in new if form)
        failpoints.hit("rekey.before_commit")
    return [app_id for app_id, _ in rows], changed


def to_newest(engine: Engine) -> Callable[[str, Stored], Stored | None]:
    """The change that brings a token to the newest key."""
    ring = keyring.of(engine)
    newest = ring.newest
    assert newest is not None

    def change(app_id: str, stored: Stored) -> Stored | None:
        found = sealing.unseal(stored, app_id, ring)
        if found.token is None or found.key_id == newest.id:
            return None
        return sealing.seal(found.token, app_id, ring)

    return change


def to_plain(engine: Engine) -> Callable[[str, Stored], Stored | None]:
    """The change that lets the platform read its tokens again."""
    ring = keyring.of(engine)

    def change(app_id: str, stored: Stored) -> Stored | None:
        found = sealing.unseal(stored, app_id, ring)
        return Stored(found.token) if found.token is not None and found.key_id is not None else None

    return change


def _truncate_log(engine: Engine) -> None:
    """SQLite's write-ahead log keeps pages as they were before; where somebody reads meanwhile it is left to SQLite."""
    if is_embedded(engine):
        with engine.connect() as conn, contextlib.closing(conn.connection.cursor()) as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
