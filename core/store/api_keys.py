"""The keeper of API keys: 256 random bits, shown once, stored as SHA-256, good for one scope."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from sqlalchemy import Connection, Row, select, update

from core.errors import NotFound
from core.store.schema import capi_api_key

SCOPES = ("refresh",)
_PREFIX = "capi_"


def add(conn: Connection, *, title: str, scope: str, now: datetime) -> str:
    """A new key in the clear, for its only showing."""
    key = _PREFIX + secrets.token_urlsafe(32)
    conn.execute(capi_api_key.insert().values(hash=_hash(key), title=title, scope=scope, created_at=now))
    return key


def check(conn: Connection, key: str, scope: str) -> str | None:
    """The title of a live key with this scope, else None. Looked up by hash: nothing to time."""
    k = capi_api_key.c
    return conn.scalar(select(k.title).where(k.hash == _hash(key), k.scope == scope, k.revoked_at.is_(None)))


def revoke(conn: Connection, title: str, *, now: datetime) -> None:
    k = capi_api_key.c
    live = update(capi_api_key).where(k.title == title, k.revoked_at.is_(None))
    if conn.execute(live.values(revoked_at=now)).rowcount == 0:
        raise NotFound(f"there is no live API key {title}")


def every(conn: Connection) -> list[Row]:
    k = capi_api_key.c
    return list(conn.execute(select(k.title, k.scope, k.created_at, k.revoked_at).order_by(k.created_at)))


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
