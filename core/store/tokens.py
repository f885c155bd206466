"""The keeper of what we know of each token, by fingerprint. The token itself stays in AppSettings."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, or_, select, update

from core.meta.answers import TokenFacts
from core.store.database import insert_into
from core.store.schema import capi_token

# Longer than the four calls of a refresh may take in all.
LEASE = timedelta(seconds=60)

# Why a token is broken though Meta has not refused it.
PAST_END = "the stored end of this token has passed"

_MENDED: dict[str, Any] = {
    "broken_since": None,
    "broken_failure": None,
    "broken_words": None,
    "broken_app": None,
    "needs_reconnect": False,
    "failures": 0,
}


def get(conn: Connection, fingerprint: str) -> Row[Any] | None:
    return conn.execute(select(capi_token).where(capi_token.c.fingerprint == fingerprint)).first()


def see(
    conn: Connection,
    fingerprint: str,
    *,
    user_id: str,
    now: datetime,
    next_refresh_at: datetime | None,
    obtained_at: datetime | None = None,
) -> bool:
    """Note a token that is stored for some app; True when it was not known."""
    row = {
        "fingerprint": fingerprint,
        "user_id": user_id,
        "first_seen_at": now,
        "obtained_at": obtained_at,
        "next_refresh_at": next_refresh_at,
    }
    new = insert_into(conn, capi_token).values(**row).on_conflict_do_nothing().returning(capi_token.c.fingerprint)
    return conn.scalar(new) is not None


def learn(conn: Connection, fingerprint: str, facts: TokenFacts, *, now: datetime) -> None:
    """Write down what /debug_token said."""
    _set(
        conn,
        fingerprint,
        kind=facts.kind,
        meta_app_id=facts.meta_app_id,
        meta_user_id=facts.meta_user_id,
        scopes=" ".join(facts.scopes),
        expires_at=facts.expires_at,
        never_expires=facts.never_expires,
        data_access_expires_at=facts.data_access_expires_at,
        checked_at=now,
    )


def break_(conn: Connection, fingerprint: str, *, failure: str, words: str, app_id: str | None, now: datetime) -> bool:
    """Meta refuses this token: nothing is sent with it until it is mended. True for the first who says so."""
    changed = conn.execute(
        update(capi_token)
        .where(capi_token.c.fingerprint == fingerprint, capi_token.c.broken_since.is_(None))
        .values(broken_since=now, broken_failure=failure, broken_words=words, broken_app=app_id, next_refresh_at=now)
    )
    return changed.rowcount == 1


def mend(conn: Connection, fingerprint: str, *, next_refresh_at: datetime | None) -> None:
    _set(conn, fingerprint, next_refresh_at=next_refresh_at, **_MENDED)


def give_up_on(conn: Connection, fingerprint: str, *, failure: str, words: str, now: datetime) -> None:
    """Only the merchant can mend this token: no further refresh by ourselves."""
    broken = {"broken_failure": failure, "broken_words": words, "needs_reconnect": True, "next_refresh_at": None}
    _set(conn, fingerprint, **broken)
    since = (capi_token.c.fingerprint == fingerprint) & capi_token.c.broken_since.is_(None)
    conn.execute(update(capi_token).where(since).values(broken_since=now))


def try_later(conn: Connection, fingerprint: str, at: datetime) -> None:
    """A refresh came to nothing: the next not before `at`."""
    _set(conn, fingerprint, next_refresh_at=at, failures=capi_token.c.failures + 1)


def plan(conn: Connection, fingerprint: str, next_refresh_at: datetime | None) -> None:
    """When this token is refreshed by itself."""
    _set(conn, fingerprint, next_refresh_at=next_refresh_at)


def checked(conn: Connection, fingerprint: str, *, now: datetime) -> None:
    """/debug_token was asked in vain: not again before tomorrow."""
    _set(conn, fingerprint, checked_at=now)


def lease(conn: Connection, fingerprint: str, *, by: str, now: datetime) -> bool:
    """Single flight: True for the one who may refresh this token now."""
    t = capi_token.c
    free = or_(t.refresh_until.is_(None), t.refresh_until <= now)
    taken = update(capi_token).where(t.fingerprint == fingerprint, free)
    return conn.execute(taken.values(refresh_by=by, refresh_until=now + LEASE)).rowcount == 1


def release(conn: Connection, fingerprint: str, *, by: str) -> None:
    t = capi_token.c
    mine = update(capi_token).where(t.fingerprint == fingerprint, t.refresh_by == by)
    conn.execute(mine.values(refresh_by=None, refresh_until=None))


def holds(conn: Connection, fingerprint: str, *, by: str, now: datetime) -> bool:
    """Whether nobody took the refresh lease over; asked inside the transaction that stores its result."""
    t = capi_token.c
    mine = update(capi_token).where(t.fingerprint == fingerprint, t.refresh_by == by)
    return conn.execute(mine.values(refresh_until=now + LEASE)).rowcount == 1


def due_for_refresh(conn: Connection, *, now: datetime, limit: int, broken: bool) -> list[str]:
    """Fingerprints whose refresh is due and possible: of broken tokens, or of healthy ones."""
    t = capi_token.c
    free = or_(t.refresh_until.is_(None), t.refresh_until <= now)
    kind = t.broken_since.is_not(None) if broken else t.broken_since.is_(None)
    due = select(t.fingerprint).where(t.next_refresh_at <= now, free, kind, t.needs_reconnect.is_(False))
    return list(conn.scalars(due.order_by(t.next_refresh_at).limit(limit)))


def unplanned(conn: Connection) -> set[str]:
    """Healthy tokens whose refresh nobody has planned: their end was not known, or nobody held them for a while."""
    t = capi_token.c
    healthy = t.broken_since.is_(None) & t.needs_reconnect.is_(False) & t.never_expires.is_(False)
    return set(conn.scalars(select(t.fingerprint).where(t.next_refresh_at.is_(None), healthy)))


def due_for_check(conn: Connection, *, before: datetime, limit: int) -> list[str]:
    """Fingerprints that /debug_token was not asked about since `before`, never asked first."""
    t = capi_token.c
    due = select(t.fingerprint).where(or_(t.checked_at.is_(None), t.checked_at < before))
    return list(conn.scalars(due.order_by(t.checked_at.is_not(None), t.checked_at).limit(limit)))


def retire(conn: Connection, fingerprint: str) -> None:
    """No app holds this token any more: nothing is due for it, and it is neither broken nor healthy."""
    _set(conn, fingerprint, next_refresh_at=None, **_MENDED)


def forget(conn: Connection, fingerprint: str) -> None:
    """A token that no app holds any more needs neither refresh nor check."""
    conn.execute(capi_token.delete().where(capi_token.c.fingerprint == fingerprint))


def _set(conn: Connection, fingerprint: str, **values: Any) -> None:
    conn.execute(update(capi_token).where(capi_token.c.fingerprint == fingerprint).values(**values))
