"""The keeper of incidents: what is wrong for all of us at once, one open row for each kind.

Its rows are written in short transactions of their own, or as the last thing of another.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, or_, select, update

from core.store.database import insert_into
from core.store.schema_recovery import capi_incident

_I = capi_incident.c
# Asked for every batch: made once.
_CURRENT = (
    select(capi_incident)
    .where(_I.closed_at.is_(None) | ((_I.closed_at > bindparam("since")) & (_I.closed_at <= bindparam("now"))))
    .order_by(_I.opened_at, _I.id)
)


def open_ones(conn: Connection) -> list[Row[Any]]:
    """The incidents that have not ended, oldest first."""
    return list(conn.execute(select(capi_incident).where(_I.closed_at.is_(None)).order_by(_I.opened_at, _I.id)))


def is_open(conn: Connection) -> bool:
    return bool(open_ones(conn))


def get(conn: Connection, incident_id: int) -> Row[Any] | None:
    return conn.execute(select(capi_incident).where(_I.id == incident_id)).first()


def note(
    conn: Connection,
    kind: str,
    *,
    now: datetime,
    probe_at: datetime,
    code: int | None = None,
    subcode: int | None = None,
    words: str = "",
    trace_id: str | None = None,
    at_least: bool = False,
) -> tuple[int, bool]:
    """One refusal more of this kind: the incident's id, and whether it is new.

    `at_least`: no probe before `probe_at`, also when the incident was open already (Meta named the time).
    """
    said = {"code": code, "subcode": subcode, "words": words, "trace_id": trace_id, "seen_at": now}
    again: dict[str, Any] = said | {"refusals": _I.refusals + 1}
    fresh = insert_into(conn, capi_incident).values(kind=kind, opened_at=now, probe_at=probe_at, **said)
    if at_least:
        later = func.max if conn.dialect.name == "sqlite" else func.greatest
        again["probe_at"] = later(_I.probe_at, fresh.excluded.probe_at)
    opened = fresh.on_conflict_do_update(index_elements=["kind"], index_where=_I.closed_at.is_(None), set_=again)
    row = conn.execute(opened.returning(_I.id, _I.refusals)).one()
    return row.id, row.refusals == 1


def take_probe(conn: Connection, incident: Row[Any], *, now: datetime, next_at: datetime, farthest: datetime) -> bool:
    """The right to let one call through; True for the one worker who was first. The next probe is at `next_at`.

    A time after `farthest` was written by a clock that has been set back since: it has come, too.
    """
    come = or_(_I.probe_at <= now, _I.probe_at > farthest)
    mine = update(capi_incident).where(_I.id == incident.id, _I.closed_at.is_(None), _I.probes == incident.probes, come)
    return conn.execute(mine.values(probes=_I.probes + 1, probe_at=next_at)).rowcount == 1


def close(conn: Connection, incident_id: int, *, now: datetime, waited: int, pace: int | None = None) -> bool:
    """It is over; True for the first who says so. `pace`: calls a minute that follow at most, for a while."""
    over = update(capi_incident).where(_I.id == incident_id, _I.closed_at.is_(None))
    return conn.execute(over.values(closed_at=now, waited=waited, pace=pace)).rowcount == 1


def current(conn: Connection, *, since: datetime, now: datetime) -> list[Row[Any]]:
    """Those that are open, and those that ended after `since`; none that ended later than `now`."""
    return list(conn.execute(_CURRENT, {"since": since, "now": now}))
