"""Where a token stands before its refresh, read from our tables: what the ladder must know of it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Row

from core.meta.failures import Failure
from core.secret import Secret
from core.services.flight import Refreshed
from core.services.outcome import USABLE, Outcome, Standing
from core.services.policy import DAY, EXCHANGES_A_DAY, ON_ERROR_PAUSE, SOFT_A_DAY, Policy
from core.services.settle import Order
from core.store import history, tokens
from core.store.apps import App

# Meta took the exchange and the end did not move.
_IN_VAIN = (str(Outcome.NOT_EXTENDED), str(Outcome.NEW_TOKEN_SAME_EXPIRY))
# Triggers that no person stands behind: they do not repeat what has just come to nothing.
AUTOMATIC = frozenset({"scheduled", "on_error"})


def standing(
    conn: Connection,
    order: Order,
    known: Row | None,
    theirs: list[App],
    holding: list[App],
    policy: Policy,
    now: datetime,
) -> Standing:
    """The order's token as it stands in the apps of its user: `theirs` are all of them, `holding` (one at least) those
    that hold it. `known` is its row."""
    token = next((app.token for app in holding if app.token), None)
    assert token is not None
    broken = known is not None and known.broken_since is not None
    return Standing(
        token=token,
        # One holder's earlier date is reason enough: the platform's recipe moves a single row.
        expires_at=min((app.expires_at for app in holding if app.expires_at), default=None),
        broken=_failure(known) if broken else None,
        past_end=known is not None and known.broken_words == tokens.PAST_END,
        just_mended=_just_mended(conn, known, order, now),
        soft_tries=_soft_tries(conn, known, now),
        may_exchange=order.trigger not in AUTOMATIC or _may_exchange(conn, order.fingerprint, now),
        meta_app_id=known.meta_app_id if known else None,
        foreign=known is not None and known.foreign_app,
        kind=known.kind if known else None,
        meta_user_id=known.meta_user_id if known else None,
        scopes=tuple((known.scopes or "").split()) if known else (),
        never_expires=known is not None and known.never_expires,
        pixels=tuple(dict.fromkeys(app.pixel_id for app in holding if app.pixel_id)),
        siblings=_siblings(conn, theirs, holding[0], policy, now),
    )


def rests(conn: Connection, known: Row, now: datetime) -> Refreshed | None:
    """The answer without asking Meta: only the merchant can mend it, or the next try has its time."""
    if known.needs_reconnect:
        return Refreshed(Outcome.NEEDS_RECONNECT, known.fingerprint, words=known.broken_words or "")
    if known.next_refresh_at is None or known.next_refresh_at <= now:
        return None
    last = history.last_refresh(conn, known.fingerprint, since=now - DAY)
    if last is None:
        return None
    return Refreshed(Outcome(last.outcome), known.fingerprint, words=last.words or "")


def _failure(known: Row | None) -> Failure:
    try:
        return Failure(str(known.broken_failure) if known else "")
    except ValueError:
        return Failure.TOKEN_EXPIRED


def _just_mended(conn: Connection, known: Row | None, order: Order, now: datetime) -> bool:
    """Whether our own refresh on error ended well moments ago and the token was refused again since."""
    refused = known is not None and known.broken_since is not None and known.broken_words != tokens.PAST_END
    if order.trigger != "on_error" or not refused:
        return False
    last = history.last_refresh(conn, order.fingerprint, since=now - ON_ERROR_PAUSE)
    if last is None or last.trigger != "on_error" or last.outcome not in USABLE or last.user_id != order.user_id:
        return False
    return (last.new_fingerprint or last.fingerprint) == order.fingerprint


def _soft_tries(conn: Connection, known: Row | None, now: datetime) -> int:
    if known is None or known.broken_failure != Failure.TOKEN_SOFT:
        return 0
    rows = history.refreshes(conn, known.fingerprint, since=now - DAY, limit=SOFT_A_DAY)
    return sum(row.trigger == "on_error" for row in rows)


def _may_exchange(conn: Connection, fingerprint: str, now: datetime) -> bool:
    """Whether the exchanges of this day left the end where it was too often: of this token and those it came from."""
    return history.in_vain(conn, fingerprint, _IN_VAIN, since=now - DAY, limit=EXCHANGES_A_DAY) < EXCHANGES_A_DAY


def _siblings(
    conn: Connection, theirs: list[App], app: App, policy: Policy, now: datetime
) -> list[tuple[Secret, datetime]]:
    """Of the newer tokens of the user's other apps that nobody has refused, the one with the latest end."""
    later = max(now + policy.soon, app.expires_at or now)
    newer = [
        (other.token, other.expires_at)
        for other in theirs
        if other.token and other.token != app.token and other.expires_at and other.expires_at > later
    ]
    for token, expires_at in sorted(newer, key=lambda pair: pair[1], reverse=True):
        known = tokens.get(conn, token.fingerprint)
        if known is None or known.broken_since is None:
            return [(token, expires_at)]
    return []
