"""The story of one app: what its shop sent, what Meta said, and what became of its token, in its last days."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, literal_column, select

from core.desk import accounts
from core.desk import find_lines as parts
from core.desk import find_merchant as merchant
from core.desk.alert_lines import plural, silent_since, span
from core.desk.events import BOUND
from core.desk.explain import NOBODY, SHOP, Explanation, explain
from core.desk.explain_shops import SILENCES
from core.desk.find_event import LOST_TOKEN, is_lost
from core.desk.find_shape import BAD, GOOD, WAIT, Period, Story, in_order
from core.errors import NotFound
from core.services.outcome import TOKEN_FAILURES
from core.store import tokens
from core.store.platform_tables import app, app_settings
from core.store.schema import capi_app, capi_attempt, capi_outbox

# How far back the story goes.
APP_PERIOD = timedelta(days=7)


def app_story(conn: Connection, key: str, now: datetime) -> Story:
    """By App.id, of its last days; NotFound."""
    row = _app_row(conn, key)
    period = Period(now - APP_PERIOD, now)
    rows = parts.refresh_rows(conn, [row.fingerprint] if row.fingerprint else [], row.user_id, period)
    known = parts.closure([row.fingerprint], rows)
    lines = [
        *parts.receipts(conn, row.id, period),
        *(parts.requests(conn, row.pixel_id, period) if row.pixel_id else []),
        *parts.broken(conn, known, period),
        *parts.refreshes(rows),
        *parts.cases(conn, known, period),
        *parts.incidents(conn, period),
        *parts.orders_about(conn, row.id, row.public_id, period),
    ]
    waiting, first_lost = _waiting(conn, row.id)
    token = tokens.get(conn, row.fingerprint) if row.fingerprint else None
    failure = _failure(row, token)
    lost = is_lost(conn, row.fingerprint)
    stands = _stuck(failure, lost, waiting) if failure else _goes(conn, row, waiting, now)
    return Story(
        title=row.name,
        now=stands,
        tone=BAD if failure else GOOD if stands.whose == NOBODY else WAIT,
        facts=_facts(row, waiting),
        lines=in_order(lines),
        merchant=merchant.of_app(
            row.shop_domain or "Your shop", waiting=waiting, first_lost_at=first_lost, failure=failure, lost_token=lost
        ),
    )


def _app_row(conn: Connection, key: str) -> Row[Any]:
    columns = (app.c.id, app.c.name, app.c.appId.label("public_id"), app.c.userId.label("user_id"))
    named = select(*columns, app_settings.c.metaPixelId.label("pixel_id"), capi_app).where(app.c.id == key)
    found = conn.execute(
        named.join(app_settings, app_settings.c.appId == app.c.id, isouter=True).join(
            capi_app, capi_app.c.app_id == app.c.id, isouter=True
        )
    ).first()
    if found is None:
        raise NotFound("this app does not exist any more")
    return found


def _facts(row: Row[Any], waiting: int) -> dict[str, str]:
    return {
        "Shop": row.shop_domain or "–",
        "App id": row.public_id,
        "Pixel": row.pixel_id or "–",
        "Token": row.fingerprint or "–",
        "Waiting": f"{plural(waiting, 'event')}{' or more' if waiting >= BOUND else ''} for the token",
    }


def _waiting(conn: Connection, app_id: str) -> tuple[int, datetime | None]:
    """Events of an app that wait for its token, counted up to BOUND, and when the first of these is lost."""
    o = capi_outbox.c
    parked = select(o.deadline_at).where(o.state == literal_column("'parked'"), o.app_id == app_id)
    few = parked.limit(BOUND).subquery()
    row = conn.execute(select(func.count(), func.min(few.c.deadline_at))).one()
    return row[0], row[1]


def _failure(row: Row[Any], token: Row[Any] | None) -> str | None:
    """What keeps this app's events back now."""
    if row.paused_at is not None:
        return "paused"
    if not row.pixel_id:
        return "no_pixel"
    if row.fingerprint is None:
        return "no_token"
    return token.broken_failure if token is not None and token.broken_since is not None else None


def _last_request(conn: Connection, pixel_id: str | None) -> datetime | None:
    a = capi_attempt.c
    return conn.scalar(select(a.at).where(a.pixel_id == pixel_id).order_by(a.at.desc()).limit(1))


def _stuck(failure: str, lost: bool, waiting: int) -> Explanation:
    wait = _and_wait(waiting)
    if failure in TOKEN_FAILURES and lost:
        return replace(LOST_TOKEN, what=f"Only the merchant can mend the token{wait}")
    return replace(explain(failure), what=f"{explain(failure).what}{wait}")


def _goes(conn: Connection, row: Row[Any], waiting: int, now: datetime) -> Explanation:
    silent, last = accounts.silent(conn, row.id, now=now), _last_request(conn, row.pixel_id)
    if silent is not None:
        why = SILENCES[silent.cause]
        return replace(why, what=f"{why.what} ({silent_since(silent)})")
    if last is None:
        do = "See whether its storefront and webhooks report (capi-console receipts), and whether it is installed"
        return Explanation("Nothing was sent to Meta for its pixel yet", SHOP, do)
    return Explanation(f"Events go to Meta, the last {span(now - last)} ago{_and_wait(waiting)}", NOBODY, "Nothing")


def _and_wait(waiting: int) -> str:
    return f"; {plural(waiting, 'event')} wait" if waiting else ""
