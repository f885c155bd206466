"""What was bought and what it cost: exact ids, Decimals in the currency's own digits, one money for one event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from core.inbound.goods import CONTENT_TYPES
from core.inbound.shopify_money import BUYER, SHOP, Money, cart_price, cart_total, paid_price, total
from core.inbound.values import amount, exact_id, money, quantity, rounded

Json = dict[str, Any]

_ID_FIELD = {"variant": "variant_id", "product": "product_id", "sku": "sku"}
# An order's worth by the app's choice (`capi_app.value_of`), best first: without any Meta takes no Purchase.
_WORTH = {"subtotal": ("subtotal_price", "total_price")}
_MOST_LINES = 500


@dataclass(frozen=True, slots=True)
class Goods:
    value: Decimal | None
    currency: str | None
    contents: Sequence[Json]
    items: int
    content_type: str

    @property
    def whole(self) -> bool:
        """Whether its value and every price are known."""
        return None not in (self.value, self.currency) and all("item_price" in line for line in self.contents)

    def as_custom_data(self) -> Json:
        if not self.contents:
            return {}
        return {
            "contents": list(self.contents),
            "content_ids": list(dict.fromkeys(line["id"] for line in self.contents)),
            "content_type": self.content_type,
        }


def goods_of(kind: str, body: Json, *, content_id: str, value_of: str) -> Goods:
    """The goods of an order, a checkout or a cart.

    In the buyer's own money where the app wants it and everything is known in it, else all of it in the shop's.
    """
    if value_of == "presentment":
        found = _goods(kind, body, content_id, value_of, BUYER)
        if found.whole:
            return found
    return _goods(kind, body, content_id, value_of, SHOP)


def _goods(kind: str, body: Json, content_id: str, value_of: str, bag: str) -> Goods:
    lines = [line for line in body["line_items"] if isinstance(line, dict)]
    worth = cart_total(lines, bag) if kind == "carts" else _worth(body, value_of, bag)
    code = worth.currency
    # An amount of no currency says nothing; an order keeps it, and is refused for the currency it lacks.
    value = money(worth.amount, code) if code or kind == "orders" else None
    return Goods(
        value=value,
        currency=code,
        contents=_contents(kind, lines, _ID_FIELD.get(content_id, "variant_id"), bag, code),
        items=sum(map(_count, lines)),
        content_type=CONTENT_TYPES.get(content_id, "product"),
    )


def _worth(body: Json, value_of: str, bag: str) -> Money:
    found = [total(body, name, bag) for name in _WORTH.get(value_of, ("total_price",))]
    return next((one for one in found if one.whole), found[-1])


def _contents(kind: str, lines: list[Json], field: str, bag: str, code: str | None) -> list[Json]:
    """Lines without the chosen id (tips, custom items) and gift cards are in no catalogue: they are left out."""
    price_of = cart_price if kind == "carts" else paid_price
    contents: list[Json] = []
    for line in lines:
        id_, count = exact_id(line.get(field)), _count(line)
        if id_ is None or count == 0 or line.get("gift_card") is True:
            continue
        price = price_of(line, count, bag, code) if code else None
        priced = {} if price is None else {"item_price": rounded(price, code)}
        contents.append({"id": id_, "quantity": count, **priced})
    return contents[:_MOST_LINES]


def _count(line: Json) -> int:
    """How many were bought; one where nothing is said."""
    return 0 if amount(line.get("quantity")) == 0 else quantity(line.get("quantity")) or 1
