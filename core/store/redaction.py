"""The keeper of what must be forgotten: what is held of a person or a shop, and how far a job that erases it is.

Rows of other keepers are emptied by those keepers; here is how they are found, and what has no other writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, and_, exists, or_, select

from core.store import pixels
from core.store.database import chunks
from core.store.schema import (
    capi_alias,
    capi_app,
    capi_event,
    capi_job,
    capi_join,
    capi_outbox,
    capi_pixel,
    capi_receipt,
)

# Rows touched in one transaction, and rows looked at in one reading.
CHUNK = 500
LOOKED_AT = 5_000
# What a shop's redaction consists of, one item each.
SHOP_PARTS = ("payloads", "orders", "browsers", "aliases", "receipts")
_KIND_OF = {"purchase": "checkout", "checkout": "checkout", "cart": "cart", "order": "order"}


class Subject(NamedTuple):
    """One item of a job about personal data, as `capi_job_item.subject` holds it: never a person in the clear.

    `value`: for a `customer` digests with commas between, for an `order` its id.
    """

    what: str
    value: str
    app_id: str

    def __str__(self) -> str:
        return f"{self.what} {self.value} {self.app_id}"

    @classmethod
    def of(cls, written: str) -> Subject:
        return cls(*written.split(" ", 2))


def paused_for(conn: Connection, app_ids: Iterable[str], reason: str) -> set[str]:
    """Those of these apps that are paused for this reason already."""
    a = capi_app.c
    rows = select(a.app_id).where(a.app_id.in_(list(app_ids)), a.paused_at.is_not(None), a.paused_reason == reason)
    return set(conn.scalars(rows))


def was_ordered(conn: Connection, kind: str, reason: str, *, since: datetime) -> bool:
    """Whether such a job was ordered lately, ended or not: `core.store.jobs.order` only finds an open one."""
    j = capi_job.c
    alike = exists().where(j.created_at > since, j.kind == kind, j.reason == reason, j.state != "cancelled")
    return bool(conn.scalar(select(alike)))


def hold_still(conn: Connection, pixel_id: str, *, by: str, now: datetime) -> bool:
    """Whether nobody is sending for this pixel; if so, nobody begins to before this transaction has ended."""
    lease = pixels.take(conn, pixel_id, by=by, now=now)
    if lease is not None:
        pixels.give_up(conn, lease)  # the row stays locked
        return True
    # Leased, or free and waiting out a refusal.
    p = capi_pixel.c
    until = conn.scalar(select(p.lease_until).where(p.pixel_id == pixel_id).with_for_update())
    return until is None or until <= now


def payloads(conn: Connection, app_id: str, *, after: int) -> list[Row[Any]]:
    """(id, pixel_id, payload) of stored payloads in the order of their ids; the next ones come with the last id."""
    o = capi_outbox.c
    held = select(o.id, o.pixel_id, o.payload).where(o.app_id == app_id, o.id > after, o.payload != b"")
    return list(conn.execute(held.order_by(o.id).limit(LOOKED_AT)))


def of_order(conn: Connection, app_id: str, order_id: str) -> list[tuple[str, int]]:
    """(pixel, id) of every ledger line of an order, told by whomever under whichever of its names."""
    e, a = capi_event.c, capi_alias.c
    named = conn.scalars(select(a.event_id).where(a.app_id == app_id, a.alias == f"order:{order_id}"))
    # Two questions, since an OR of them would read every line of the app.
    wanted = (e.order_id == order_id, e.id.in_(named.all()))
    return sorted(
        {
            (row.pixel_id, row.id)
            for where in wanted
            for row in conn.execute(select(e.pixel_id, e.id).where(e.app_id == app_id, where))
        }
    )


def with_order(conn: Connection, app_id: str) -> list[int]:
    """Ids of ledger lines of an app that name an order; at most LOOKED_AT."""
    e = capi_event.c
    return list(conn.scalars(select(e.id).where(e.app_id == app_id, e.order_id.is_not(None)).limit(LOOKED_AT)))


def still_held(conn: Connection, ids: Sequence[int]) -> set[int]:
    """Those of these events whose payload is stored."""
    o = capi_outbox.c
    return set(conn.scalars(select(o.id).where(o.id.in_(ids), o.payload != b"")))


def any_due(conn: Connection, ids: Sequence[int]) -> bool:
    o = capi_outbox.c
    return bool(conn.scalar(select(exists().where(o.id.in_(ids), o.state == "due", o.payload != b""))))


def lines(conn: Connection, ids: Sequence[int]) -> list[Row[Any]]:
    """The ledger lines of these events, each with its payload where that is stored."""
    found: list[Row[Any]] = []
    for chunk in chunks(ids, CHUNK):
        both = select(capi_event, capi_outbox.c.payload)
        both = both.join(capi_outbox, capi_outbox.c.id == capi_event.c.id, isouter=True)
        found += conn.execute(both.where(capi_event.c.id.in_(chunk)).order_by(capi_event.c.id))
    return found


def browser_keys(conn: Connection, ids: Sequence[int]) -> set[tuple[str, str]]:
    """(kind, key) under which the browsers of these events may have been seen."""
    e, a, j = capi_event.c, capi_alias.c, capi_join.c
    pairs = [name.split(".", 1) for name in conn.scalars(select(e.event_id).where(e.id.in_(ids))) if "." in name]
    pairs += [name.split(":", 1) for name in conn.scalars(select(a.alias).where(a.event_id.in_(ids)))]
    keys = {(_KIND_OF[kind], key) for kind, key in pairs if kind in _KIND_OF}
    for row in conn.execute(select(j.cart, j.checkout, j.fbp).where(j.event_id.in_(ids))):
        keys |= {(kind, key) for kind, key in row._mapping.items() if key}
    return keys


def waits_of(conn: Connection, app_id: str) -> list[int]:
    """Ids of events of an app that wait for their browser; at most LOOKED_AT."""
    j = capi_join.c
    return list(conn.scalars(select(j.event_id).where(j.app_id == app_id).limit(LOOKED_AT)))


def telling_receipts(conn: Connection, app_id: str) -> list[int]:
    """Ids of receipts of an app that name its shop or hold a detail; at most LOOKED_AT."""
    r = capi_receipt.c
    told = or_(r.shop_domain.is_not(None), r.detail.is_not(None))
    return list(conn.scalars(select(r.id).where(and_(r.app_id == app_id, told)).limit(LOOKED_AT)))
