"""The keeper of pixels: who works on one (a lease, fenced by an epoch), and until when nobody may."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Update, bindparam, or_, select, update

from core.errors import Conflict
from core.store import ready, waits
from core.store.database import insert_into
from core.store.schema import capi_pixel

# Longer than one request may take; every acknowledgement renews it.
LEASE = timedelta(seconds=30)

# Statements that every batch needs are made once: making one costs several times as much as running it.
_P, _FREED = capi_pixel.c, {"lease_by": None, "lease_until": None}
_FREE = or_(_P.lease_until.is_(None), _P.lease_until <= bindparam("now")) & or_(
    _P.wait_until.is_(None), _P.wait_until <= bindparam("now")
)
_TAKE = (
    update(capi_pixel)
    .where(_P.pixel_id == bindparam("pixel"), _FREE)
    .values(lease_by=bindparam("by"), lease_until=bindparam("until"), epoch=_P.epoch + 1)
    .returning(_P.epoch, _P.failures)
)
_MINE = update(capi_pixel).where(
    _P.pixel_id == bindparam("pixel"), _P.lease_by == bindparam("by"), _P.epoch == bindparam("known")
)
_KEEP = _MINE.values(lease_until=bindparam("until"))
_ACCEPTED = _KEEP.values(failures=0)
_GIVE_UP = _MINE.values(_FREED)
_GIVE_UP_IDLE = _GIVE_UP.where(~ready.OF_PIXEL.exists())


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to send for one pixel, until somebody takes it over."""

    pixel_id: str
    by: str
    epoch: int
    failures: int


def take(conn: Connection, pixel_id: str, *, by: str, now: datetime) -> Lease | None:
    """The lease, or None while somebody holds it or the pixel must wait."""
    held = {"by": by, "until": now + LEASE}
    row = conn.execute(_TAKE, {"pixel": pixel_id, "now": now, **held}).first()
    if row is None:  # somebody has it, or nobody has ever had it
        first = {"lease_by": by, "lease_until": now + LEASE, "epoch": 1}
        new = insert_into(conn, capi_pixel).values(pixel_id=pixel_id, **first).on_conflict_do_nothing()
        row = conn.execute(new.returning(_P.epoch, _P.failures)).first()
    return Lease(pixel_id, by, row.epoch, row.failures) if row else None


def renew(conn: Connection, lease: Lease, *, now: datetime) -> None:
    """Keep the lease; Conflict when it was lost: then nothing of this transaction may be kept."""
    _change(conn, lease, _KEEP, until=now + LEASE)


def accepted(conn: Connection, lease: Lease, *, now: datetime) -> None:
    """Meta took a request: keep the lease and forget earlier refusals."""
    _change(conn, lease, _ACCEPTED, until=now + LEASE)


def hold_back(conn: Connection, lease: Lease, *, until: datetime, failure: str) -> None:
    """No request for this pixel before `until`; gives the lease up."""
    wait = waits.until(capi_pixel, until, failure)
    _change(conn, lease, _GIVE_UP.values(failures=_P.failures + 1, **wait))


def rest(conn: Connection, lease: Lease, *, until: datetime, failure: str) -> None:
    """Meta took the request but would refuse the next: none before `until`; gives the lease up."""
    _change(conn, lease, _GIVE_UP.values(waits.until(capi_pixel, until, failure)))


def give_up(conn: Connection, lease: Lease) -> None:
    """End the lease; nothing when it was lost already."""
    conn.execute(_GIVE_UP, _names(lease))


def give_up_idle(conn: Connection, lease: Lease, *, now: datetime) -> bool:
    """End the lease unless something of its pixel may go now; whether it has ended."""
    return conn.execute(_GIVE_UP_IDLE, {**_names(lease), "now": now}).rowcount == 1


def free_leases(conn: Connection, by: str) -> None:
    """End every lease of a worker that stops; each pixel is locked after those before it, as `resume` does."""
    conn.execute(select(_P.pixel_id).where(_P.lease_by == by).order_by(_P.pixel_id).with_for_update()).all()
    conn.execute(update(capi_pixel).where(_P.lease_by == by).values(_FREED))


def resume(conn: Connection, pixel_ids: Collection[str]) -> None:
    """Let these pixels be tried at once; each is locked after those before it, so that two who do so never cross.

    Those that wait for nothing are left alone: to lock a pixel is to stand in the way of whoever delivers for it.
    """
    p, values = capi_pixel.c, {"wait_until": None, "wait_failure": None}
    waiting = select(p.pixel_id).where(p.pixel_id.in_(pixel_ids), p.wait_until.is_not(None))
    for pixel_id in sorted(conn.scalars(waiting)):
        conn.execute(update(capi_pixel).where(p.pixel_id == pixel_id).values(**values))


def _names(lease: Lease) -> dict[str, object]:
    return {"pixel": lease.pixel_id, "by": lease.by, "known": lease.epoch}


def _change(conn: Connection, lease: Lease, change: Update, **values: object) -> None:
    if conn.execute(change, _names(lease) | values).rowcount != 1:
        raise Conflict("another worker took this pixel over")
