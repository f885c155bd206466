"""The keeper of pixels: who works on one (a lease, fenced by an epoch), and until when nobody may."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, or_, select, update

from core.errors import Conflict
from core.store import outbox, waits
from core.store.database import insert_into
from core.store.schema import capi_pixel

# Longer than one request may take; every acknowledgement renews it.
LEASE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to send for one pixel, until somebody takes it over."""

    pixel_id: str
    by: str
    epoch: int
    failures: int


def take(conn: Connection, pixel_id: str, *, by: str, now: datetime) -> Lease | None:
    """The lease, or None while somebody holds it or the pixel must wait."""
    p = capi_pixel.c
    held = {"lease_by": by, "lease_until": now + LEASE}
    free = or_(p.lease_until.is_(None), p.lease_until <= now) & or_(p.wait_until.is_(None), p.wait_until <= now)
    mine = update(capi_pixel).where(p.pixel_id == pixel_id, free).values(**held, epoch=p.epoch + 1)
    row = conn.execute(mine.returning(p.epoch, p.failures)).first()
    if row is None:  # somebody has it, or nobody has ever had it
        new = insert_into(conn, capi_pixel).values(pixel_id=pixel_id, **held, epoch=1).on_conflict_do_nothing()
        row = conn.execute(new.returning(p.epoch, p.failures)).first()
    return Lease(pixel_id, by, row.epoch, row.failures) if row else None


def renew(conn: Connection, lease: Lease, *, now: datetime) -> None:
    """Keep the lease; Conflict when it was lost: then nothing of this transaction may be kept."""
    _change(conn, lease, lease_until=now + LEASE)


def accepted(conn: Connection, lease: Lease, *, now: datetime) -> None:
    """Meta took a request: keep the lease and forget earlier refusals."""
    _change(conn, lease, lease_until=now + LEASE, failures=0)


def hold_back(conn: Connection, lease: Lease, *, until: datetime, failure: str) -> None:
    """No request for this pixel before `until`; gives the lease up."""
    wait = waits.until(capi_pixel, until, failure)
    _change(conn, lease, lease_by=None, lease_until=None, failures=capi_pixel.c.failures + 1, **wait)


def rest(conn: Connection, lease: Lease, *, until: datetime, failure: str) -> None:
    """Meta took the request but would refuse the next: none before `until`; gives the lease up."""
    _change(conn, lease, lease_by=None, lease_until=None, **waits.until(capi_pixel, until, failure))


def give_up(conn: Connection, lease: Lease) -> None:
    """End the lease; nothing when it was lost already."""
    conn.execute(update(capi_pixel).where(_mine(lease)).values(lease_by=None, lease_until=None))


def give_up_idle(conn: Connection, lease: Lease, *, now: datetime) -> bool:
    """End the lease unless something of its pixel may go now; whether it has ended."""
    idle = update(capi_pixel).where(_mine(lease), ~outbox.is_due(lease.pixel_id, now=now))
    return conn.execute(idle.values(lease_by=None, lease_until=None)).rowcount == 1


def free_leases(conn: Connection, by: str) -> None:
    """End every lease of a worker that stops; each pixel is locked after those before it, as `resume` does."""
    p = capi_pixel.c
    conn.execute(select(p.pixel_id).where(p.lease_by == by).order_by(p.pixel_id).with_for_update()).all()
    conn.execute(update(capi_pixel).where(p.lease_by == by).values(lease_by=None, lease_until=None))


def resume(conn: Connection, pixel_ids: Collection[str]) -> None:
    """Let these pixels be tried at once; each is locked after those before it, so that two who do so never cross.

    Those that wait for nothing are left alone: to lock a pixel is to stand in the way of whoever delivers for it.
    """
    p, values = capi_pixel.c, {"wait_until": None, "wait_failure": None}
    waiting = select(p.pixel_id).where(p.pixel_id.in_(pixel_ids), p.wait_until.is_not(None))
    for pixel_id in sorted(conn.scalars(waiting)):
        conn.execute(update(capi_pixel).where(p.pixel_id == pixel_id).values(**values))


def _mine(lease: Lease) -> ColumnElement[bool]:
    p = capi_pixel.c
    return (p.pixel_id == lease.pixel_id) & (p.lease_by == lease.by) & (p.epoch == lease.epoch)


def _change(conn: Connection, lease: Lease, **values: object) -> None:
    if conn.execute(update(capi_pixel).where(_mine(lease)).values(**values)).rowcount != 1:
        raise Conflict("another worker took this pixel over")
