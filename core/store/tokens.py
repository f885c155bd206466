"""The keeper of what we know of each token, by fingerprint. The token itself stays in AppSettings."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, func, or_, select, update

from core.meta.answers import TokenFacts
from core.store import waits
from core.store.database import chunks, insert_into
from core.store.schema import capi_token

# Longer than the calls of a refresh may take in all: four, and one for each pixel of a few.
LEASE = timedelta(seconds=60)
# A lease that ends later than this was taken by a clock that has been put back since: it holds nobody.
_SKEWED = 10 * LEASE
_DAY = timedelta(days=1)

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


# Asked for every batch: to make it anew would cost more than to run it.
_ONE = select(capi_token).where(capi_token.c.fingerprint == bindparam("fingerprint"))


def get(conn: Connection, fingerprint: str) -> Row[Any] | None:
    return conn.execute(_ONE, {"fingerprint": fingerprint}).first()


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
    """Write down what /debug_token said. Of a token that is over Meta may say less: what was known then stays."""
    said: dict[str, Any] = {
        "kind": facts.kind,
        "meta_app_id": facts.meta_app_id,
        "meta_user_id": facts.meta_user_id,
        "expires_at": facts.expires_at,
        "data_access_expires_at": facts.data_access_expires_at,
        "issued_at": facts.issued_at,
    }
    if facts.is_valid:
        t = capi_token.c
        scopes = " ".join(facts.scopes)
        since = case((t.scopes == scopes, func.coalesce(t.scopes_since, now)), else_=now)
        said |= {"never_expires": facts.never_expires, "scopes": scopes, "scopes_since": since}
    else:
        said = {name: value for name, value in said.items() if value is not None}
    _set(conn, fingerprint, **said, foreign_app=False, checked_at=now, check_at=next_check(fingerprint, now))


def name_user(conn: Connection, fingerprint: str, meta_user_id: str) -> None:
    """Whose token this is by what was known before, where Meta cannot be asked."""
    _set(conn, fingerprint, meta_user_id=meta_user_id)


def learn_foreign(conn: Connection, fingerprint: str, *, now: datetime) -> None:
    """/debug_token will not speak of this token, because another Meta app made it."""
    unknown = dict.fromkeys(("kind", "meta_app_id", "scopes", "scopes_since", "issued_at", "data_access_expires_at"))
    _set(conn, fingerprint, **unknown, foreign_app=True, checked_at=now, check_at=next_check(fingerprint, now))


def next_check(fingerprint: str, now: datetime) -> datetime:
    """The next time at this token's own time of day: however they came, checks are spread evenly over the day."""
    share = int.from_bytes(hashlib.sha256(fingerprint.encode()).digest()[:4]) / 2**32
    today = now.replace(hour=0, minute=0, second=0, microsecond=0) + share * _DAY
    return today if today > now else today + _DAY


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


def check_later(conn: Connection, fingerprint: str, at: datetime) -> None:
    """/debug_token was asked in vain: not again before `at`."""
    _set(conn, fingerprint, check_at=at)


def lease(conn: Connection, fingerprint: str, *, by: str, now: datetime) -> Row[Any] | None:
    """Single flight: the token's row for the one who may refresh it now, None for everybody else."""
    taken = update(capi_token).where(capi_token.c.fingerprint == fingerprint, _free(now))
    mine = taken.values(refresh_by=by, refresh_until=now + LEASE).returning(capi_token)
    return conn.execute(mine).first()


def is_leased(known: Row[Any], *, now: datetime) -> bool:
    """Whether somebody refreshes this token now."""
    return known.refresh_until is not None and now < known.refresh_until <= now + _SKEWED


def _free(now: datetime) -> Any:
    until = capi_token.c.refresh_until
    return or_(until.is_(None), until <= now, until > now + _SKEWED)


def release(conn: Connection, fingerprint: str, *, by: str) -> None:
    t = capi_token.c
    mine = update(capi_token).where(t.fingerprint == fingerprint, t.refresh_by == by)
    conn.execute(mine.values(refresh_by=None, refresh_until=None))


def holds(conn: Connection, fingerprint: str, *, by: str, now: datetime, last: bool) -> bool:
    """Whether nobody took the refresh lease over; asked inside the transaction that stores its result. It is made
    longer, or is given back with this transaction when it is the `last` under it."""
    t = capi_token.c
    mine = update(capi_token).where(t.fingerprint == fingerprint, t.refresh_by == by)
    then: dict[str, Any] = {"refresh_by": None, "refresh_until": None} if last else {"refresh_until": now + LEASE}
    return conn.execute(mine.values(**then)).rowcount == 1


