"""What a refresh came to, written down: the token for all its holders, its row, the case, the history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from core.errors import Conflict
from core.meta.failures import Failure
from core.services.outcome import PASSING, USABLE, Outcome, Result
from core.services.policy import DAY, SOFT_A_DAY, Policy
from core.store import apps, cases, history, outbox, tokens
from core.store.apps import App
from core.store.database import writing

# A token that works and could not be exchanged because Meta went away is tried again in an hour.
_AWAY = 6


@dataclass(frozen=True, slots=True)
class Order:
    """One refresh as it was asked for: for which token and user, by what trigger, by whom, since when."""

    fingerprint: str
    user_id: str
    app_id: str | None
    trigger: str
    by: str
    started_at: datetime
    lease: str


def settle(conn: Connection, order: Order, result: Result, policy: Policy, *, now: datetime, last: bool) -> list[str]:
    """Write a refresh's result in one transaction; the ids of the apps that now hold another token.

    `last`: nothing else is done under this lease, and it is given back.
    Conflict when the lease was lost meanwhile: somebody else's result stands.
    """
    if not tokens.holds(conn, order.fingerprint, by=order.lease, now=now, last=last):
        raise Conflict("another worker took this refresh over")
    holding = [app for app in apps.holders(conn, order.fingerprint) if app.user_id == order.user_id]
    before = holding[0].expires_at if holding else None
    written = _store(conn, order, result, policy, holding, now) if result.outcome in USABLE else []
    if not holding:
        match_cases(conn, order.fingerprint, now=now)
    elif result.outcome is Outcome.NEEDS_RECONNECT:
        failure = str(result.failure or "token_dead")
        tokens.give_up_on(conn, order.fingerprint, failure=failure, words=result.words, now=now)
        match_cases(conn, order.fingerprint, now=now)
    elif result.outcome not in USABLE:
        tokens.try_later(conn, order.fingerprint, _once_more(conn, order, result, policy, before, now))
    _remember(conn, order, result, before, written, now)
    return written


def _store(
    conn: Connection, order: Order, result: Result, policy: Policy, holding: list[App], now: datetime
) -> list[str]:
    if result.token is None:
        _confirm(conn, order, result, policy, holding, now)
        return []
    new = result.token.fingerprint
    obtained = None if result.outcome is Outcome.ADOPTED else now
    due = _next(policy, new, result, now)
    is_new = tokens.see(conn, new, user_id=order.user_id, now=now, next_refresh_at=due, obtained_at=obtained)
    if result.facts:
        tokens.learn(conn, new, result.facts, now=now)
    known = None if is_new else tokens.get(conn, new)
    proved = result.outcome is Outcome.RECONNECTED or (result.facts is not None and result.facts.is_valid)
    if proved and known is not None and known.broken_since is not None:
        tokens.mend(conn, new, next_refresh_at=due)
        cases.close(conn, new, now=now)
    written = apps.replace_token(conn, holding, order.fingerprint, result.token, expires_at=result.expires_at)
    match_cases(conn, order.fingerprint, now=now)
    return written


def match_cases(conn: Connection, fingerprint: str, *, now: datetime, but: str | None = None) -> None:
    """One open case for each user who holds a token that only its owner can mend, and none for anybody else.

    A token that no app holds any more is retired. `but`: an app that is about to get another one.
    """
    users = sorted({app.user_id for app in apps.holders(conn, fingerprint) if app.id != but})
    if not users:
        tokens.retire(conn, fingerprint)
    cases.close(conn, fingerprint, now=now, still=users)
    if users:
        open_cases(conn, fingerprint, users, now=now)


def open_cases(conn: Connection, fingerprint: str, users: Iterable[str], *, now: datetime) -> None:
    """Ask each of these holders to connect again, where the token is lost and they are not asked yet."""
    known = tokens.get(conn, fingerprint)
    if known is None or not known.needs_reconnect:
        return
    said = {"failure": known.broken_failure or "token_dead", "words": known.broken_words or ""}
    for user_id in users:
        cases.open_(conn, fingerprint, user_id=user_id, **said, now=now)


def _confirm(conn: Connection, order: Order, result: Result, policy: Policy, holding: list[App], now: datetime) -> None:
    """The stored token stays; its end is put right where Meta named another."""
    if result.expires_at is not None or result.forget_end or (result.facts and result.facts.never_expires):
        apps.correct_expiry(conn, holding, order.fingerprint, result.expires_at)
    if result.facts:
        tokens.learn(conn, order.fingerprint, result.facts, now=now)
    tokens.mend(conn, order.fingerprint, next_refresh_at=_next(policy, order.fingerprint, result, now))
    cases.close(conn, order.fingerprint, now=now)


def _next(policy: Policy, fingerprint: str, result: Result, now: datetime) -> datetime | None:
    """The next refresh by itself: not before the next day, whatever the end says, unless Meta could not be asked."""
    due = policy.first_refresh(fingerprint, result.expires_at, now)
    if due is None:
        return None
    ends, away = result.expires_at, result.failure in PASSING
    return max(due, policy.after_failure(_AWAY, ends, now) if away else policy.next_day(ends, now))


def _once_more(
    conn: Connection, order: Order, result: Result, policy: Policy, before: datetime | None, now: datetime
) -> datetime:
    """When a refresh that came to nothing is tried again: counted in days when Meta said no, else in minutes."""
    known = tokens.get(conn, order.fingerprint)
    if result.failure is Failure.TOKEN_SOFT:
        tries = history.refreshes(conn, order.fingerprint, since=now - DAY, limit=SOFT_A_DAY)
        return policy.after_soft(len(tries), now)
    if result.outcome is Outcome.REFUSED and result.failure is not Failure.APP_CONFIG:
        return policy.next_day(before, now)
    at = policy.after_failure(known.failures if known else 0, before, now)
    return max(at, now + timedelta(seconds=result.retry_after)) if result.retry_after else at


def _remember(
    conn: Connection, order: Order, result: Result, before: datetime | None, written: list[str], now: datetime
) -> None:
    history.add_refresh(
        conn,
        started_at=order.started_at,
        duration_ms=round((now - order.started_at).total_seconds() * 1000),
        trigger=order.trigger,
        by=order.by,
        user_id=order.user_id,
        app_id=order.app_id,
        fingerprint=order.fingerprint,
        new_fingerprint=result.token.fingerprint if result.token and written else None,
        outcome=str(result.outcome),
        expires_before=before,
        expires_after=result.expires_at,
        apps_updated=len(written),
        code=result.code,
        subcode=result.subcode,
        words=result.words or None,
        trace_id=result.trace_id,
    )


def release(engine: Engine, app_ids: list[str], fingerprint: str, *, now: datetime, all_of_them: bool = True) -> int:
    """Everything of these apps that waits for this token becomes due, in short transactions; how many."""
    total = 0
    while True:
        with writing(engine) as conn:
            moved = outbox.release(conn, app_ids, fingerprint, now=now, all_of_them=all_of_them)
        total += moved
        if moved < outbox.CHUNK:
            return total
