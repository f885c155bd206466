"""What a shop should have brought and did not: orders without an accepted purchase, and signs of life."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from core.store import alerts, ledger, rhythms
from core.store.rhythms import AWAITED, SOONEST, WEEKS, Rhythm
from core.store.schema import capi_receipt

HOUR = timedelta(hours=1)
# A day is judged so long after its end: what waited for a token, or was sent again, has had its time.
SETTLES = 6 * HOUR
SHARE, LEAST_ORDERS = 0.9, 10
# When arrivals were not folded for so long, silence is ours.
BEHIND = timedelta(minutes=20)
_REFUSALS = 3


@dataclass(frozen=True, slots=True)
class Silent:
    """A shop of which nothing came since `since`, in these kinds; `cause` is a word of `core.desk.explain_shops`,
    `detail` the commonest reason of its receipts where everything is refused."""

    app_id: str
    kinds: tuple[str, ...]
    since: datetime
    awaited: int
    cause: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """Who is silent. `behind`: arrivals were not folded, so nobody can tell. `everybody`: since when nothing came from
    any shop, and `shops` are those that were told of before."""

    shops: tuple[Silent, ...] = ()
    everybody: datetime | None = None
    behind: bool = False


def last_settled_day(now: datetime) -> datetime:
    """The newest day whose orders are judged."""
    return ledger.day_of(now - SETTLES) - ledger.DAY


def missing_orders(conn: Connection, *, now: datetime) -> list[str]:
    """App.ids whose accepted purchases fell short of their orders on the last settled day."""
    return ledger.short_of_orders(conn, last_settled_day(now), share=SHARE, least=LEAST_ORDERS)


def silence(conn: Connection, *, now: datetime, app_id: str | None = None) -> Silence:
    """Shops (or this one) of which less came than they usually bring, so much less that it is no chance."""
    oldest = ledger.oldest_taken(conn)
    if oldest is not None and oldest < now - BEHIND:
        return Silence(behind=True)
    quiet = rhythms.not_heard(conn, since=now - SOONEST, now=now, app_id=app_id)
    told = {row.subject: row.opened_at for row in alerts.open_alerts(conn, ["silent_shop"])}
    again = rhythms.heard_again(conn)
    silent = [one for one in quiet if _is_silent(one, told.get(one.app_id), again, now)]
    if not silent:
        return Silence()
    everybody = _nothing_from_anybody(conn, quiet, now)
    if everybody is not None:
        silent = [one for one in silent if one.app_id in told]
    return Silence(_shops(conn, silent, now), everybody)


def _is_silent(one: Rhythm, told: datetime | None, again: datetime | None, now: datetime) -> bool:
    """A while in which nothing came from anybody is not held against a shop; what was told stands until it is heard."""
    stands = told is not None and one.last_at <= told
    since = one.last_at if again is None or stands else max(one.last_at, again)
    return one.weeks >= WEEKS and one.awaited(since, now) >= AWAITED


def _shops(conn: Connection, silent: Sequence[Rhythm], now: datetime) -> tuple[Silent, ...]:
    by_app: dict[str, list[Rhythm]] = {}
    for one in silent:
        by_app.setdefault(one.app_id, []).append(one)
    known: dict[str, set[str]] = {app_id: set() for app_id in by_app}
    for one in rhythms.of_apps(conn, sorted(by_app)):
        if one.last_at > now - rhythms.FORGOTTEN:
            known[one.app_id].add(one.kind)
    return tuple(_silent(conn, found, known[app_id], now) for app_id, found in sorted(by_app.items()))


def _nothing_from_anybody(conn: Connection, quiet: Sequence[Rhythm], now: datetime) -> datetime | None:
    last = rhythms.last_of_all(conn)
    if last is None or last > now - SOONEST:
        return None
    return last if rhythms.is_silence(quiet, last, now) else None


def _silent(conn: Connection, found: Sequence[Rhythm], known: set[str], now: datetime) -> Silent:
    kinds = tuple(sorted(one.kind for one in found))
    since = max(one.last_at for one in found)
    awaited = math.floor(sum(one.awaited(one.last_at, now) for one in found))
    reason = _commonest_refusal(conn, found[0].app_id, kinds, since)
    if reason is not None:
        return Silent(found[0].app_id, kinds, since, awaited, "refused", reason)
    alone = {"track": "browser_blocked", "webhook": "webhooks_gone"}
    cause = "quiet" if known <= set(kinds) else alone[kinds[0]]
    return Silent(found[0].app_id, kinds, since, awaited, cause)


def _commonest_refusal(conn: Connection, app_id: str, kinds: Sequence[str], since: datetime) -> str | None:
    """Why requests of these kinds were not taken since then; receipts are samples, so few of them are many."""
    r = capi_receipt.c
    counted = select(r.reason, func.count()).where(r.app_id == app_id, r.at > since)
    if len(kinds) == 1:
        counted = counted.where((r.source == "track") == (kinds[0] == "track"))
    counted = counted.group_by(r.reason).order_by(func.count().desc(), r.reason).limit(1)
    row = conn.execute(counted).first()
    return str(row[0]) if row is not None and row[1] >= _REFUSALS else None
