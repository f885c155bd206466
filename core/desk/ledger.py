"""What a person may see of events whatever became of them: the latest ones, and whether all of them are there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, case, literal, select

from core.store import apps
from core.store import ledger as keeper
from core.store.platform_tables import app as app_table
from core.store.schema import capi_event, capi_pixel


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """One event and what became of it; `sending` is a due event whose pixel a worker holds."""

    id: int
    received_at: datetime
    app_name: str | None
    event_name: str
    event_id: str
    source: str
    order_id: str | None
    value: Decimal | None
    currency: str | None
    state: str
    failure: str | None
    attempts: int
    delivered_at: datetime | None
    after_refresh: bool


@dataclass(frozen=True, slots=True)
class Imbalance:
    """A day of an app of which what came in is not what stands there; `day` is the UTC day's beginning."""

    app_id: str
    day: datetime
    counts: keeper.Counts


def imbalances(conn: Connection, now: datetime, days: int = keeper.LOOKED_BACK) -> list[Imbalance]:
    """Every app and day, of the last ones, for which it does not hold that received = duplicate + accepted + skipped +
    dead + waiting: counted anew, in the one snapshot that `conn` shows, what is not folded yet included."""
    today = keeper.day_of(now)
    seen = [keeper.look(conn, today - ago * keeper.DAY) for ago in range(days)]
    return [Imbalance(id_, one.day, counts) for one in seen for id_, counts in one.counts.items() if counts.off]


def latest_events(
    conn: Connection, *, now: datetime, state: str | None = None, app: str | None = None, limit: int = 50
) -> list[LedgerLine]:
    """By our time-ordered id, newest first; `app` is the public appId or App.id. NotFound."""
    e = capi_event.c
    held = (e.state == "due") & (capi_pixel.c.lease_until > now)
    shown = case((held, literal("sending")), else_=e.state).label("state")
    columns = (e[name] for name in LedgerLine.__dataclass_fields__ if name in e and name != "state")
    wanted = (
        select(*columns, shown, app_table.c.name.label("app_name"))
        .join(app_table, app_table.c.id == e.app_id, isouter=True)
        .join(capi_pixel, capi_pixel.c.pixel_id == e.pixel_id, isouter=True)
    )
    if state is not None:
        wanted = wanted.where(shown == state)
    if app is not None:
        wanted = wanted.where(e.app_id == apps.find(conn, app).id)
    rows = conn.execute(wanted.order_by(e.id.desc()).limit(limit))
    return [LedgerLine(**row._mapping) for row in rows]