def due_for_refresh(
    conn: Connection, *, now: datetime, limit: int, broken: bool, soon: datetime | None = None
) -> list[str]:
    """Fingerprints whose refresh is due and possible: of broken tokens, or of healthy ones.

    Those that end by `soon` come first, then those whose end Meta was not asked for yet.
    """
    t = capi_token.c
    urgency = [case((t.expires_at <= soon, 0), (t.expires_at.is_(None), 1), else_=2)] if soon else []
    kind = t.broken_since.is_not(None) if broken else t.broken_since.is_(None) & t.never_expires.is_(False)
    ready = _free(now) & or_(t.wait_until.is_(None), t.wait_until <= now)
    due = select(t.fingerprint).where(t.next_refresh_at <= now, ready, kind, t.needs_reconnect.is_(False))
    return list(conn.scalars(due.order_by(*urgency, t.next_refresh_at).limit(limit)))


def unplanned(conn: Connection) -> set[str]:
    """Healthy tokens whose refresh nobody has planned: their end was not known, or nobody held them for a while."""
    t = capi_token.c
    healthy = t.broken_since.is_(None) & t.needs_reconnect.is_(False) & t.never_expires.is_(False)
    return set(conn.scalars(select(t.fingerprint).where(t.next_refresh_at.is_(None), healthy)))


def due_for_check(conn: Connection, *, now: datetime, limit: int) -> list[Row[Any]]:
    """(fingerprint, check_at) of tokens that Meta is to be asked about, those it was never asked about first.

    A moment more than a day ahead can only come from a clock that was wrong: it counts as due.
    """
    t = capi_token.c
    due = or_(t.check_at.is_(None), t.check_at <= now, t.check_at > now + _DAY)
    ordered = select(t.fingerprint, t.check_at).where(due).order_by(t.check_at.is_not(None), t.check_at)
    return list(conn.execute(ordered.limit(limit)))


def take_check(conn: Connection, due: Row[Any], *, again_at: datetime) -> bool:
    """The right to ask about this token now; True for the one who was first. Asked again at `again_at` if it dies."""
    t = capi_token.c
    unmoved = t.check_at.is_(None) if due.check_at is None else t.check_at == due.check_at
    mine = update(capi_token).where(t.fingerprint == due.fingerprint, unmoved)
    return conn.execute(mine.values(check_at=again_at)).rowcount == 1


def healthy(conn: Connection, fingerprints: Collection[str]) -> set[str]:
    """Those of these tokens that are known and not broken."""
    t = capi_token.c
    found: set[str] = set()
    for chunk in chunks(sorted(fingerprints), 1_000):
        found |= set(conn.scalars(select(t.fingerprint).where(t.fingerprint.in_(chunk), t.broken_since.is_(None))))
    return found


def count(conn: Connection) -> int:
    """How many tokens are known."""
    return int(conn.scalar(select(func.count()).select_from(capi_token)) or 0)


def hold_back(conn: Connection, fingerprint: str, *, until: datetime, failure: str) -> None:
    """No call with this token before `until`, or longer where that was said before: Meta's limit for its user."""
    _set(conn, fingerprint, **waits.until(capi_token, until, failure))


def due_for_probe(conn: Connection, *, now: datetime, first: timedelta, limit: int) -> list[Row[Any]]:
    """Tokens that only their owner can mend and that are looked at again: `first` after they broke, then as planned."""
    t = capi_token.c
    lost = t.needs_reconnect.is_(True) & t.broken_since.is_not(None)
    unplanned = or_(t.probe_at.is_(None), t.probe_at <= t.broken_since)  # or planned for an earlier trouble
    due = or_((t.probe_at <= now) & ~unplanned, unplanned & (t.broken_since <= now - first))
    ordered = select(capi_token).where(lost, due).order_by(func.coalesce(t.probe_at, t.broken_since))
    return list(conn.execute(ordered.limit(limit)))


def take_probe(conn: Connection, known: Row[Any], *, probes: int, next_at: datetime) -> bool:
    """The right to look at this token once; True for the one who was first. The next look is at `next_at`."""
    t = capi_token.c
    mine = update(capi_token).where(t.fingerprint == known.fingerprint, t.needs_reconnect.is_(True))
    unmoved = mine.where(t.probe_at.is_(None) if known.probe_at is None else t.probe_at == known.probe_at)
    return conn.execute(unmoved.values(probes=probes, probe_at=next_at)).rowcount == 1


def retire(conn: Connection, fingerprint: str) -> None:
    """No app holds this token any more: nothing is due for it, and it is neither broken nor healthy."""
    _set(conn, fingerprint, next_refresh_at=None, **_MENDED)


def forget(conn: Connection, fingerprint: str) -> None:
    """A token that no app holds any more needs neither refresh nor check."""
    conn.execute(capi_token.delete().where(capi_token.c.fingerprint == fingerprint))


def _set(conn: Connection, fingerprint: str, **values: Any) -> None:
    conn.execute(update(capi_token).where(capi_token.c.fingerprint == fingerprint).values(**values))
