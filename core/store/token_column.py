"""The keeper of the two columns that we write in the platform's AppSettings: an app's token, and when it ends.

Every row is read and written through the keys of its database (`core.store.keyring`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Text, func, select, type_coerce, update

from core.errors import NotFound
from core.secret import Secret
from core.store import key_ids, keyring, sealing
from core.store.keyring import ID_LENGTH
from core.store.platform_tables import app_settings
from core.store.sealing import PREFIX, SHORTEST, Stored, Unreadable
from core.store.wiping import wiping

_TOKEN = app_settings.c.metaAccessToken


@dataclass(frozen=True, slots=True)
class Held:
    """What an app holds: a token, or something that cannot be opened, which has a fingerprint all the same."""

    fingerprint: str
    token: Secret | None
    unreadable: Unreadable | None = None


class Opener:
    """Tells what rows hold; one for each look at them, in one transaction."""

    def __init__(self, conn: Connection) -> None:
        self._conn, self._ring = conn, keyring.of(conn)

    @cached_property
    def _known(self) -> dict[str, bool]:
        return key_ids.every(self._conn)

    def __call__(self, stored: Stored | None, app_id: str, *, seen: str | None) -> Held | None:
        """What this text is worth in this app's row. `seen` is the fingerprint that was last seen there.

        What is locked or was given up keeps the name that it had when it could be opened: several apps may share it.
        """
        if stored is None:
            return None
        found = sealing.unseal(stored, app_id, self._ring)
        if found.token is not None:
            return Held(found.token.fingerprint, found.token)
        given_up = self._known.get(found.key_id or "") if found.why is Unreadable.LOCKED else None
        name = seen if given_up is not None and seen else stored.text.fingerprint
        return Held(name, None, Unreadable.LOCKED if given_up is False else Unreadable.DAMAGED)


def current(conn: Connection, app_id: str, *, seen: str | None) -> tuple[Stored | None, Held | None]:
    """The row as it stands and what it is worth, locked until the transaction ends."""
    # FOR UPDATE is left out by SQLite's compiler, where the transaction already holds the write lock.
    stored = conn.scalar(select(_TOKEN).where(app_settings.c.appId == app_id).with_for_update())
    return stored, Opener(conn)(stored, app_id, seen=seen)


def write(conn: Connection, app_id: str, token: Secret, *, expires_at: datetime | None) -> None:
    """Store a token, encrypted where encryption is on; NotFound when the app has no settings."""
    sealed = sealing.seal(token, app_id, keyring.of(conn))
    if _update(conn, app_id, metaAccessToken=sealed, metaTokenExpiresAt=expires_at) != 1:
        raise NotFound(f"app {app_id} has no settings row")


def write_end(conn: Connection, app_id: str, stored: Stored, token: Secret, *, expires_at: datetime | None) -> None:
    """Store when a token ends; one that stood there in the clear is encrypted by the way."""
    values: dict[str, Any] = {"metaTokenExpiresAt": expires_at}
    if stored.text == token and keyring.of(conn):
        values["metaAccessToken"] = sealing.seal(token, app_id, keyring.of(conn))
    _update(conn, app_id, **values)


def _update(conn: Connection, app_id: str, **values: Any) -> int:
    with wiping(conn):
        return conn.execute(update(app_settings).where(app_settings.c.appId == app_id).values(**values)).rowcount


def swap(conn: Connection, app_id: str, old: Stored, new: Stored) -> bool:
    """Store another form of the same token; False when somebody has written to the row meanwhile."""
    same = (app_settings.c.appId == app_id) & (old == _TOKEN)
    return conn.execute(update(app_settings).where(same).values(metaAccessToken=new)).rowcount == 1


def after(conn: Connection, app_id: str, *, limit: int) -> Sequence[tuple[str, Stored]]:
    """The next rows that hold anything, in the order of their app's id."""
    rows = select(app_settings.c.appId, _TOKEN).where(_TOKEN.is_not(None), app_settings.c.appId > app_id)
    found = conn.execute(rows.order_by(app_settings.c.appId).limit(limit)).all()
    return [(row[0], row[1]) for row in found]


def count(conn: Connection) -> int:
    """How many rows hold anything."""
    return int(conn.execute(select(func.count()).where(_TOKEN.is_not(None))).scalar_one())


def named_keys(conn: Connection) -> Counter[str]:
    """How many rows name which key, by its id; whether we ever had such a key is another matter."""
    text = type_coerce(_TOKEN, Text)
    head = func.substr(text, 1, len(PREFIX) + ID_LENGTH + 1)
    whole = (func.substr(text, 1, len(PREFIX)) == PREFIX) & (func.length(text) >= SHORTEST)
    found = conn.execute(select(head, func.count()).where(whole).group_by(head)).all()
    named = {row[0].removeprefix(PREFIX).removesuffix("."): row[1] for row in found if row[0].endswith(".")}
    return Counter({key_id: count for key_id, count in named.items() if keyring.ID.fullmatch(key_id)})
