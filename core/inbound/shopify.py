"""Shopify's webhooks: who signed them, what they report, when they were sent.

The signature covers the raw body only: topic, shop and time stand in headers that anybody may change
(https://shopify.dev/docs/apps/build/webhooks/verify-deliveries), so nothing here trusts them further than needed.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from core.errors import BadInput
from core.inbound.values import moment, text
from core.secret import Secret

# topic → Meta's event. `orders/paid` counts for apps that choose it as their purchase topic.
TOPICS: dict[str, str] = {
    "orders/create": "Purchase",
    "orders/paid": "Purchase",
    "carts/create": "AddToCart",
    "checkouts/create": "InitiateCheckout",
}
UNINSTALLED = "app/uninstalled"
# What every app must take (https://shopify.dev/docs/apps/build/privacy-law-compliance) → the kind of job it orders.
COMPLIANCE: dict[str, str] = {
    "customers/data_request": "customer_data",
    "customers/redact": "redact_customer",
    "shop/redact": "redact_shop",
}
DUTIES = frozenset({UNINSTALLED, *COMPLIANCE})
# Topics that shops subscribe to and that hold nothing Meta should hear.
IGNORED = frozenset(
    f"{thing}/{happening}"
    for thing, happenings in {
        "app": ("scopes_update",),
        "app_subscriptions": ("update",),
        "carts": ("update",),
        "checkouts": ("update", "delete"),
        "collections": ("create", "update", "delete"),
        "customers": ("create", "update", "delete", "enable", "disable"),
        "draft_orders": ("create", "update", "delete"),
        "fulfillments": ("create", "update"),
        "inventory_levels": ("connect", "update", "disconnect"),
        "order_transactions": ("create",),
        "orders": ("updated", "edited", "cancelled", "delete", "fulfilled", "partially_fulfilled"),
        "products": ("create", "update", "delete"),
        "refunds": ("create",),
        "shop": ("update",),
        "themes": ("create", "update", "publish", "delete"),
    }.items()
    for happening in happenings
)
# The URL below `/webhooks/` that takes every topic, as the header names it; each topic served has one of its own too.
ANY_TOPIC = "shopify"
ROUTES = (*TOPICS, UNINSTALLED, *COMPLIANCE, ANY_TOPIC)
# Shopify retries for 4 hours; what is older by far was kept and sent again by somebody.
STALE_AFTER = timedelta(hours=24)
_SHOP = re.compile(r"(?=.{4,255}\Z)[a-z0-9][a-z0-9-]*(\.[a-z0-9-]+)+")
_LONGEST_HEADER = 100
SIGNATURE_HEADERS = ("x-shopify-hmac-sha256", "shopify-hmac-sha256")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the headers say. `topic` is None where they do not name one."""

    shop: str
    topic: str | None
    webhook_id: str | None
    triggered_at: datetime | None

    def is_stale(self, now: datetime) -> bool:
        return self.triggered_at is not None and self.triggered_at < now - STALE_AFTER


class MissingHeaders(BadInput):
    """Missing required headers"""


class OtherShop(BadInput):
    """The body was made for another shop than its header names"""


def signed_by(body: bytes, signatures: Sequence[str], secrets: Sequence[Secret]) -> int | None:
    """The index of the secret that signed this body, None when none did or there is not exactly one signature.

    Compared as the base64 text that Shopify itself writes, as bytes: no other spelling of the same 32 bytes passes.
    """
    given = signatures[0].encode("latin-1", "replace") if len(signatures) == 1 else b""
    matches = [hmac.compare_digest(base64.b64encode(secret.sign(body)), given) for secret in secrets]
    return matches.index(True) if any(matches) else None


def delivery(headers: Mapping[str, str]) -> Delivery:
    """The headers of either family (`X-Shopify-Topic`, `shopify-topic`); MissingHeaders without a shop.

    Shopify sends more of them always; only what we cannot do without is asked for, since a refusal counts against
    the subscription.
    """

    def header(name: str) -> str | None:
        return text(headers.get(f"x-shopify-{name}")) or text(headers.get(f"shopify-{name}"))

    shop = (header("shop-domain") or "").lower()
    if not _SHOP.fullmatch(shop):
        raise MissingHeaders()
    topic = (header("topic") or "")[:_LONGEST_HEADER].lower() or None
    webhook_id = (header("webhook-id") or "")[:_LONGEST_HEADER] or None
    return Delivery(shop, topic, webhook_id, moment(header("triggered-at")))


def why_not(topic: str, route: str) -> str | None:
    """Why a delivery of this topic is not taken at this URL, None when it is."""
    if route != ANY_TOPIC:
        return None if _kind(topic) == _kind(route) else "topic_mismatch"
    if _kind(topic) is not None:
        return None
    return "ignored_topic" if topic in IGNORED else "unknown_topic"


def _kind(topic: str) -> str | None:
    """Topics of one kind may share a URL. Shopify lets one URL take all three of compliance, and whoever points them
    at the wrong one of ours must not lose a duty by it."""
    if topic in COMPLIANCE:
        return "compliance"
    return topic if topic == UNINSTALLED else TOPICS.get(topic)


def check_shop(body: Mapping[str, Any], shop: str) -> None:
    """OtherShop when the body, which is signed, names another shop than the header, which is not."""
    for key in ("shop_domain", "myshopify_domain"):
        named = text(body.get(key))
        if named is not None and named.lower() != shop:
            raise OtherShop()
