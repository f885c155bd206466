"""What came in and went nowhere: refused requests and skipped events, counted and one by one.

Every question looks back a bounded time: the ids of events begin with the moment they came in, so that the primary
key answers it, and receipts have an index on theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, and_, func, select

from core.store import acceptance, apps
from core.store.platform_tables import app as app_table
from core.store.schema import capi_event, capi_receipt

# Many apps may have one name: what is counted is told apart by the id.
_APP = (app_table.c.name.label("app_name"), app_table.c.appId.label("public_id"))


@dataclass(frozen=True, slots=True)
class ReceiptCount:
    """How often requests of one app were refused or set aside for one reason."""

    app_name: str | None
    public_id: str | None
    source: str
    reason: str
    status: int
    count: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """One refused or set aside request."""

    id: int
    at: datetime
    app_name: str | None
    public_id: str | None
    shop_domain: str | None
    source: str
    reason: str
    status: int
    detail: str | None


@dataclass(frozen=True, slots=True)
class EventCount:
    """How many events of one app and name are in one state for one reason."""

    app_name: str | None
    public_id: str | None
    event_name: str
    state: str
    failure: str | None
    count: int


def receipt_counts(
    conn: Connection, *, since: datetime, app: str | None = None, reason: str | None = None
) -> list[ReceiptCount]:
    """By app, source, reason and status since a moment, the most frequent first. NotFound for an unknown app."""
    r = capi_receipt.c
    keys = (*_APP, r.source, r.reason, r.status)
    count = func.count().label("count")
    counted = select(*keys, count, func.min(r.at).label("first_at"), func.max(r.at).label("last_at"))
    rows = conn.execute(
        _receipts(conn, counted, since, app, reason).group_by(r.app_id, *keys).order_by(count.desc(), *keys)
    )
    return [ReceiptCount(**row._mapping) for row in rows]


def receipts(
    conn: Connection, *, since: datetime, app: str | None = None, reason: str | None = None, limit: int = 50
) -> list[Receipt]:
    """Single receipts since a moment, newest first. NotFound for an unknown app."""
    r = capi_receipt.c
    columns = (r.id, r.at, *_APP, r.shop_domain, r.source, r.reason, r.status, r.detail)
    rows = conn.execute(_receipts(conn, select(*columns), since, app, reason).order_by(r.id.desc()).limit(limit))
    return [Receipt(**row._mapping) for row in rows]


def event_counts(
    conn: Connection, *, since: datetime, state: str | None = None, app: str | None = None
) -> list[EventCount]:
    """Events that came in since a moment, by app, name, state and reason, the most frequent first. NotFound."""
    e = capi_event.c
    keys = (*_APP, e.event_name, e.state, e.failure)
    count = func.count().label("count")
    wanted = [e.id >= acceptance.first_id(since)]
    wanted += [e.state == state] if state is not None else []
    wanted += [e.app_id == apps.find(conn, app).id] if app is not None else []
    counted = select(*keys, count).join(app_table, app_table.c.id == e.app_id, isouter=True).where(and_(*wanted))
    rows = conn.execute(counted.group_by(e.app_id, *keys).order_by(count.desc(), *keys))
    return [EventCount(**row._mapping) for row in rows]


def _receipts(
    conn: Connection, columns: Select[tuple[object, ...]], since: datetime, app: str | None, reason: str | None
) -> Select[tuple[object, ...]]:
    r = capi_receipt.c
    wanted = columns.join(app_table, app_table.c.id == r.app_id, isouter=True).where(r.at >= since)
    if app is not None:
        wanted = wanted.where(r.app_id == apps.find(conn, app).id)
    return wanted if reason is None else wanted.where(r.reason == reason)
