"""How an app is treated: which words each option takes, and the order that changes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from core.desk.operators import Operator
from core.errors import BadInput
from core.store import apps, audit
from core.store.apps import App
from core.store.database import writing

CONTENT_IDS = ("variant", "product", "sku")
PURCHASE_TOPICS = ("orders/create", "orders/paid")
VALUES = ("total", "subtotal", "presentment")
CONSENT = ("send", "limit", "require")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:\d{1,5})?")
# What Shopify calls by name on its own side: `X-Shopify-Shop-Domain` never has a port.
_SHOP = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?")
# A shop's own event, or an order's source, which may be any text that another app chose ("Buy Button").
_NAME = re.compile(r"[^,\x00-\x1f\x7f\ud800-\udfff]{1,100}")


def _one_of(*words: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in words:
            raise BadInput(f"{text!r} is none of: {', '.join(words)}")
        return text

    return check


def _list_of(pattern: re.Pattern[str], example: str) -> Callable[[str], str | None]:
    def check(text: str) -> str | None:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        for part in parts:
            if not pattern.fullmatch(part):
                raise BadInput(f"{part!r} cannot be used: write them as {example}, comma separated")
        return ", ".join(parts) or None

    return check


def _host(text: str) -> str | None:
    text = text.strip().lower()
    if text and not _SHOP.fullmatch(text):
        raise BadInput(f"{text!r} is no domain: write it as tea.myshopify.com, without https://")
    return text or None


def _hosts(text: str) -> str | None:
    return _list_of(_HOST, "www.tea.example, without https://")(text.lower())


# option → the check that gives the value to store, in the words that `capi_app` holds
OPTIONS: dict[str, Callable[[str], str | None]] = {
    "shop_domain": _host,
    "allowed_origins": _hosts,
    "forwarded_names": _list_of(_NAME, "Spun The Wheel"),
    "content_id": _one_of(*CONTENT_IDS),
    "purchase_topic": _one_of(*PURCHASE_TOPICS),
    "value_of": _one_of(*VALUES),
    "order_channels": _list_of(_NAME, "pos"),
    "consent_policy": _one_of(*CONSENT),
}


def set_app(
    engine: Engine,
    app_name: str,
    options: Mapping[str, str],
    *,
    by: Operator,
    now: datetime,
    allow_null_origin: bool | None = None,
    paused: bool | None = None,
    reason: str | None = None,
) -> App:
    """Change how an app is treated; empty text empties a list. NotFound, BadInput in words that name the option."""
    by.must("set_app")
    told: dict[str, Any] = {name: _checked(name, text) for name, text in options.items()}
    told |= {} if allow_null_origin is None else {"allow_null_origin": allow_null_origin}
    told |= {} if paused is None else {"paused": paused}
    if not told:
        raise BadInput("nothing to change: name at least one option")
    with writing(engine) as conn:
        app = apps.find(conn, app_name)
        changes = {name: value for name, value in told.items() if name != "paused"}
        # Who pauses what is paused already leaves the first moment and its reason, such as the shop's uninstall.
        if paused is not None and paused != app.paused:
            changes |= {"paused_at": now if paused else None, "paused_reason": (reason or by.name) if paused else None}
        if changes:
            apps.configure(conn, app.id, **changes)
        said = "; ".join(f"{name}={'' if value is None else value}" for name, value in told.items())
        subject = f"{app.public_id}: {said}"
        audit.write(conn, by=by.name, action="set_app", subject=subject, count=1, reason=reason, now=now)
        return apps.get(conn, app.id)


def _checked(name: str, text: str) -> str | None:
    try:
        return OPTIONS[name](text)
    except BadInput as error:
        raise BadInput(f"{name.replace('_', ' ')}: {error}") from None
