"""What an order to send events again needs of the outbox: to look at them, to hold them still, to make them go now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Row, exists, select, update

from core.store.database import among
from core.store.schema import capi_event, capi_join, capi_outbox

_O = capi_outbox.c


def find(conn: Connection, ids: Sequence[int]) -> dict[int, Row]:
    """Stored payloads' rows by id, without the payload; none for what was delivered."""
    waits = exists().where(capi_join.c.event_id == _O.id).label("waits")
    ours = select(_O.id, _O.app_id, _O.pixel_id, _O.state, _O.deadline_at, capi_event.c.failure, waits)
    found = conn.execute(ours.join(capi_event, capi_event.c.id == _O.id).where(among(conn, _O.id, ids)))
    return {row.id: row for row in found}


def hold(conn: Connection, ids: Sequence[int]) -> None:
    """Nobody else moves, empties or delivers these until the transaction ends: what is found from now on stays so."""
    conn.execute(select(_O.id).where(among(conn, _O.id, ids)).order_by(_O.id).with_for_update()).all()


def hurry(conn: Connection, ids: Sequence[int], *, now: datetime) -> None:
    """Due events that wait for their next try go now; a parked one with all that wait for the same token."""
    asked, parked = among(conn, _O.id, ids), _O.state == "parked"
    held = select(_O.app_id, _O.parked_by).where(asked, parked).distinct().order_by(_O.app_id, _O.parked_by)
    for which in [(_O.app_id == row.app_id) & (_O.parked_by == row.parked_by) for row in conn.execute(held).all()]:
        conn.execute(update(capi_outbox).where(which, parked).values(next_attempt_at=now))
    conn.execute(update(capi_outbox).where(asked, _O.state == "due").values(next_attempt_at=now))
