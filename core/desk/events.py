"""What a person may see of events that did not arrive: the table page by page, grouped by cause, one in detail.

Every page reads the partial index on (state, deadline_at, id) from one end; a filter looks through at most `BOUND`
events of a state, and counts stop there too, so that the cost does not grow with history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)

from core.errors import Refused
from core.store.platform_tables import app
from core.store.schema import capi_app, capi_event, capi_pixel

BOUND = 100_000
NOT_ALL = "Choose a cause or a time, or search for something first: everything at once is not sent again"
STATES = ("parked", "dead", "due")


@dataclass(frozen=True, slots=True)
class View:
    """A way to look at failed events: which states, which deadlines, and from which end."""

    states: tuple[str, ...]
    still_in_time: bool = False
    latest_first: bool = False


VIEWS: dict[str, View] = {
    "still in time": View(STATES, still_in_time=True),
    "waiting": View(("parked",)),
    "retrying": View(("due",)),
    "dead": View(("dead",), latest_first=True),
}


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """One event that has not arrived. `state` is parked, dead, due, or sending; `failure` a word for `explain`."""

    id: int
    state: str
    failure: str | None
    app_id: str
    app_name: str | None
    shop: str | None
    pixel_id: str
    event_name: str
    event_id: str
    source: str
    order_id: str | None
    value: Decimal | None
    currency: str | None
    received_at: datetime
    deadline_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class Cause:
    """Events that did not arrive for one reason; `money` by currency, of all of them together."""

    state: str
    failure: str | None
    events: int
    apps: int
    oldest_at: datetime
    first_deadline_at: datetime
    money: dict[str, Decimal]


def failed_events(
    conn: Connection,
    *,
    now: datetime,
    view: str = "still in time",
    failure: str | None = None,
    search: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: tuple[datetime, int] | None = None,
    limit: int = 200,
) -> list[FailedEvent]:
    """Soonest deadline first (dead ones: latest first), received from `since` on and before `until`; the next page
    comes with `after` = the last row's (deadline_at, id). KeyError for an unknown view."""
    looked = VIEWS[view]
    wanted = _filters(failure, search, since, until)
    branches = [
        select(_branch(looked, state, wanted, now=now, after=after, limit=limit).subquery()) for state in looked.states
    ]
    keys = union_all(*branches).subquery("keys")
    rows = conn.execute(
        _lines(now)
        .join(keys, keys.c.id == capi_event.c.id)
        .order_by(*_ordered(keys.c.deadline_at, keys.c.id, looked))
        .limit(limit)
    )
    return [FailedEvent(**row._mapping) for row in rows]


