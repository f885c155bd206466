"""What a person may see of the account per app and day, and of orders that Meta does not have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from core.desk.alert_lines import reasons, silent_because, silent_since, unbalanced
from core.desk.alerts import AlertRow
from core.services import shortfalls
from core.services.alerts import EVERYBODY
from core.services.shortfalls import Silent
from core.store import apps, conditions, ledger
from core.store.alerts import is_open
from core.store.ledger import DAY, Counts

# How many days of orders an app's page shows.
SHOWN_DAYS = 14


@dataclass(frozen=True, slots=True)
class DayRow:
    """One day of one app, or of all together (`app_id` is None); the figures as they were when it was last counted."""

    day: datetime
    app_id: str | None
    app_name: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class OrderDay:
    """One day's orders of an app; `why` says what became of those that Meta should have had and has not accepted."""

    day: datetime
    counts: Counts
    why: str


@dataclass(frozen=True, slots=True)
class Off:
    """An app's day of which the two sides differ, in words."""

    day: datetime
    app_name: str
    words: str


def account(conn: Connection, *, now: datetime, days: int, app: str | None = None) -> list[DayRow]:
    """The last days, newest first: of this app (public appId or App.id; NotFound), else of all apps together, and of
    each that is out of balance."""
    since = ledger.day_of(now) - (days - 1) * DAY
    own = apps.find(conn, app) if app is not None else None
    rows = ledger.days(conn, since=since, app_id=own.id if own else None)
    if own is not None:
        return [DayRow(day, app_id, own.name, counts) for app_id, day, counts in rows]
    names = _names(conn, [app_id for app_id, _, counts in rows if counts.off])
    found: list[DayRow] = []
    for day in sorted({day for _, day, _ in rows}, reverse=True):
        mine = [(app_id, counts) for app_id, at, counts in rows if at == day]
        found.append(DayRow(day, None, "all", _sum(counts for _, counts in mine)))
        found += [DayRow(day, app_id, names.get(app_id, app_id), counts) for app_id, counts in mine if counts.off]
    return found


def _sum(found: Iterable[Counts]) -> Counts:
    return Counts(*map(sum, zip(*map(astuple, found), strict=True)))


def _names(conn: Connection, app_ids: Iterable[str]) -> dict[str, str]:
    return {app_id: one.app_name for app_id, one in conditions.app_names(conn, sorted(set(app_ids))).items()}


def off(conn: Connection, limit: int = 20) -> list[Off]:
    """Days out of balance, newest first."""
    rows = ledger.out_of_balance(conn, limit=limit)
    names = _names(conn, [row.app_id for row in rows])
    return [Off(row.day, names.get(row.app_id, row.app_id), unbalanced(row.off)) for row in rows]


def off_total(conn: Connection) -> int:
    """How many `off` would list in all."""
    return ledger.days_off(conn)


def order_days(conn: Connection, app_id: str, *, now: datetime) -> list[OrderDay]:
    """The last SHOWN_DAYS days of an app on which there were orders, newest first."""
    since = ledger.day_of(now) - (SHOWN_DAYS - 1) * DAY
    rows = [(day, counts) for _, day, counts in ledger.days(conn, since=since, app_id=app_id) if counts.orders]
    short = [day for day, counts in rows if counts.missing]
    why = ledger.why_missing(conn, app_id, short[-1], short[0]) if short else {}
    return [OrderDay(day, counts, reasons(why.get(day, {})) if counts.missing else "") for day, counts in rows]


def silent(conn: Connection, app_id: str, *, now: datetime) -> Silent | None:
    """How an app is silent; None when it is not told of as silent, or is heard of again."""
    if not conn.scalar(select(is_open("silent_shop", app_id))):
        return None
    return next(iter(shortfalls.silence(conn, now=now, app_id=app_id).shops), None)


def silence_of(conn: Connection, app_id: str, *, now: datetime) -> tuple[str, str] | None:
    """Since when an app is silent, and what the likely cause is, in words; None as `silent`."""
    one = silent(conn, app_id, now=now)
    return (silent_since(one), silent_because(one)) if one else None


def told(found: Iterable[AlertRow]) -> dict[str, int]:
    """Kind → how many shops are open alerts of it: `orders_missing`, `silent_shop`."""
    kinds = ("orders_missing", "silent_shop")
    return Counter(one.kind for one in found if one.kind in kinds and one.subject != EVERYBODY)
