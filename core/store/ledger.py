"""The keeper of the account per app and day: received = duplicate + accepted + skipped + dead + waiting.

What comes in is counted beside the events, in their own transaction (`take`), and folded into the account later; the
other side is counted from the events themselves. The two sides know nothing of each other, so that a line that was
lost, or written twice, shows as a difference.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, func, literal, literal_column, select, tuple_

from core.store import rhythms
from core.store.database import among, insert_into
from core.store.many import insert_many
from core.store.schema import capi_event, capi_schedule
from core.store.schema_ledger import capi_ledger, capi_taken

DAY = timedelta(days=1)
# Arrivals folded in one transaction: of a few hundred apps each, it must not hold up those who write.
STEP = 200
# How many days the account is counted again for: as long as Meta takes most events.
LOOKED_BACK = 8
BEGINS: Final = "ledger begins"
# Skipped because it should be: such orders are not missing at Meta.
KEPT_BACK: Final = (
    *("test_order", "cancelled", "no_consent", "bot", "paused", "pos", "draft_order", "draft", "other_channel"),
    *("not_forwarded", "pixel_disabled", "reported_by_browser"),
)
_STATES = {"delivered": "accepted", "skipped": "skipped", "dead": "dead", "due": "waiting", "parked": "waiting"}
# How old a count may become: of an app of which events wait that day, and of the others.
_WAITING_AFTER, _RECOUNTED_AFTER = timedelta(hours=1), timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Counts:
    """One app's day in events; `orders`, `purchases` (accepted ones) and `kept_back` in distinct orders. `off`: events
    that came in and stand in no account (below zero: lines whose coming nobody counted)."""

    received: int = 0
    duplicate: int = 0
    accepted: int = 0
    skipped: int = 0
    dead: int = 0
    waiting: int = 0
    orders: int = 0
    purchases: int = 0
    kept_back: int = 0
    off: int = 0

    @property
    def lines(self) -> int:
        return self.accepted + self.skipped + self.dead + self.waiting

    @property
    def missing(self) -> int:
        """Orders that Meta should have had and has not accepted."""
        return self.orders - self.kept_back - self.purchases


@dataclass(frozen=True, slots=True)
class Look:
    """A day as one snapshot shows it: each app's counts, and the rows of `capi_taken` that are among them. Not `whole`:
    not everything was counted when it came in, so that there is nothing to compare with."""

    day: datetime
    counts: Mapping[str, Counts]
    taken: Sequence[int]
    whole: bool


def day_of(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def take(conn: Connection, arrived: Iterable[tuple[str, str, bool]], *, now: datetime) -> None:
    """Count these events, (App.id, source, whether a line was made for it), by one row in the events' transaction."""
    counts: dict[str, list[int]] = {}
    for app_id, source, made in arrived:
        own = counts.setdefault(app_id, [0, 0, 0, 0])
        own[0] += 1
        own[1] += not made
        if source != "send":  # a person at the shell is no sign of a shop's life
            own[2 if source == "track" else 3] += 1
    insert_many(conn, capi_taken, {"at": [now], "counts": [orjson.dumps(counts).decode()]})


def fold(conn: Connection, ids: Sequence[int] | None = None) -> int:
    """Put counted arrivals (these, else the oldest STEP) into the account and the rhythms; how many rows there were."""
    t = capi_taken.c
    wanted = select(t.id, t.at, t.counts).order_by(t.id)
    wanted = wanted.limit(STEP) if ids is None else wanted.where(among(conn, t.id, ids))
    rows = conn.execute(wanted.with_for_update(skip_locked=True)).all()
    if not rows:
        return 0
    _add(conn, _sums(rows))
    rhythms.hear(conn, rhythms.heard(rows))
    conn.execute(delete(capi_taken).where(among(conn, t.id, [row.id for row in rows])))
    return len(rows)


def oldest_taken(conn: Connection) -> datetime | None:
    """When the oldest arrival came in that is not folded yet."""
    t = capi_taken.c
    return conn.scalar(select(t.at).order_by(t.id).limit(1))


def _sums(rows: Iterable[Any]) -> dict[tuple[str, datetime], tuple[int, int]]:
    """(App.id, day) → events that came in, and how many of them were repeated."""
    days: dict[datetime, dict[str, list[int]]] = defaultdict(dict)
    for row in rows:
        of_day = days[day_of(row.at)]
        for app_id, (received, duplicate, *_) in orjson.loads(row.counts).items():
            sums = of_day.setdefault(app_id, [0, 0])
            sums[0] += received
            sums[1] += duplicate
    return {(app_id, day): (sums[0], sums[1]) for day, of_day in days.items() for app_id, sums in of_day.items()}