def failed_total(
    conn: Connection,
    *,
    now: datetime,
    view: str,
    failure: str | None = None,
    search: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> int:
    """How many `failed_events` would list in all; a count of BOUND or more means "at least"."""
    looked = VIEWS[view]
    wanted = _filters(failure, search, since, until)
    total = 0
    for state in looked.states:
        base = _branch(looked, state, wanted, now=now, after=None, limit=BOUND)
        total += conn.scalar(select(func.count()).select_from(base.subquery())) or 0
    return total


def failed_ids(
    conn: Connection,
    *,
    now: datetime,
    view: str,
    failure: str | None = None,
    search: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    everything: bool = False,
) -> list[int]:
    """Ids of all that `failed_events` would list in all, BOUND of each state at most, the most urgent first.

    Refused without a cause, a search or a time, unless it was said that `everything` is meant.
    """
    wanted = _filters(failure, search, since, until)
    if not wanted and not everything:
        raise Refused(NOT_ALL)
    looked = VIEWS[view]
    return [
        id_
        for state in looked.states
        for id_ in conn.scalars(
            select(_branch(looked, state, wanted, now=now, after=None, limit=BOUND).subquery().c.id)
        )
    ]


def causes(conn: Connection, *, now: datetime) -> list[Cause]:
    """Failed events by reason, the most first; at most the BOUND most urgent of each state are looked at."""
    found: list[Cause] = []
    for state in STATES:
        base = _first(state, VIEWS["dead"] if state == "dead" else VIEWS["waiting"], now, None).limit(BOUND).subquery()
        own = base.c.failure.is_not(None) if state == "due" else literal_column("1") == literal_column("1")
        money = _money(conn, base, own)
        counted = (
            select(
                base.c.failure,
                func.count(),
                func.count(base.c.app_id.distinct()),
                func.min(base.c.received_at),
                func.min(base.c.deadline_at),
            )
            .where(own)
            .group_by(base.c.failure)
        )
        for failure, events, apps, oldest, deadline in conn.execute(counted):
            found.append(Cause(state, failure, events, apps, oldest, deadline, money.get(failure, {})))
    return sorted(found, key=lambda cause: (-cause.events, cause.state))


def _branch(
    looked: View,
    state: str,
    wanted: Sequence[Any],
    *,
    now: datetime,
    after: tuple[datetime, int] | None,
    limit: int,
) -> Select[Any]:
    """Keys of one state's events, from one end of its index. With filters, at most BOUND are looked through."""
    base = _first(state, looked, now, after)
    if state != "due" and not wanted:
        return base.limit(limit)
    near = base.limit(BOUND).subquery()
    passed = [condition(near.c) for condition in wanted]
    if state == "due":
        passed.append(near.c.failure.is_not(None))
    return select(near).where(*passed).order_by(*_ordered(near.c.deadline_at, near.c.id, looked)).limit(limit)


def _first(state: str, looked: View, now: datetime, after: tuple[datetime, int] | None) -> Select[Any]:
    e = capi_event.c
    columns = (e.id, e.deadline_at, e.failure, e.app_id, e.order_id, e.event_id, e.pixel_id)
    wanted = select(*columns, e.received_at, e.value, e.currency).where(in_state(state))
    if looked.still_in_time:
        wanted = wanted.where(e.deadline_at > now)
    if after is not None:
        key = tuple_(e.deadline_at, e.id)
        there = tuple_(*after, types=[e.deadline_at.type, e.id.type])
        wanted = wanted.where(key < there if looked.latest_first else key > there)
    return wanted.order_by(*_ordered(e.deadline_at, e.id, looked))


def _ordered(deadline: Any, id_: Any, looked: View) -> tuple[Any, Any]:
    return (deadline.desc(), id_.desc()) if looked.latest_first else (deadline, id_)


def in_state(state: str) -> ColumnElement[bool]:
    """A state written into the SQL together with the partial index's own condition: SQLite uses such an index only
    where that condition stands in the query word for word (https://www.sqlite.org/partialindex.html)."""
    known = capi_event.c.state.in_([literal_column(f"'{word}'") for word in ("due", "parked", "dead")])
    return and_(capi_event.c.state == literal_column(f"'{state}'"), known)


def _filters(failure: str | None, search: str | None, since: datetime | None, until: datetime | None) -> list[Any]:
    """Conditions to be put on a branch's columns."""
    wanted: list[Any] = [lambda c: c.failure == failure] if failure else []
    if since is not None:
        wanted.append(lambda c: c.received_at >= since)
    if until is not None:
        wanted.append(lambda c: c.received_at < until)
    text = (search or "").strip()
    if text:
        names = (app.c.name, capi_app.c.shop_domain, app.c.appId)
        mine = select(app.c.id).join(capi_app, capi_app.c.app_id == app.c.id, isouter=True)
        apps = mine.where(or_(*(name.icontains(text, autoescape=True) for name in names)))
        wanted.append(lambda c: or_(c.app_id.in_(apps), c.order_id == text, c.event_id == text, c.pixel_id == text))
    return wanted


def _lines(now: datetime) -> Select[Any]:
    e = capi_event.c
    sending = and_(e.state == "due", capi_pixel.c.lease_until > now)
    plain = [e[name] for name in FailedEvent.__dataclass_fields__ if name in e and name != "state"]
    return (
        select(
            *plain,
            case((sending, "sending"), else_=e.state).label("state"),
            app.c.name.label("app_name"),
            capi_app.c.shop_domain.label("shop"),
        )
        .join(app, app.c.id == e.app_id, isouter=True)
        .join(capi_app, capi_app.c.app_id == e.app_id, isouter=True)
        .join(capi_pixel, capi_pixel.c.pixel_id == e.pixel_id, isouter=True)
    )


def _money(conn: Connection, base: Any, own: Any) -> dict[str | None, dict[str, Decimal]]:
    summed = (
        select(base.c.failure, base.c.currency, func.sum(base.c.value))
        .where(own, base.c.value.is_not(None), base.c.currency.is_not(None))
        .group_by(base.c.failure, base.c.currency)
    )
    money: dict[str | None, dict[str, Decimal]] = {}
    for failure, currency, value in conn.execute(summed):
        money.setdefault(failure, {})[currency] = Decimal(value).quantize(Decimal("0.01"))
    return money
