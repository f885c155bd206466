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
# Shopify retries for 4 hours; what is older by far was kept and sent again by somebody.
STALE_AFTER = timedelta(hours=24)
_SHOP = re.compile(r"(?=.{4,255}\Z)[a-z0-9][a-z0-9-]*(\.[a-z0-9-]+)+")
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


def signed_by(body: bytes, signatures: Sequence[str], secrets: Sequence[Secret]) -> int | None:
    """The index of the secret that signed this body, None when none did or there is not exactly one signature.

    Compared as the base64 text that Shopify itself writes, as bytes: no other spelling of the same 32 bytes passes.
    """
    given = signatures[0].encode("latin-1", "replace") if len(signatures) == 1 else b""
    matches = [hmac.compare_digest(base64.b64encode(secret.sign(body)), given) for secret in secrets]
    return matches.index(True) if any(matches) else None


def delivery(headers: Mapping[str, str]) -> Delivery:
    """The headers of either family (`X-Shopify-Topic`, `shopify-topic`); MissingHeaders without a shop."""

    def header(name: str) -> str | None:
        return text(headers.get(f"x-shopify-{name}")) or text(headers.get(f"shopify-{name}"))

    shop = (header("shop-domain") or "").lower()
    if not _SHOP.fullmatch(shop):
        raise MissingHeaders()
    topic = header("topic")
    return Delivery(shop, topic.lower() if topic else None, header("webhook-id"), moment(header("triggered-at")))
