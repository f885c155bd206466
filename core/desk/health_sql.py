"""Health as SQL, so that 20,000 apps are counted, filtered and sorted where they are.

The rules are those of `core.store.health`; a test compares the two row by row, and the platform's word with the
platform's own monitoring query.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Float,
    Select,
    and_,
    case,
    func,
    literal,
    literal_column,
    null,
    select,
    type_coerce,
)

from core.store.health import Health
from core.store.platform_tables import app, app_settings, user
from core.store.schema import capi_app, capi_outbox, capi_token

DAY = timedelta(days=1)
# How many days a token has left: before so many, it is this word's.
_LEFT = (
    ("overdue", 0),
    ("under 3 days", 3),
    ("3 to 7 days", 7),
    ("7 to 14 days", 14),
    ("14 to 30 days", 30),
    ("30 to 60 days", 60),
)
_LONG, _NO_END = "60 days or more", "no end known"
LEFT = (*(word for word, _ in _LEFT), _LONG, _NO_END)
_SQLITE_FORM = "%Y-%m-%d %H:%M:%f"
URGENCY = {health: rank for rank, health in enumerate(Health)}


@dataclass(frozen=True, slots=True)
class Horizon:
    """The moment we look, and how far ahead `Expiring soon` and `Renewing` reach."""

    now: datetime
    soon: timedelta
    window: timedelta


def ends_at(conn: Connection) -> ColumnElement[Any]:
    """The stored end of a token, comparable with `moment`.

    SQLite keeps what was written: milliseconds from Prisma, text from SQL typed by hand.
    """
    stored: Column[Any] = app_settings.c.metaTokenExpiresAt
    if conn.dialect.name == "postgresql":
        return stored
    number = func.typeof(stored).in_(("integer", "real"))
    return case(
        (number, func.strftime(_SQLITE_FORM, _plain(stored) / 1000.0, "unixepoch")),
        else_=func.strftime(_SQLITE_FORM, _plain(stored)),
    )


def _plain(stored: Column[Any]) -> ColumnElement[Any]:
    return type_coerce(stored, Float)


def moment(conn: Connection, at: datetime) -> ColumnElement[Any]:
    """A parameter that `ends_at` may be compared with: whole milliseconds, as the platform stores them."""
    naive = at.replace(tzinfo=None, microsecond=at.microsecond // 1000 * 1000)
    if conn.dialect.name == "postgresql":
        return literal(naive, DateTime())
    return literal(naive.isoformat(sep=" ", timespec="milliseconds"))


def platform_case(conn: Connection, horizon: Horizon) -> ColumnElement[str]:
    """The platform's four words."""
    end = ends_at(conn)
    return case(
        (end.is_(None), literal(str(Health.NO_EXPIRY))),
        (end < moment(conn, horizon.now), literal(str(Health.EXPIRED))),
        (end < moment(conn, horizon.now + horizon.soon), literal(str(Health.EXPIRING_SOON))),
        else_=literal(str(Health.VALID)),
    )


def health_case(conn: Connection, horizon: Horizon) -> ColumnElement[str]:
    """Our seven words."""
    end, token = ends_at(conn), capi_token.c
    renewing = and_(
        end >= moment(conn, horizon.now + horizon.soon),
        end < moment(conn, horizon.now + horizon.window),
    )
    return case(
        (token.needs_reconnect.is_(True), literal(str(Health.NEEDS_RECONNECT))),
        (and_(end.is_(None), token.never_expires.is_(True)), literal(str(Health.NEVER))),
        (renewing, literal(str(Health.RENEWING))),
        else_=platform_case(conn, horizon),
    )


def left_case(conn: Connection, now: datetime) -> ColumnElement[str]:
    """One of LEFT."""
    end = ends_at(conn)
    edges = ((end < moment(conn, now + days * DAY), literal(word)) for word, days in _LEFT)
    return case((end.is_(None), literal(_NO_END)), *edges, else_=literal(_LONG))


def every_app(conn: Connection, horizon: Horizon) -> Select[Any]:
    """One row per app: what token pages, counts and exports are made of. Holds no token."""
    parked = (
        select(capi_outbox.c.app_id, func.count().label("waiting"))
        .where(_literally("parked"))
        .group_by(capi_outbox.c.app_id)
        .subquery("parked")
    )
    health = health_case(conn, horizon)
    return (
        select(
            app.c.id.label("app_id"),
            app.c.appId.label("public_id"),
            app.c.name.label("app_name"),
            app.c.userId.label("user_id"),
            user.c.email,
            capi_app.c.shop_domain.label("shop"),
            app_settings.c.metaPixelId.label("pixel_id"),
            capi_app.c.fingerprint,
            app_settings.c.metaTokenExpiresAt.label("expires_at"),
            ends_at(conn).label("ends"),
            health.label("health"),
            platform_case(conn, horizon).label("platform"),
            case({str(word): rank for word, rank in URGENCY.items()}, value=health, else_=null()).label("urgency"),
            capi_token.c.broken_since,
            capi_token.c.broken_failure,
            func.coalesce(parked.c.waiting, 0).label("waiting"),
        )
        .join(user, user.c.id == app.c.userId)
        .join(app_settings, app_settings.c.appId == app.c.id, isouter=True)
        .join(capi_app, capi_app.c.app_id == app.c.id, isouter=True)
        .join(capi_token, capi_token.c.fingerprint == capi_app.c.fingerprint, isouter=True)
        .join(parked, parked.c.app_id == app.c.id, isouter=True)
    )


def _literally(state: str) -> ColumnElement[bool]:
    """A state written into the SQL, so that the partial index on it is used."""
    return capi_outbox.c.state == literal_column(f"'{state}'")
