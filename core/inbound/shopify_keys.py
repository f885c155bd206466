"""What an order, a checkout or a cart is called: by Shopify, by the browser that made it, by us.

A web pixel shows the checkout's token, and at times no order id at all
(https://shopify.dev/docs/api/web-pixels-api/standard-events/checkout_completed): the token is what both sides know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.inbound.values import exact_id, token

Json = dict[str, Any]

# Our event_id: the first key there is. The same at every retry, and what a browser can make of the same token.
_EVENT_IDS: dict[str, tuple[tuple[str, str], ...]] = {
    "orders": (("checkout", "purchase."), ("order", "purchase.o")),
    "checkouts": (("checkout", "checkout."),),
    "carts": (("cart", "cart."),),
}
_ALIASES: dict[str, tuple[str, ...]] = {
    "orders": ("order", "checkout"),
    "checkouts": ("checkout",),
    "carts": ("cart",),
}


@dataclass(frozen=True, slots=True)
class Keys:
    """Clean ids and tokens of one payload. `numbers`: what a thank-you page may report in place of the order's id."""

    kind: str
    order: str | None = None
    checkout: str | None = None
    cart: str | None = None
    numbers: tuple[str, ...] = ()

    @property
    def event_id(self) -> str | None:
        """None where there is nothing to make it of: a random one would be sent again at every retry."""
        ids = ((prefix, getattr(self, key)) for key, prefix in _EVENT_IDS[self.kind])
        return next((prefix + known for prefix, known in ids if known), None)

    @property
    def aliases(self) -> tuple[str, ...]:
        """Under which names a browser may report the same thing."""
        known = [(key, getattr(self, key)) for key in _ALIASES[self.kind]]
        known += [("order", number) for number in self.numbers]
        return tuple(dict.fromkeys(f"{key}:{value}" for key, value in known if value))


def keys_of(kind: str, body: Json) -> Keys:
    """The keys of a payload. Since API version 2026-04 checkouts have no `id` and orders no `checkout_id`:
    https://shopify.dev/changelog/removed-checkout-id-from-checkouts-and-orders-webhooks ."""
    own = token(body.get("token")) or token(body.get("id"))
    cart = token(body.get("cart_token"))
    if kind == "carts":
        return Keys(kind, cart=own)
    if kind == "checkouts":
        return Keys(kind, checkout=own, cart=cart)
    order = token(body.get("id")) or token(body.get("admin_graphql_api_id"))
    numbers = tuple(found for key in ("name", "order_number") if (found := exact_id(body.get(key))))
    return Keys(kind, order, token(body.get("checkout_token")), cart, numbers)
