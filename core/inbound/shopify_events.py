"""Shopify's orders, checkouts and carts as Meta's events.

Every field may be absent, null or empty: payloads are thinned by `include_fields` and by Shopify's protection of
customer data (https://shopify.dev/docs/apps/launch/protected-customer-data).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from core.errors import BadInput
from core.inbound.finish import Draft, finish
from core.inbound.shopify import TOPICS, Delivery
from core.inbound.shopify_channels import WEBSITE, action_source, channel_of, not_taken
from core.inbound.shopify_goods import Goods, goods_of
from core.inbound.shopify_keys import Keys, keys_of
from core.inbound.shopify_page import source_url
from core.inbound.shopify_people import user_data
from core.inbound.values import moment, text
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.visitors import Join

Json = dict[str, Any]

# How long an event without a browser waits for one: a storefront's own call comes seconds before or after the webhook.
CLOCKS_DIFFER = timedelta(minutes=2)
BROWSER_WAIT = timedelta(seconds=60)
# Shopify's retries end after 4 hours; a header older than that is not the payment's own moment.
_FRESH = timedelta(hours=4)
_DEAD_PAYMENTS = ("voided", "refunded")
# The topic's header is not signed, the body is. Fields that only another kind of body has:
_FOREIGN = {
    "orders": ("abandoned_checkout_url", "invoice_url", "refund_line_items"),
    "checkouts": ("order_number", "financial_status", "checkout_token", "invoice_url"),
    "carts": ("order_number", "financial_status", "checkout_token", "abandoned_checkout_url", "total_price"),
}
# and fields of which one at least must be there, empty or not; a cart has nothing that the others lack.
_OWN = {
    "orders": ("financial_status", "order_number", "checkout_token", "total_price", "currency"),
    "checkouts": (
        "abandoned_checkout_url",
        "cart_token",
        "completed_at",
        "total_price",
        "currency",
        "email",
        "customer",
    ),
    "carts": ("line_items",),
}


class WrongShape(BadInput):
    """The body is not what its topic says"""


class OtherTopic(BadInput):
    """This app takes its purchases from another topic"""


def to_event(app: App, topic: str, body: Json, sent: Delivery, *, now: datetime) -> NewEvent:
    """The event for the outbox, perhaps with a reason to skip it; WrongShape, OtherTopic.

    An order that comes under the topic the app did not choose leaves no ledger line: it would take the
    event_id that the right topic needs.
    """
    kind, name = topic.partition("/")[0], TOPICS[topic]
    keys = keys_of(kind, body)
    if not _fits(kind, body) or keys.event_id is None:
        raise WrongShape()
    if name == "Purchase" and topic != app.purchase_topic:
        raise OtherTopic()
    at, channel = _happened_at(topic, body, sent, now=now), channel_of(body)
    place = action_source(channel)
    created_at = min(moment(body.get("created_at")) or at, now)
    person = user_data(body, shop=sent.shop, on_website=place == WEBSITE, created_at=created_at)
    goods = goods_of(kind, body, content_id=app.content_id, value_of=app.value_of)
    draft = Draft(
        name=name,
        event_id=keys.event_id,
        source=topic,
        event_time=at,
        user_data=person,
        custom_data=_custom_data(kind, keys, goods),
        action_source=place,
        url=source_url(app, sent.shop, text(body.get("landing_site"))) if place == WEBSITE else None,
        value=goods.value,
        currency=goods.currency,
        skipped=_skipped(kind, body) or not_taken(channel, app.order_channels),
        aliases=keys.aliases,
        # Anybody may claim the number of an order that is still to come; a thank-you page can only tell afterwards.
        aliases_since=created_at - CLOCKS_DIFFER if created_at and name == "Purchase" else None,
        join=_join(app, keys, person, now=now) if place == WEBSITE else None,
    )
    return finish(app, draft, now=now)


def _fits(kind: str, body: Json) -> bool:
    foreign = any(body.get(key) not in (None, "") for key in _FOREIGN[kind])
    own = any(key in body for key in _OWN[kind])
    return own and not foreign and isinstance(body.get("line_items"), list)


def _happened_at(topic: str, body: Json, sent: Delivery, *, now: datetime) -> datetime:
    """When it happened, in whole seconds: retries carry the payload of hours ago, and `updated_at` is another story.

    What cannot be read gives way to the next best; the moment of receipt is the last.
    """
    created, processed = moment(body.get("created_at")), moment(body.get("processed_at"))
    said: tuple[datetime | None, ...] = (created, processed, sent.triggered_at)
    if topic == "orders/paid":
        # The body knows when the order was made; when it was paid, only the header does.
        fresh = sent.triggered_at is not None and abs(now - sent.triggered_at) <= _FRESH
        said = (sent.triggered_at if fresh else None, processed, created, sent.triggered_at)
    return min(next(filter(None, said), now), now).replace(microsecond=0)


def _custom_data(kind: str, keys: Keys, goods: Goods) -> Json:
    found = goods.as_custom_data() | {"order_id": keys.order}
    # Meta: "Use only with InitiateCheckout events."
    return found | {"num_items": goods.items} if kind == "checkouts" else found


def _skipped(kind: str, body: Json) -> str | None:
    if kind == "orders":
        return _skipped_order(body)
    if not any(isinstance(line, dict) for line in body["line_items"]):
        return "empty"
    return "completed" if kind == "checkouts" and text(body.get("completed_at")) else None


def _skipped_order(body: Json) -> str | None:
    if body.get("test") is True:
        return "test_order"
    dead = text(body.get("cancelled_at")) or text(body.get("financial_status")) in _DEAD_PAYMENTS
    return "cancelled" if dead else None


def _join(app: App, keys: Keys, person: Json, *, now: datetime) -> Join | None:
    """Where to look for the browser behind the event, None where it leaves no trace.

    One that shows its browser is completed with what was seen already; only a browser can tell of consent.
    """
    found = {"cart": keys.cart, "checkout": keys.checkout, "fbp": person.get("fbp")}
    if not any(found.values()) and not keys.aliases:
        return None
    waits = "client_user_agent" not in person or app.consent_policy == "require"
    return Join(until_at=now + BROWSER_WAIT if waits else now, **found)