def _add(conn: Connection, sums: Mapping[tuple[str, datetime], tuple[int, int]]) -> None:
    values = [
        {"app_id": app_id, "day": day, "received": received, "duplicate": duplicate}
        for (app_id, day), (received, duplicate) in sorted(sums.items())
    ]
    adding = insert_into(conn, capi_ledger)
    more = {name: capi_ledger.c[name] + adding.excluded[name] for name in ("received", "duplicate")}
    conn.execute(adding.on_conflict_do_update(index_elements=["app_id", "day"], set_=more), values)


def look(conn: Connection, day: datetime) -> Look:
    """Both sides of every app's day, in one snapshot (the caller's `reading`)."""
    t, columns = capi_taken.c, [capi_ledger.c[one.name] for one in fields(Counts)]
    rows = conn.execute(select(t.id, t.at, t.counts)).all()
    stored = {
        app_id: Counts(*numbers)
        for app_id, *numbers in conn.execute(select(capi_ledger.c.app_id, *columns).where(capi_ledger.c.day == day))
    }
    fresh = {app_id: sums for (app_id, at), sums in _sums(rows).items() if at == day}
    states, orders, whole = _states(conn, day), _orders(conn, day), day >= begins(conn)
    counts = {}
    for app_id in sorted({*stored, *fresh, *states}):
        before, more = stored.get(app_id, Counts()), fresh.get(app_id, (0, 0))
        one = Counts(before.received + more[0], before.duplicate + more[1], **states.get(app_id, {}))
        if not whole:
            one = replace(one, received=one.lines + one.duplicate)
        off = one.received - one.duplicate - one.lines
        counts[app_id] = replace(one, **orders.get(app_id, {}), off=off)
    return Look(day, counts, [row.id for row in rows], whole)


def _states(conn: Connection, day: datetime) -> dict[str, dict[str, int]]:
    e = capi_event.c
    counted = select(e.app_id, e.state, func.count()).where(e.received_at >= day, e.received_at < day + DAY)
    found: dict[str, dict[str, int]] = {}
    for app_id, state, count in conn.execute(counted.group_by(e.app_id, e.state)):
        own, name = found.setdefault(app_id, {}), _STATES[state]
        own[name] = own.get(name, 0) + count
    return found


def _orders(conn: Connection, day: datetime) -> dict[str, dict[str, int]]:
    e = capi_event.c
    accepted = func.max(case((e.state == "delivered", 1), else_=0)).label("accepted")
    back = func.min(case((and_(e.state == "skipped", e.failure.in_(KEPT_BACK)), 1), else_=0)).label("back")
    named = e.event_name == literal("Purchase"), e.order_id.is_not(None)
    of_day = select(e.app_id, accepted, back).where(e.received_at >= day, e.received_at < day + DAY, *named)
    each = of_day.group_by(e.app_id, e.order_id).subquery()
    sums = func.count(), func.sum(each.c.accepted), func.sum(each.c.back)
    rows = conn.execute(select(each.c.app_id, *sums).group_by(each.c.app_id))
    names = ("orders", "purchases", "kept_back")
    return {app_id: dict(zip(names, map(int, numbers), strict=True)) for app_id, *numbers in rows}


def put(conn: Connection, seen: Look, app_ids: Sequence[str], *, now: datetime) -> int:
    """Write what was seen of these apps where it differs from what stands there, or stood for long; how many."""
    c = capi_ledger.c
    old = select(c.app_id, *(c[one.name] for one in fields(Counts)), c.checked_at).where(c.day == seen.day)
    stored = {row.app_id: row for row in conn.execute(old.where(c.app_id.in_(app_ids)))}
    rows = []
    for app_id in app_ids:
        values, before = asdict(seen.counts[app_id]), stored.get(app_id)
        if before is None or _is_stale(before, values, now):
            rows.append({"app_id": app_id, "day": seen.day, **values, "checked_at": now})
    if rows:
        writing = insert_into(conn, capi_ledger)
        # What came in after the look may have been folded since, and must stay: these are `fold`'s own.
        kept = ("app_id", "day", "duplicate", *(("received",) if seen.whole else ()))
        new = {name: writing.excluded[name] for name in rows[0] if name not in kept}
        conn.execute(writing.on_conflict_do_update(index_elements=["app_id", "day"], set_=new), rows)
    return len(rows)


def _is_stale(before: Any, values: Mapping[str, int], now: datetime) -> bool:
    after = _WAITING_AFTER if before.waiting else _RECOUNTED_AFTER
    if before.checked_at is None or before.checked_at <= now - after:
        return True
    return any(before._mapping[name] != value for name, value in values.items())


