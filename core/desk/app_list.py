"""What a person may see of apps: one row each, and how an app is treated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from core.store.alerts import is_open
from core.store.platform_tables import app, app_settings, user
from core.store.schema import capi_app


@dataclass(frozen=True, slots=True)
class AppRow:
    """One app; `fingerprint` names the token it was last seen to hold, `paused_reason` says who paused it or why.
    `missing`: Meta lacks orders of its last day; `silent`: less comes than by its own weekly rhythm."""

    app_id: str
    public_id: str
    app_name: str
    shop: str | None
    email: str
    pixel_id: str | None
    fingerprint: str | None
    consent_policy: str | None
    purchase_topic: str | None
    allowed_origins: str | None
    paused_at: datetime | None
    paused_reason: str | None
    missing: bool
    silent: bool


_MISSING, _SILENT = is_open("orders_missing", app.c.id), is_open("silent_shop", app.c.id)
# what an operator may ask for → what is missing or so
SHOWS: dict[str, Any] = {
    "all": None,
    "paused": capi_app.c.paused_at.is_not(None),
    "no token": capi_app.c.fingerprint.is_(None),
    "no pixel": func.coalesce(app_settings.c.metaPixelId, "") == "",
    "no shop domain": capi_app.c.shop_domain.is_(None),
    "orders missing": _MISSING,
    "silent": _SILENT,
}


def app_rows(
    conn: Connection, *, search: str | None = None, show: str = "all", limit: int = 200, offset: int = 0
) -> list[AppRow]:
    """By name. KeyError for another `show`."""
    rows = conn.execute(_wanted(search, show).order_by(app.c.name, app.c.id).limit(limit).offset(offset))
    return [AppRow(**row._mapping) for row in rows]


def app_total(conn: Connection, *, search: str | None = None, show: str = "all") -> int:
    """How many `app_rows` would list in all."""
    return conn.scalar(select(func.count()).select_from(_wanted(search, show).subquery())) or 0


def _wanted(search: str | None, show: str) -> Select[Any]:
    c = capi_app.c
    wanted = (
        select(
            app.c.id.label("app_id"),
            app.c.appId.label("public_id"),
            app.c.name.label("app_name"),
            c.shop_domain.label("shop"),
            user.c.email,
            app_settings.c.metaPixelId.label("pixel_id"),
            c.fingerprint,
            c.consent_policy,
            c.purchase_topic,
            c.allowed_origins,
            c.paused_at,
            c.paused_reason,
            _MISSING.label("missing"),
            _SILENT.label("silent"),
        )
        .join(user, user.c.id == app.c.userId)
        .join(app_settings, app_settings.c.appId == app.c.id, isouter=True)
        .join(capi_app, c.app_id == app.c.id, isouter=True)
    )
    if SHOWS[show] is not None:
        wanted = wanted.where(SHOWS[show])
    text = (search or "").strip()
    if not text:
        return wanted
    places = (app.c.name, app.c.appId, c.shop_domain, user.c.email, app_settings.c.metaPixelId)
    return wanted.where(or_(*(place.icontains(text, autoescape=True) for place in places)))
