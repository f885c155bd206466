"""What a person may see of refreshes: the history, page by page, and what they came to per day."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from core.desk.buckets import bucket, opened
from core.store.platform_tables import app, user
from core.store.schema import capi_app, capi_refresh


@dataclass(frozen=True, slots=True)
class RefreshRow:
    """One refresh: what asked for it, by whom, what it came to; Meta's words are redacted already."""

    id: int
    started_at: datetime
    duration_ms: int
    trigger: str
    by: str
    email: str | None
    app_name: str | None
    shop: str | None
    fingerprint: str
    new_fingerprint: str | None
    outcome: str
    expires_before: datetime | None
    expires_after: datetime | None
    apps_updated: int
    code: int | None
    subcode: int | None
    words: str | None
    trace_id: str | None


def refresh_history(
    conn: Connection,
    *,
    search: str | None = None,
    outcomes: Collection[str] | None = None,
    triggers: Collection[str] | None = None,
    since: datetime | None = None,
    before: int | None = None,
    limit: int = 200,
) -> list[RefreshRow]:
    """Newest first; the next page comes with `before` = the last row's id."""
    r = capi_refresh.c
    wanted = _searched(_history(), search)
    if outcomes:
        wanted = wanted.where(r.outcome.in_(list(outcomes)))
    if triggers:
        wanted = wanted.where(r.trigger.in_(list(triggers)))
    if since is not None:
        wanted = wanted.where(r.started_at >= since)
    if before is not None:
        wanted = wanted.where(r.id < before)
    return [RefreshRow(**row._mapping) for row in conn.execute(wanted.order_by(r.id.desc()).limit(limit))]


def refreshes_of(conn: Connection, fingerprint: str, *, user_id: str, limit: int) -> list[RefreshRow]:
    """The last refreshes of this user that the token went into or came out of, newest first."""
    r = capi_refresh.c
    about = or_(r.fingerprint == fingerprint, r.new_fingerprint == fingerprint)
    wanted = _history().where(r.user_id == user_id, about).order_by(r.id.desc()).limit(limit)
    return [RefreshRow(**row._mapping) for row in conn.execute(wanted)]


def refreshes_per_day(conn: Connection, *, since: datetime, by: str = "outcome") -> list[tuple[datetime, str, int]]:
    """(day in UTC, outcome or whatever column is meant, how many), oldest first."""
    day = bucket(conn, capi_refresh.c.started_at, "day").label("day")
    which = capi_refresh.c[by]
    counted = select(day, which, func.count()).where(capi_refresh.c.started_at >= since)
    rows = conn.execute(counted.group_by(day, which).order_by(day, which))
    return [(opened(row[0]), row[1], row[2]) for row in rows]


def _history() -> Select[Any]:
    names = [name for name in RefreshRow.__dataclass_fields__ if name in capi_refresh.c]
    return (
        select(
            *(capi_refresh.c[name] for name in names),
            user.c.email,
            app.c.name.label("app_name"),
            capi_app.c.shop_domain.label("shop"),
        )
        .join(user, user.c.id == capi_refresh.c.user_id, isouter=True)
        .join(app, app.c.id == capi_refresh.c.app_id, isouter=True)
        .join(capi_app, capi_app.c.app_id == capi_refresh.c.app_id, isouter=True)
    )


def _searched(wanted: Select[Any], search: str | None) -> Select[Any]:
    text = (search or "").strip()
    if not text:
        return wanted
    r = capi_refresh.c
    holder = select(app.c.userId).join(capi_app, capi_app.c.app_id == app.c.id, isouter=True)
    shops = holder.where(or_(*(c.icontains(text, autoescape=True) for c in (app.c.name, capi_app.c.shop_domain))))
    exact = (r.trace_id == text, r.fingerprint == text, r.new_fingerprint == text)
    return wanted.where(or_(user.c.email.icontains(text, autoescape=True), r.user_id.in_(shops), *exact))
