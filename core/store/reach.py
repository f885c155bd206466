"""The keeper of reach: whether Meta lets a token use a pixel, since when, and with what words it refused."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, delete, select, text

from core.meta.graph import GraphError
from core.store.database import insert_into
from core.store.schema import capi_outbox, capi_reach

# Asked twice for every batch: made once.
_REACHED = select(capi_reach.c.reached).where(
    capi_reach.c.fingerprint == bindparam("fingerprint"), capi_reach.c.pixel_id == bindparam("pixel")
)


def note(
    conn: Connection,
    fingerprint: str,
    pixel_id: str,
    *,
    reached: bool,
    now: datetime,
    error: GraphError | None = None,
) -> None:
    """Write down what a call showed; `since` moves only when the answer is another than before."""
    said = {
        "reached": reached,
        "checked_at": now,
        "code": error.code if error else None,
        "subcode": error.subcode if error else None,
        "words": (error.words or str(error)) if error else None,
        "trace_id": error.trace_id if error else None,
    }
    new = insert_into(conn, capi_reach).values(fingerprint=fingerprint, pixel_id=pixel_id, since=now, **said)
    since = case((capi_reach.c.reached == new.excluded.reached, capi_reach.c.since), else_=new.excluded.since)
    conn.execute(new.on_conflict_do_update(index_elements=["fingerprint", "pixel_id"], set_=said | {"since": since}))


def is_barred(conn: Connection, fingerprint: str, pixel_id: str) -> bool:
    """Whether Meta said last that this token may not use this pixel."""
    return conn.scalar(_REACHED, {"fingerprint": fingerprint, "pixel": pixel_id}) is False


def regained(conn: Connection, *, now: datetime) -> list[tuple[str, str]]:
    """(pixel, fingerprint) that Meta lets through again while events still wait for their next try."""
    o, r = capi_outbox.c, capi_reach.c
    same = (r.fingerprint == o.parked_by) & (r.pixel_id == o.pixel_id) & r.reached.is_(True)
    waiting = select(o.pixel_id, o.parked_by).join(capi_reach, same).where(text("state = 'parked'"))
    return [(row[0], row[1]) for row in conn.execute(waiting.where(o.next_attempt_at > now).distinct())]


def of(conn: Connection, fingerprint: str) -> list[Row[Any]]:
    """What is known of each pixel that this token was tried on, by pixel."""
    mine = select(capi_reach).where(capi_reach.c.fingerprint == fingerprint)
    return list(conn.execute(mine.order_by(capi_reach.c.pixel_id)))


def of_many(conn: Connection, fingerprints: Collection[str]) -> list[Row[Any]]:
    """The same for several tokens, at most a thousand."""
    r = capi_reach.c
    return list(conn.execute(select(capi_reach).where(r.fingerprint.in_(fingerprints)).order_by(r.pixel_id)))


def keep_only(conn: Connection, fingerprint: str, pixel_ids: Collection[str]) -> None:
    """Forget what is known of pixels that no holder of this token sends to any more."""
    r = capi_reach.c
    conn.execute(delete(capi_reach).where(r.fingerprint == fingerprint, r.pixel_id.not_in(pixel_ids)))
