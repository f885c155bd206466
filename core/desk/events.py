"""What a person may see of events that did not arrive: the table page by page, grouped by cause, one in detail.

Every page reads the partial index on (state, deadline_at, id) from one end, so that the cost does not grow with what
was delivered. Ids are time-ordered: a period is told apart in that index, too, which is looked through to the end of a
state where the period holds little. A cause or a search, and which of what is due has failed before, looks through at
most `BOUND` events of a state (and of the period); counts stop there.
"""

from __future__ import annotations

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
from core.store.acceptance import first_id
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
class Filters:
    """Which failed events are meant: of a view (VIEWS), failed so, found by a search (a shop, app, order, event id or
    pixel), received from `since` on and before `until`: when what waits to be sent came in, by its id."""

    view: str = "still in time"
    failure: str | None = None
    search: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def text(self) -> str:
        return (self.search or "").strip()

    @property
    def narrow(self) -> bool:
        """Whether they leave anything out beside the view."""
        return bool(self.failure or self.text or self.since or self.until)


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
    filters: Filters,
    *,
    now: datetime,
    after: tuple[datetime, int] | None = None,
    limit: int = 200,
) -> list[FailedEvent]:
    """Soonest deadline first (dead ones: latest first); the next page comes with `after` = the last row's
    (deadline_at, id). KeyError for an unknown view."""
    looked = VIEWS[filters.view]
    branches = [
        select(_branch(state, filters, now=now, after=after, limit=limit).subquery()) for state in looked.states
    ]
    keys = union_all(*branches).subquery("keys")
    rows = conn.execute(
        _lines(now)
        .join(keys, keys.c.id == capi_event.c.id)
        .order_by(*_ordered(keys.c.deadline_at, keys.c.id, looked))
        .limit(limit)
    )
    return [FailedEvent(**row._mapping) for row in rows]


def failed_total(conn: Connection, filters: Filters, *, now: datetime) -> int:
    """How many `failed_events` would list in all; a count of BOUND or more means "at least"."""
    found = (_branch(state, filters, now=now, limit=BOUND).subquery() for state in VIEWS[filters.view].states)
    return sum(conn.scalar(select(func.count()).select_from(base)) or 0 for base in found)


def failed_ids(conn: Connection, filters: Filters, *, now: datetime, everything: bool = False) -> list[int]:
    """Ids of all that `failed_events` would list in all, BOUND of each state at most, the most urgent first.

    Refused without a cause, a search or a time, unless it was said that `everything` is meant.
    """
    if not filters.narrow and not everything:
        raise Refused(NOT_ALL)
    found = (_branch(state, filters, now=now, limit=BOUND).subquery() for state in VIEWS[filters.view].states)
    return [id_ for base in found for id_ in conn.scalars(select(base.c.id))]


def causes(conn: Connection, *, now: datetime) -> list[Cause]:
    """Failed events by reason, the most first; at most the BOUND most urgent of each state are looked at."""
    found: list[Cause] = []
    for state in STATES:
        looked = Filters(view="dead" if state == "dead" else "waiting")
        base = _first(state, looked, now, None).limit(BOUND).subquery()
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
    state: str, filters: Filters, *, now: datetime, after: tuple[datetime, int] | None = None, limit: int
) -> Select[Any]:
    """Keys of one state's events, from one end of its index; a cause or a search looks through BOUND at most."""
    base = _first(state, filters, now, after)
    if state != "due" and not filters.failure and not filters.text:
        return base.limit(limit)
    near = base.limit(BOUND).subquery()
    passed = [near.c.failure == filters.failure] if filters.failure else []
    if filters.text:
        passed.append(_searched(near.c, filters.text))
    if state == "due":
        passed.append(near.c.failure.is_not(None))
    ordered = _ordered(near.c.deadline_at, near.c.id, VIEWS[filters.view])
    return select(near).where(*passed).order_by(*ordered).limit(limit)


def _first(state: str, filters: Filters, now: datetime, after: tuple[datetime, int] | None) -> Select[Any]:
    e, looked = capi_event.c, VIEWS[filters.view]
    columns = (e.id, e.deadline_at, e.failure, e.app_id, e.order_id, e.event_id, e.pixel_id)
    wanted = select(*columns, e.received_at, e.value, e.currency).where(in_state(state))
    if looked.still_in_time:
        wanted = wanted.where(e.deadline_at > now)
    if filters.since is not None:
        wanted = wanted.where(e.id >= _first_of(filters.since))
    if filters.until is not None:
        wanted = wanted.where(e.id < _first_of(filters.until))
    if after is not None:
        key = tuple_(e.deadline_at, e.id)
        there = tuple_(*after, types=[e.deadline_at.type, e.id.type])
        wanted = wanted.where(key < there if looked.latest_first else key > there)
    return wanted.order_by(*_ordered(e.deadline_at, e.id, looked))


def _first_of(moment: datetime) -> int:
    """The smallest id that an event received at this moment can have, within what a database takes for an id."""
    return max(0, min(first_id(moment), 2**63 - 1))


def _ordered(deadline: Any, id_: Any, looked: View) -> tuple[Any, Any]:
    return (deadline.desc(), id_.desc()) if looked.latest_first else (deadline, id_)


def in_state(state: str) -> ColumnElement[bool]:
    """A state written into the SQL together with the partial index's own condition: SQLite uses such an index only
    where that condition stands in the query word for word (https://www.sqlite.org/partialindex.html)."""
    known = capi_event.c.state.in_([literal_column(f"'{word}'") for word in ("due", "parked", "dead")])
    return and_(capi_event.c.state == literal_column(f"'{state}'"), known)


def _searched(columns: Any, text: str) -> ColumnElement[bool]:
    names = (app.c.name, capi_app.c.shop_domain, app.c.appId)
    mine = select(app.c.id).join(capi_app, capi_app.c.app_id == app.c.id, isouter=True)
    apps = mine.where(or_(*(name.icontains(text, autoescape=True) for name in names)))
    c = columns
    return or_(c.app_id.in_(apps), c.order_id == text, c.event_id == text, c.pixel_id == text)


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
