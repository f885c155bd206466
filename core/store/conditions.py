"""What may be wrong at this moment, read from the tables: the questions that the alerts' scan asks. Reads only.

Each is answered from an index or from a table that grows with tokens, never with events that were delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, or_, select, text, type_coerce
from sqlalchemy.types import Float

from core.store.acceptance import first_id
from core.store.database import chunks
from core.store.platform_tables import app, app_settings, user
from core.store.schema import (
    capi_app,
    capi_attempt,
    capi_case,
    capi_event,
    capi_heartbeat,
    capi_incident,
    capi_outbox,
    capi_refresh,
    capi_token,
)
from core.store.types import PlatformMoment

_LOOKUPS = 500


@dataclass(frozen=True, slots=True)
class Waiting:
    """Events of one app (or token) that wait: how many, and when the first of them is lost."""

    events: int
    first_lost_at: datetime


def needing_reconnect(conn: Connection) -> list[Row[Any]]:
    """(fingerprint, broken_since) of tokens that some app holds and only their owner can mend."""
    t = capi_token.c
    lost = select(t.fingerprint, t.broken_since).where(t.broken_since.is_not(None), t.needs_reconnect)
    return list(conn.execute(lost.where(_held(t.fingerprint))))


def on_trial(conn: Connection, *, since: datetime) -> list[Row[Any]]:
    """(fingerprint, broken_since) of held tokens that work again by Meta's word since then, and that no request has
    shown to work."""
    c, a = capi_case.c, capi_attempt.c
    proved = exists().where(a.at >= c.done_at, a.fingerprint == c.fingerprint, a.failure.is_(None))
    ended = select(c.fingerprint, func.min(c.made_at).label("broken_since")).where(c.done_at > since)
    return list(conn.execute(ended.where(_held(c.fingerprint), ~proved).group_by(c.fingerprint)))


def _held(fingerprint: ColumnElement[Any]) -> ColumnElement[bool]:
    return exists().where(capi_app.c.fingerprint == fingerprint, capi_app.c.app_id == app.c.id)


def failing_refreshes(conn: Connection) -> list[Row[Any]]:
    """(fingerprint, failures, outcome, started_at) of tokens whose last refresh came to nothing."""
    t, r = capi_token.c, capi_refresh.c
    last = select(func.max(r.id)).where(r.fingerprint == t.fingerprint).correlate(capi_token).scalar_subquery()
    failing = select(t.fingerprint, t.failures, r.outcome, r.started_at).join(capi_refresh, r.id == last)
    return list(conn.execute(failing.where(t.failures > 0, t.needs_reconnect.is_(False))))


def incident_windows(conn: Connection, *, since: datetime) -> list[tuple[datetime, datetime | None]]:
    """When an incident was open, since then: what failed meanwhile was no fault of a token."""
    i = capi_incident.c
    current = select(i.opened_at, i.closed_at).where(or_(i.closed_at.is_(None), i.closed_at >= since))
    return [(row.opened_at, row.closed_at) for row in conn.execute(current)]


def ending_tokens(conn: Connection, *, before: datetime, known_before: datetime) -> list[Row[Any]]:
    """(fingerprint, ends_at), one row per app, of healthy tokens that end by then though a refresh was tried, or they
    were known long enough for one."""
    t, r = capi_token.c, capi_refresh.c
    stored = app_settings.c.metaTokenExpiresAt
    soon = or_(_stored_before(conn, before), and_(stored.is_(None), t.expires_at <= before))
    tried = exists().where(r.fingerprint == t.fingerprint)
    late = or_(t.first_seen_at <= known_before, t.obtained_at.is_not(None), tried)
    healthy = t.broken_since.is_(None) & t.never_expires.is_(False)
    ends = type_coerce(stored, PlatformMoment).label("stored"), t.expires_at
    held = (
        select(t.fingerprint, *ends)
        .join(capi_app, capi_app.c.fingerprint == t.fingerprint)
        .join(app_settings, app_settings.c.appId == capi_app.c.app_id)
    )
    return list(conn.execute(held.where(healthy, soon, late)))


def _stored_before(conn: Connection, before: datetime) -> ColumnElement[bool]:
    """Whether the stored end lies before this moment, to the day: SQLite keeps numbers (Prisma) and text alike."""
    stored: ColumnElement[Any] = app_settings.c.metaTokenExpiresAt
    if conn.dialect.name == "postgresql":
        return stored <= before
    rough = before + timedelta(days=1)
    number = func.typeof(stored).in_(("integer", "real"))
    plain = type_coerce(stored, Float)
    as_text = func.substr(type_coerce(stored, Float), 1, 10)
    return or_(
        and_(number, plain <= rough.timestamp() * 1000),
        and_(func.typeof(stored) == "text", as_text <= rough.strftime("%Y-%m-%d")),
    )


def near_deadline(conn: Connection, *, now: datetime, within: timedelta, waited: timedelta) -> dict[str, Waiting]:
    """App.id → its events that are lost within this time and have waited for a while already."""
    o = capi_outbox.c
    late = text("state != 'dead'"), o.deadline_at > now, o.deadline_at <= now + within, o.id < first_id(now - waited)
    counted = select(o.app_id, func.count(), func.min(o.deadline_at)).where(*late).group_by(o.app_id)
    return {row[0]: Waiting(row[1], row[2]) for row in conn.execute(counted)}


def parked_events(conn: Connection) -> dict[str, int]:
    """Fingerprint → events that wait for this token."""
    o = capi_outbox.c
    counted = select(o.parked_by, func.count()).where(text("state = 'parked'")).group_by(o.app_id, o.parked_by)
    found: dict[str, int] = {}
    for parked_by, count in conn.execute(counted):
        found[parked_by or ""] = found.get(parked_by or "", 0) + count
    return found


def heartbeats(conn: Connection) -> list[Row[Any]]:
    """Every worker that did not say good-bye."""
    return list(conn.execute(select(capi_heartbeat).where(capi_heartbeat.c.stopped_at.is_(None))))


def out_of_balance(conn: Connection) -> dict[str, int]:
    """App.id → events whose ledger line and payload do not tell the same state, or of which one is missing."""
    e, o = capi_event.c, capi_outbox.c
    same = and_(o.id == e.id, o.state == e.state)
    lines = select(e.app_id).where(text("capi_event.state IN ('due','parked','dead')"), ~exists().where(same))
    payloads = select(o.app_id).where(~exists().where(same))
    found: dict[str, int] = {}
    for wanted in (lines, payloads):
        for (app_id,) in conn.execute(wanted.limit(10_000)):
            found[app_id] = found.get(app_id, 0) + 1
    return found


# What stands behind an alert's subject, for people.


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a token: the first shop's name, how many apps, whose."""

    app_name: str
    shop: str | None
    email: str
    apps: int
    app_ids: tuple[str, ...]


