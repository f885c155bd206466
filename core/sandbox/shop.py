"""A small shop: its storefront's tracking calls and Shopify's signed webhooks, as they come in real life.

Webhook bytes are what Shopify sends: JSON with plain Unicode and `\\/` for a slash, signed as they are
(https://shopify.dev/docs/apps/build/webhooks/verify-deliveries).
"""

from __future__ import annotations

import base64
import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import requests

from core.sandbox import goods
from core.secret import Secret

API_VERSION: Final = "2026-04"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the endpoint said, and what it was told (so that it can be told again)."""

    status: int
    text: str
    sent: dict[str, Any] = field(repr=False)
    path: str
    raw: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)

    @property
    def body(self) -> Any:
        """The answer's JSON, or None."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    @property
    def event_id(self) -> str | None:
        return self.body.get("eventId") if isinstance(self.body, dict) else None


class Shop:
    """Sends to one endpoint. The same seed gives the same customers and carts."""

    def __init__(self, endpoint_url: str, signing: Secret, *, seed: int | None = None, timeout: float = 10.0) -> None:
        self._url = endpoint_url.rstrip("/")
        self._signing = signing
        self._timeout = timeout
        self._random = random.Random(seed)
        self._session = requests.Session()
        self._session.trust_env = False

    def close(self) -> None:
        self._session.close()

    def track(
        self,
        app_id: str,
        event: str = "pageview",
        *,
        shop_domain: str = "shop.example",
        event_id: str | None = None,
        at: datetime | None = None,
        **properties: Any,
    ) -> Reply:
        """One call of the storefront script; `properties` stand at the top and again under `customData`."""
        customer = goods.customer(self._random)
        body = goods.tracked(self._random, event, app_id, shop_domain, at or datetime.now(UTC), properties)
        if event_id:
            body["event_id"] = event_id
        headers = {
            "Content-Type": "application/json",
            "Origin": f"https://{shop_domain}",
            "User-Agent": customer["user_agent"],
            "Accept-Language": "en",
        }
        return self._post("/api/track", body, json.dumps(body, ensure_ascii=False).encode(), headers)

    def order(self, shop_domain: str, **changes: Any) -> Reply:
        """orders/create; `changes` replace fields of the body, `at` its moment."""
        return self._deliver("orders/create", shop_domain, goods.order, changes)

    def cart(self, shop_domain: str, **changes: Any) -> Reply:
        """carts/create: only a token and lines, nothing to know a person by."""
        return self._deliver("carts/create", shop_domain, goods.cart, changes)

    def checkout(self, shop_domain: str, **changes: Any) -> Reply:
        """checkouts/create: no address of the browser, often no e-mail."""
        return self._deliver("checkouts/create", shop_domain, goods.checkout, changes)

    def again(self, reply: Reply) -> Reply:
        """The same bytes once more, as Shopify's retries come."""
        return self._post(reply.path, reply.sent, reply.raw, reply.headers)

    def deliver(self, topic: str, shop_domain: str, body: dict[str, Any], *, signature: str | None = None) -> Reply:
        """Any body for any topic; `signature` replaces the right one."""
        raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).replace("/", "\\/").encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Shopify-Captain-Hook",
            "X-Shopify-Topic": topic,
            "X-Shopify-Shop-Domain": shop_domain,
            "X-Shopify-Hmac-Sha256": signature or base64.b64encode(self._signing.sign(raw)).decode(),
            "X-Shopify-API-Version": API_VERSION,
            "X-Shopify-Webhook-Id": str(uuid.uuid4()),
            "X-Shopify-Event-Id": str(uuid.uuid4()),
            "X-Shopify-Triggered-At": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        return self._post(f"/webhooks/{topic}", body, raw, headers)

    def _deliver(self, topic: str, shop_domain: str, make: goods.Maker, changes: dict[str, Any]) -> Reply:
        moment = changes.pop("at", None) or datetime.now(UTC)
        return self.deliver(topic, shop_domain, make(self._random, shop_domain, moment) | changes)

    def _post(self, path: str, sent: dict[str, Any], raw: bytes, headers: dict[str, str]) -> Reply:
        answer = self._session.post(f"{self._url}{path}", data=raw, headers=headers, timeout=self._timeout)
        return Reply(answer.status_code, answer.text, sent, path, raw, headers)
