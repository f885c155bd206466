"""Commands about what comes in: what was refused, and how each app's events are taken."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from core import clock
from core.desk import app_options, queries
from core.doors.cli_shell import AsJson, operator, show, show_json, store
from core.store import apps
from core.store.apps import App
from core.store.database import reading

_Shop = Annotated[str | None, typer.Option(help="Its domain, such as tea.myshopify.com.")]
_Origins = Annotated[str | None, typer.Option(help="Hosts whose pages may report, comma separated; '' lets any page.")]
_Forward = Annotated[str | None, typer.Option(help="Event names of its own that Meta shall hear, comma separated.")]
_ContentId = Annotated[str | None, typer.Option(help=f"{', '.join(app_options.CONTENT_IDS)}.")]
_PurchaseTopic = Annotated[str | None, typer.Option(help=f"{', '.join(app_options.PURCHASE_TOPICS)}.")]
_ValueOf = Annotated[str | None, typer.Option(help=f"{', '.join(app_options.VALUES)}.")]
_Channels = Annotated[
    str | None, typer.Option(help="Shopify's source names taken beside web, such as pos; comma separated.")
]
_Consent = Annotated[
    str | None, typer.Option(help="Where a visitor was not asked: send, limit (LDU) or require (keep back).")
]
_NullOrigin = Annotated[
    bool | None, typer.Option("--null-origin/--no-null-origin", help="Take calls of sandboxed pages.")
]
_Pause = Annotated[bool | None, typer.Option("--pause/--resume", help="Skip its events, or no more.")]
SinceHours = Annotated[int, typer.Option(min=1, max=24 * 400, help="Look back so many hours.")]


def receipts(
    app: Annotated[str | None, typer.Option(help="Only of this app (public appId).")] = None,
    reason: Annotated[str | None, typer.Option(help="Only these, such as bad_signature.")] = None,
    each: Annotated[bool, typer.Option("--each", help="One line for each, newest first, instead of counts.")] = False,
    since_hours: SinceHours = 168,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="With --each: at most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Requests that were refused or set aside, counted by app and reason."""
    since = clock.now() - timedelta(hours=since_hours)
    with store() as (_, engine), reading(engine) as conn:
        if each:
            rows = [_line(one) for one in queries.receipts(conn, since=since, app=app, reason=reason, limit=limit)]
        else:
            rows = [_count(one) for one in queries.receipt_counts(conn, since=since, app=app, reason=reason)]
    show(rows, as_json=as_json, empty="no request was refused or set aside")


def _line(one: queries.Receipt) -> dict[str, object]:
    return {
        "at": one.at,
        "app": one.app_name,
        "appId": one.public_id,
        "shop": one.shop_domain,
        "source": one.source,
        "reason": one.reason,
        "status": one.status,
        "detail": one.detail,
    }


def _count(one: queries.ReceiptCount) -> dict[str, object]:
    return {
        "app": one.app_name,
        "appId": one.public_id,
        "source": one.source,
        "reason": one.reason,
        "status": one.status,
        "count": one.count,
        "first": one.first_at,
        "last": one.last_at,
    }


def set_app(
    app: Annotated[str, typer.Option(help="The app's public appId.")],
    shop: _Shop = None,
    origins: _Origins = None,
    forward: _Forward = None,
    content_id: _ContentId = None,
    purchase_topic: _PurchaseTopic = None,
    value_of: _ValueOf = None,
    channels: _Channels = None,
    consent: _Consent = None,
    null_origin: _NullOrigin = None,
    pause: _Pause = None,
    as_json: AsJson = False,
) -> None:
    """Change how an app's events are taken."""
    given = {
        "shop_domain": shop,
        "allowed_origins": origins,
        "forwarded_names": forward,
        "content_id": content_id,
        "purchase_topic": purchase_topic,
        "value_of": value_of,
        "order_channels": channels,
        "consent_policy": consent,
    }
    options = {name: text for name, text in given.items() if text is not None}
    with store() as (_, engine):
        changed = app_options.set_app(
            engine, app, options, allow_null_origin=null_origin, paused=pause, by=operator(), now=clock.now()
        )
    _print(changed, as_json=as_json)


def show_app(
    app: Annotated[str, typer.Option(help="The app's public appId.")],
    as_json: AsJson = False,
) -> None:
    """How an app's events are taken."""
    with store() as (_, engine), reading(engine) as conn:
        found = apps.find(conn, app)
    _print(found, as_json=as_json)


def _print(app: App, *, as_json: bool) -> None:
    about = {
        "appId": app.public_id,
        "name": app.name,
        "shop": app.shop_domain,
        "pixel": app.pixel_id,
        "origins": ", ".join(app.allowed_origins) or None,
        "forward": ", ".join(app.forwarded_names) or None,
        "content id": app.content_id,
        "purchase topic": app.purchase_topic,
        "value of": app.value_of,
        "channels": ", ".join(app.order_channels) or None,
        "consent": app.consent_policy,
        "null origin": app.allow_null_origin,
        "paused": app.paused,
    }
    if as_json:
        show_json(about)
    else:
        show([{"option": name, "value": value} for name, value in about.items()], as_json=False, empty="")
