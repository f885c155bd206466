"""What the list of cases is selected from."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, String, cast, exists, func, or_, select

from core.store.platform_tables import app, user
from core.store.schema import capi_app, capi_case, capi_outbox


def waiting() -> Select[Any]:
    """Events parked for each token and user: how many, and the first deadline."""
    o = capi_outbox.c
    return (
        select(
            o.parked_by.label("fingerprint"),
            app.c.userId.label("user_id"),
            func.count().label("waiting"),
            func.min(o.deadline_at).label("lost_at"),
        )
        .join(app, app.c.id == o.app_id)
        .where(o.state == "parked")
        .group_by(o.parked_by, app.c.userId)
    )


def every(waits: Any) -> Select[Any]:
    """Every case with its owner's address and what waits for it."""
    c = capi_case.c
    mine = (waits.c.fingerprint == c.fingerprint) & (waits.c.user_id == c.user_id)
    return (
        select(capi_case, user.c.email, func.coalesce(waits.c.waiting, 0).label("waiting"), waits.c.lost_at)
        .join(user, user.c.id == c.user_id, isouter=True)
        .join(waits, mine, isouter=True)
    )


def found(wanted: Select[Any], search: str | None) -> Select[Any]:
    """Those whose shop, app, owner, fingerprint or number this is."""
    text = (search or "").strip()
    if not text:
        return wanted
    c = capi_case.c
    shop = or_(*(one.icontains(text, autoescape=True) for one in (app.c.name, app.c.appId, capi_app.c.shop_domain)))
    theirs = select(app.c.id).join(capi_app, capi_app.c.app_id == app.c.id, isouter=True)
    owns = exists(theirs.where(app.c.userId == c.user_id, shop))
    own = [one.icontains(text, autoescape=True) for one in (user.c.email, c.fingerprint)]
    return wanted.where(or_(*own, owns, cast(c.id, String) == text))