def holders(conn: Connection, fingerprints: Sequence[str]) -> dict[str, Holder]:
    """Fingerprint → its shops and merchant."""
    found: dict[str, Holder] = {}
    for chunk in chunks(fingerprints, _LOOKUPS):
        named = _named().add_columns(capi_app.c.fingerprint).where(capi_app.c.fingerprint.in_(chunk))
        for row in conn.execute(named.order_by(capi_app.c.fingerprint, app.c.name, app.c.id)):
            known = found.get(row.fingerprint)
            ids = (*(known.app_ids if known else ()), row.id)
            first = known or Holder(row.name, row.shop_domain, row.email, 0, ())
            found[row.fingerprint] = Holder(first.app_name, first.shop, first.email, len(ids), ids)
    return found


def app_names(conn: Connection, app_ids: Sequence[str]) -> dict[str, Holder]:
    """App.id → its shop and merchant."""
    found: dict[str, Holder] = {}
    for chunk in chunks(app_ids, _LOOKUPS):
        for row in conn.execute(_named().where(app.c.id.in_(chunk))):
            found[row.id] = Holder(row.name, row.shop_domain, row.email, 1, (row.id,))
    return found


def _named() -> Any:
    return (
        select(app.c.id, app.c.name, user.c.email, capi_app.c.shop_domain)
        .join(user, user.c.id == app.c.userId)
        .join(capi_app, capi_app.c.app_id == app.c.id, isouter=True)
    )


def worth(conn: Connection, app_ids: Sequence[str]) -> dict[str, Decimal]:
    """Currency → the money that parked events of these apps report."""
    o, e = capi_outbox.c, capi_event.c
    parked = text("capi_outbox.state = 'parked'"), o.app_id.in_(app_ids), e.value.is_not(None), e.currency.is_not(None)
    mine = select(e.currency, func.sum(e.value)).join(capi_outbox, o.id == e.id).where(*parked).group_by(e.currency)
    return {row[0]: Decimal(row[1]) for row in conn.execute(mine)}


def worth_near(conn: Connection, app_ids: Sequence[str], *, before: datetime) -> dict[str, dict[str, Decimal]]:
    """App.id → currency → the money of its events that are lost before this moment."""
    o, e = capi_outbox.c, capi_event.c
    late = text("capi_outbox.state != 'dead'"), o.deadline_at <= before, o.app_id.in_(app_ids)
    told = e.value.is_not(None), e.currency.is_not(None)
    mine = select(o.app_id, e.currency, func.sum(e.value)).join(capi_outbox, o.id == e.id).where(*late, *told)
    found: dict[str, dict[str, Decimal]] = {}
    for app_id, currency, total in conn.execute(mine.group_by(o.app_id, e.currency)):
        found.setdefault(app_id, {})[currency] = Decimal(total)
    return found


def first_deadline(conn: Connection, app_ids: Sequence[str]) -> datetime | None:
    """When the first parked event of these apps is lost."""
    o = capi_outbox.c
    return conn.scalar(select(func.min(o.deadline_at)).where(text("state = 'parked'"), o.app_id.in_(app_ids)))


def lost_events(conn: Connection, app_id: str, *, since: datetime, until: datetime) -> int:
    """Events of this app that passed their deadline between these moments."""
    e = capi_event.c
    dead = text("state = 'dead'"), e.deadline_at >= since, e.deadline_at <= until
    lost = select(func.count()).select_from(capi_event).where(*dead, e.app_id == app_id, e.failure == "past_deadline")
    return int(conn.scalar(lost) or 0)


def last_refresh(conn: Connection, fingerprint: str) -> Row[Any] | None:
    r = capi_refresh.c
    return conn.execute(select(capi_refresh).where(r.fingerprint == fingerprint).order_by(r.id.desc()).limit(1)).first()


def incident(conn: Connection, incident_id: int) -> Row[Any] | None:
    return conn.execute(select(capi_incident).where(capi_incident.c.id == incident_id)).first()