def begins(conn: Connection) -> datetime:
    """From which day on every event was counted when it came in."""
    s = capi_schedule.c
    return conn.scalar(select(s.due_at).where(s.task == BEGINS)) or datetime.min.replace(tzinfo=UTC)


def days_due(conn: Connection, *, now: datetime, back: int = LOOKED_BACK) -> list[datetime]:
    """The days to be counted now, oldest first: the last two always, those of the `back` days before for which events
    wait once an hour, the others once a day."""
    c, today = capi_ledger.c, day_of(now)
    waiting = func.min(case((c.waiting > 0, c.checked_at)))
    counted = select(c.day, func.min(c.checked_at), waiting).where(c.day > today - back * DAY)
    known = {day: (at, waited) for day, at, waited in conn.execute(counted.group_by(c.day))}
    found = []
    for ago in range(back - 1, -1, -1):
        at, waited = known.get(today - ago * DAY, (None, None))
        late = at is None or at <= now - _RECOUNTED_AFTER or (waited is not None and waited <= now - _WAITING_AFTER)
        if ago < 2 or late:
            found.append(today - ago * DAY)
    return found


def out_of_balance(conn: Connection, *, limit: int | None = None) -> list[Row[Any]]:
    """(app_id, day, off) of the days that are still counted again and whose two sides differed; newest first. Older
    ones are history (`days`): nothing would ever close them."""
    c = capi_ledger.c
    found = select(c.app_id, c.day, c.off).where(*_still_off(conn))
    return list(conn.execute(found.order_by(c.day.desc(), c.app_id).limit(limit)))


def days_off(conn: Connection) -> int:
    """How many `out_of_balance` finds in all."""
    return conn.scalar(select(func.count()).where(*_still_off(conn))) or 0


def _still_off(conn: Connection) -> tuple[ColumnElement[bool], ...]:
    c = capi_ledger.c
    newest = conn.scalar(select(func.max(c.day))) or datetime.max.replace(tzinfo=UTC)
    return c.off != literal_column("0"), c.day > newest - LOOKED_BACK * DAY


def days(
    conn: Connection, *, since: datetime, until: datetime | None = None, app_id: str | None = None
) -> list[tuple[str, datetime, Counts]]:
    """(App.id, day, counts) from this day on (up to that one, included), newest first."""
    c = capi_ledger.c
    wanted = select(c.app_id, c.day, *(c[one.name] for one in fields(Counts))).where(c.day >= since)
    wanted = wanted if app_id is None else wanted.where(c.app_id == app_id)
    wanted = wanted if until is None else wanted.where(c.day <= until)
    rows = conn.execute(wanted.order_by(c.day.desc(), c.app_id))
    return [(app, day, Counts(*numbers)) for app, day, *numbers in rows]


def short_of_orders(conn: Connection, day: datetime, *, share: float, least: int) -> list[str]:
    """App.ids whose accepted purchases were less than this share of the orders that Meta should have had that day, of
    `least` orders or more."""
    c = capi_ledger.c
    wanted = c.orders - c.kept_back
    short = select(c.app_id).where(c.day == day, wanted >= least, c.purchases < wanted * share)
    return list(conn.scalars(short.order_by(c.app_id)))


def why_missing(
    conn: Connection, app_id: str, since: datetime, until: datetime
) -> dict[datetime, dict[tuple[str, str | None], int]]:
    """Day (from `since` to `until`, both included) → (state, failure) → distinct orders of this app that Meta has not
    accepted, the most first; those that are kept back by a rule among them."""
    e = capi_event.c
    mine = e.app_id == app_id, e.event_name == literal("Purchase"), e.order_id.is_not(None)
    wanted = select(e.received_at, e.order_id, e.state, e.failure).where(*mine)
    rows = conn.execute(wanted.where(e.received_at >= since, e.received_at < until + DAY).order_by(e.id))
    last: dict[tuple[datetime, str], tuple[str, str | None]] = {}
    for row in rows:
        order = day_of(row.received_at), row.order_id
        if last.get(order, ("", None))[0] != "delivered":
            last[order] = row.state, row.failure
    found: dict[datetime, Counter[tuple[str, str | None]]] = defaultdict(Counter)
    for (day, _), why in last.items():
        if why[0] != "delivered":
            found[day][why] += 1
    return {day: dict(whys.most_common()) for day, whys in found.items()}


def forget(conn: Connection, before: datetime, limit: int) -> int:
    """Drop an old day's account, `limit` apps at a time; how many."""
    c = capi_ledger.c
    old = conn.execute(select(c.app_id, c.day).where(c.day < before).order_by(c.day).limit(limit)).all()
    if old:
        conn.execute(delete(capi_ledger).where(tuple_(c.app_id, c.day).in_([tuple(row) for row in old])))
    return len(old)
