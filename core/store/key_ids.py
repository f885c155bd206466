"""The keeper of key ids: which keys have ever encrypted tokens here, and which of them were given up.

A stored text can name any key; only one of these may be missed. Everything else was written by somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select, update

from core.store.database import upsert
from core.store.schema import capi_key


def note(conn: Connection, key_id: str) -> None:
    """Write down that tokens are encrypted with this key from now on; before the first of them."""
    upsert(conn, capi_key, {"id": key_id}, {"given_up": False})


def give_up(conn: Connection, ids: Iterable[str]) -> None:
    """Nobody waits for these keys any more."""
    conn.execute(update(capi_key).where(capi_key.c.id.in_(list(ids))).values(given_up=True))


def every(conn: Connection) -> dict[str, bool]:
    """Key id → whether it was given up."""
    return {row[0]: row[1] for row in conn.execute(select(capi_key.c.id, capi_key.c.given_up))}
