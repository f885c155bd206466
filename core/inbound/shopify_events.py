"""Shopify's orders, checkouts and carts as Meta's events.

Every field may be absent, null or empty: payloads are thinned by `include_fields` and by Shopify's protection of
customer data (https://shopify.dev/docs/apps/launch/protected-customer-data).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from core.errors import BadInput
from core.inbound import browser
from core.inbound.finish import Draft, finish
from core.inbound.shopify import TOPICS, Delivery
from core.inbound.shopify_goods import cart_money, lines_data, total_money
from core.inbound.shopify_people import user_data
from core.inbound.values import event_moment, exact_id, text
from core.store.acceptance import NewEvent
from core.store.apps import App

Json = dict[str, Any]

_TOKEN = re.compile(r"[!-~]{1,100}")
_FRESH = timedelta(hours=4)
_DEAD_PAYMENTS = ("voided", "refunded")
# Fields that only another kind of body has: the topic's header is not signed, the body is.
_FOREIGN = {
    "orders": ("abandoned_checkout_url",),
    "checkouts": ("order_number", "financial_status", "checkout_token"),
    "carts": ("order_number", "financial_status", "abandoned_checkout_url", "total_price"),
}
_ORDERS_OWN = ("financial_status", "order_number", "checkout_token", "total_price", "currency")
_CHANNELS = {"pos": "pos", "shopify_draft_order": "draft_order"}


class WrongShape(BadInput):
    """The body is not what its topic says"""


class OtherTopic(BadInput):
    """This app takes its purchases from another topic"""


def to_event(app: App, topic: str, body: Json, sent: Delivery, *, now: datetime) -> NewEvent:
    """The event for the outbox, perhaps with a reason to skip it; WrongShape, OtherTopic.

    An order that comes under the topic the app did not choose leaves no ledger line: it would take the
    event_id that the right topic needs.
    """
    kind = topic.partition("/")[0]
    _check_shape(kind, body)
    name = TOPICS[topic]
    if name == "Purchase" and topic != app.purchase_topic:
        raise OtherTopic()
    at = _happened_at(topic, body, sent, now=now)
    value, currency = cart_money(body) if kind == "carts" else total_money(body)
    draft = Draft(
        name=name,
        event_id=_event_id(kind, body),
        source=topic,
        event_time=at,
        user_data=user_data(body, shop=sent.shop, at=at),
        custom_data=_custom_data(app, kind, body, currency),
        url=_page(app, sent.shop, text(body.get("landing_site"))),
        value=value,
        currency=currency,
        skipped=_skipped(kind, body),
    )
    return finish(app, draft, now=now)


def _check_shape(kind: str, body: Json) -> None:
    foreign = any(body.get(key) not in (None, "") for key in _FOREIGN[kind])
    own = kind != "orders" or any(key in body for key in _ORDERS_OWN)
    if foreign or not own or not isinstance(body.get("line_items"), list):
        raise WrongShape()


def _event_id(kind: str, body: Json) -> str:
    """The same id that a browser can compute, stable over retries; WrongShape without anything to make it of."""
    if kind == "orders":
        checkout, order = _token(body.get("checkout_token")), exact_id(body.get("id"))
        if checkout or order:
            return f"purchase.{checkout}" if checkout else f"purchase.o{order}"
        raise WrongShape()
    token = _token(body.get("token")) or _token(body.get("id"))
    if token is None:
        raise WrongShape()
    return f"{kind.removesuffix('s')}.{token}"


def _token(value: Any) -> str | None:
    """A token without the `?key=…` that the storefront's own spelling of it carries."""
    found = (exact_id(value) or "").split("?", 1)[0]
    return found if _TOKEN.fullmatch(found) else None


def _happened_at(topic: str, body: Json, sent: Delivery, *, now: datetime) -> datetime:
    """When it happened, never when it was received: retries carry the payload of hours ago."""
    if topic == "orders/paid":
        if sent.triggered_at is not None and abs(now - sent.triggered_at) < _FRESH:
            return event_moment(sent.triggered_at.isoformat(), now=now)
        return event_moment(body.get("processed_at") or body.get("created_at"), now=now)
    fallback = sent.triggered_at.isoformat() if sent.triggered_at else None
    return event_moment(body.get("created_at") or body.get("processed_at") or fallback, now=now)


def _custom_data(app: App, kind: str, body: Json, currency: str | None) -> Json:
    found = lines_data(body["line_items"], choice=app.content_id, currency=currency, cart=kind == "carts")
    if kind == "orders":
        found["order_id"] = exact_id(body.get("id"))
    if kind != "checkouts":
        # Meta: "Use only with InitiateCheckout events."
        found.pop("num_items", None)
    return found


def _skipped(kind: str, body: Json) -> str | None:
    if kind == "orders":
        return _skipped_order(body)
    if not any(isinstance(line, dict) for line in body["line_items"]):
        return "empty"
    return "completed" if kind == "checkouts" and text(body.get("completed_at")) else None


def _skipped_order(body: Json) -> str | None:
    if body.get("test") is True:
        return "test_order"
    if text(body.get("cancelled_at")) or text(body.get("financial_status")) in _DEAD_PAYMENTS:
        return "cancelled"
    channel = text(body.get("source_name")) or "web"
    return None if channel == "web" else _CHANNELS.get(channel, "other_channel")


def _page(app: App, shop: str, landing: str | None) -> str:
    """The page on the shop's own host, with the click id and campaign only; a foreign page becomes the shop's root."""
    home = f"https://{app.shop_domain or shop}/"
    try:
        parts = urlsplit(landing or "")
        host = parts.hostname
    except ValueError:
        return home
    own = {shop, app.shop_domain, *(entry.lower() for entry in app.allowed_origins)}
    if (host is not None and host not in own) or not parts.path.startswith("/"):
        return home
    kept = [(key, value) for key, value in _fields(parts.query) if key == "fbclid" or key.startswith("utm_")]
    page = f"https://{host or app.shop_domain or shop}{parts.path}" + (f"?{urlencode(kept)}" if kept else "")
    return browser.page_url(page) or home


def _fields(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query) if query.count("&") < 200 else []
