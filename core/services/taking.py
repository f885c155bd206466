"""A refresh is taken up: the lease on the token's row and, in the same transaction, how the token stands under it.

What is read before the lease is ours may be another's unfinished work; what is read after it stands until we are done.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, Row

from core.services import damaged, incidents, settle
from core.services.flight import Refreshed, replaced
from core.services.noticing import notice
from core.services.outcome import Outcome, Standing
from core.services.policy import ON_ERROR_PAUSE, Policy
from core.services.settle import Order
from core.services.standing import AUTOMATIC, rests, standing
from core.store import apps, tokens
from core.store.apps import App
from core.store.database import writing

# Triggers that wait while something is wrong for all of us at once; a person may try all the same.
_PAUSED = AUTOMATIC | {"bulk"}


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants which token mended: for the apps of one user, or of all who hold it (`user_id` None)."""

    fingerprint: str
    trigger: str
    by: str
    user_id: str | None
    app_id: str | None
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Before:
    """The apps of an order's user that hold its token, and how it stands with them."""

    holding: list[App]
    standing: Standing


@dataclass(frozen=True, slots=True)
class Begun:
    """The lease is ours: an order for each user, and what was before the first of them."""

    orders: list[Order]
    first: Before | None


def introduce(engine: Engine, asked: Asked, policy: Policy, *, now: datetime) -> None:
    """A token that nobody has told us of gets its row, on which the lease is, where an app holds it."""
    with writing(engine) as conn:
        around = apps.around(conn, asked.fingerprint, asked.user_id)
        notice(conn, [*_unseen(around), *_holding(around, asked.fingerprint)], policy, now=now)


def take_up(engine: Engine, asked: Asked, policy: Policy, *, lease: str, now: datetime) -> Begun | Refreshed | None:
    """Take the lease: None when somebody else was quicker; the answer when there is nothing to do now."""
    with writing(engine) as conn:
        known = tokens.lease(conn, asked.fingerprint, by=lease, now=now)
        if known is None:
            return None
        around = apps.around(conn, asked.fingerprint, asked.user_id or known.user_id)
        unseen = _unseen(around)
        holding = _holding(around, asked.fingerprint)
        answer = None if unseen else _answer(conn, asked, known, holding, now)
        if not unseen and answer is None:
            users = [asked.user_id] if asked.user_id else sorted({app.user_id for app in holding})
            orders = [_order(asked, known, user, lease) for user in users]
            return Begun(orders, before(conn, orders[0], known, around, policy, now))
        tokens.release(conn, asked.fingerprint, by=lease)
    if not unseen:
        return answer
    with writing(engine) as conn:
        notice(conn, unseen, policy, now=now)
    return take_up(engine, asked, policy, lease=lease, now=now)


def before(
    conn: Connection, order: Order, known: Row | None, around: list[App], policy: Policy, now: datetime
) -> Before | None:
    """What the order's token is to its user now, among all his apps; None when none of them holds it."""
    theirs = [app for app in around if app.user_id == order.user_id]
    holding = _holding(theirs, order.fingerprint)
    return Before(holding, standing(conn, order, known, theirs, holding, policy, now)) if holding else None


def catch_up(engine: Engine, fingerprint: str, user_id: str, policy: Policy, *, now: datetime) -> Row | None:
    """What we know of this token, after taking note of tokens that the platform stored for this user's apps and that
    no watch has seen yet."""
    with writing(engine) as conn:
        notice(conn, _unseen(apps.of_user(conn, user_id)), policy, now=now)
        return tokens.get(conn, fingerprint)


def see(conn: Connection, app: App, policy: Policy, *, now: datetime) -> None:
    """Note the token that an app holds."""
    assert app.fingerprint is not None
    due = policy.first_refresh(app.fingerprint, app.expires_at, now)
    tokens.see(conn, app.fingerprint, user_id=app.user_id, now=now, next_refresh_at=due)


def _holding(found: list[App], fingerprint: str) -> list[App]:
    return [app for app in found if app.fingerprint == app.seen == fingerprint]


def _unseen(found: list[App]) -> list[App]:
    return [app for app in found if app.token and app.fingerprint != app.seen]


def _answer(conn: Connection, asked: Asked, known: Row, holding: list[App], now: datetime) -> Refreshed | None:
    """The answer when Meta need not be asked, or must not."""
    if not holding:
        settle.match_cases(conn, asked.fingerprint, now=now)
        return replaced(asked.fingerprint)
    if all(app.token is None for app in holding):
        if known.next_refresh_at is not None and known.next_refresh_at <= now:  # or it holds up the others
            tokens.plan(conn, asked.fingerprint, now + ON_ERROR_PAUSE)
        words = damaged.WORDS[holding[0].unreadable]
        return Refreshed(Outcome.NEEDS_RECONNECT, asked.fingerprint, words=words)
    if asked.trigger in AUTOMATIC and (rested := rests(conn, known, now)):
        return rested
    return _waits(conn, asked, known, now)


def _waits(conn: Connection, asked: Asked, known: Row, now: datetime) -> Refreshed | None:
    """The answer while Meta must not be called: nothing is counted against the token."""
    limited = known.wait_until is not None and known.wait_until > now
    if not limited and asked.trigger not in _PAUSED:
        return None
    pause = incidents.gate(conn, now=now, known=known)
    return Refreshed(Outcome.UNREACHABLE, asked.fingerprint, words=pause.words) if pause else None


def _order(asked: Asked, known: Row, user_id: str, lease: str) -> Order:
    app_id = asked.app_id or known.broken_app
    return Order(asked.fingerprint, user_id, app_id, asked.trigger, asked.by, asked.started_at, lease)
