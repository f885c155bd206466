"""What a person may see of incidents: what is wrong for everybody, since when, and how much waits for its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from core.store import incidents, outbox
from core.store.schema_recovery import capi_incident


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """`probe_at`: when one call is let through again. `waited` is known at the end, `waiting_now` until then."""

    id: int
    kind: str
    opened_at: datetime
    seen_at: datetime
    refusals: int
    code: int | None
    subcode: int | None
    words: str | None
    trace_id: str | None
    probe_at: datetime
    closed_at: datetime | None
    waited: int | None
    waiting_now: int

    @property
    def is_open(self) -> bool:
        return self.closed_at is None


def open_incidents(conn: Connection, now: datetime) -> list[IncidentRow]:
    """Oldest first; usually there is none."""
    found = incidents.open_ones(conn)
    waiting = outbox.count_due(conn, now=now) if found else 0
    return [_row(row, waiting) for row in found]


def incident_history(conn: Connection, limit: int = 50) -> list[IncidentRow]:
    """Newest first, open ones among them."""
    wanted = select(capi_incident).order_by(capi_incident.c.opened_at.desc(), capi_incident.c.id.desc())
    return [_row(row, 0) for row in conn.execute(wanted.limit(limit))]


def _row(row: Row[Any], waiting: int) -> IncidentRow:
    own = {name: row._mapping[name] for name in IncidentRow.__dataclass_fields__ if name != "waiting_now"}
    return IncidentRow(**own, waiting_now=waiting)
