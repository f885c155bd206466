"""The keeper of sessions: 256 random bits in a cookie, stored as SHA-256, so that no copy of the database opens one.

How long a session may last is not decided here.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Row, delete, select, update

from core.store.schema import capi_operator, capi_session

_SPELLING: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_S, _O = capi_session.c, capi_operator.c


def open_(conn: Connection, operator_id: int, *, now: datetime) -> str:
    """A new session's cookie, in the clear."""
    cookie = secrets.token_urlsafe(32)
    conn.execute(capi_session.insert().values(hash=_hash(cookie), operator_id=operator_id, started_at=now, seen_at=now))
    return cookie


def find(conn: Connection, cookie: str) -> Row | None:
    """(started_at, seen_at, name, role) of the session of an operator who may sign in. Looked up by hash: nothing to
    time."""
    if not _SPELLING.fullmatch(cookie):
        return None
    return conn.execute(
        select(_S.started_at, _S.seen_at, _O.name, _O.role)
        .join(capi_operator, _O.id == _S.operator_id)
        .where(_S.hash == _hash(cookie), _O.disabled_at.is_(None))
    ).first()


def touch(conn: Connection, cookie: str, *, now: datetime) -> None:
    conn.execute(update(capi_session).where(_S.hash == _hash(cookie), _S.seen_at < now).values(seen_at=now))


def end(conn: Connection, cookie: str) -> bool:
    """Whether there was one to end."""
    return conn.execute(delete(capi_session).where(_S.hash == _hash(cookie))).rowcount == 1


def end_all(conn: Connection, operator_id: int) -> None:
    """Every session of one operator, on every machine."""
    conn.execute(delete(capi_session).where(_S.operator_id == operator_id))


def forget(conn: Connection, before: datetime) -> None:
    """Those that were started before this moment."""
    conn.execute(delete(capi_session).where(_S.started_at < before))


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
