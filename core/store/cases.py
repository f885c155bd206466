"""The keeper of reconnect cases: one open case for each token that only its owner can mend."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, update

from core.store.database import insert_into
from core.store.schema import capi_case


def open_(conn: Connection, fingerprint: str, *, user_id: str, failure: str, words: str, now: datetime) -> bool:
    """Open a case; False when one is open already."""
    row = {"user_id": user_id, "fingerprint": fingerprint, "failure": failure, "words": words}
    new = insert_into(conn, capi_case).values(**row, state="made", made_at=now)
    return conn.scalar(new.on_conflict_do_nothing().returning(capi_case.c.id)) is not None


def close(conn: Connection, fingerprint: str, *, now: datetime) -> None:
    """The token was mended or replaced."""
    c = capi_case.c
    opened = update(capi_case).where(c.fingerprint == fingerprint, c.done_at.is_(None))
    conn.execute(opened.values(state="done", done_at=now))
