"""Money and lines of a Shopify payload: Decimals, rounded to the currency's own digits, one money bag an event."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from core.inbound.goods import CONTENT_TYPES
from core.inbound.values import amount, currency, exact_id, money, quantity, rounded

Json = dict[str, Any]

_ID_FIELD = {"variant": "variant_id", "product": "product_id", "sku": "sku"}
_MOST_LINES = 500


def total_money(body: Json) -> tuple[Decimal | None, str | None]:
    """Total and currency of an order or a checkout, in the shop's money, both from the same place."""
    code = currency(body.get("currency"))
    total = money(body.get("total_price"), code)
    if code is not None and total is not None:
        return total, code
    bag = _shop_money(body.get("total_price_set"))
    return bag if bag[0] is not None else (total, code)


def cart_money(body: Json) -> tuple[Decimal | None, str | None]:
    """A cart names no total and no currency of its own: both come from its lines."""
    lines = [line for line in body["line_items"] if isinstance(line, dict)]
    code = next(
        (
            found
            for line in lines
            for key in ("price_set", "line_price_set")
            if (found := _shop_money(line.get(key))[1])
        ),
        None,
    )
    prices = [price for line in lines if (price := amount(line.get("line_price"))) is not None]
    total = sum(prices, Decimal(0)) if prices and len(prices) == len(lines) else None
    return (None if total is None else money(total, code)), code


def lines_data(lines: list[Any], *, choice: str, currency: str | None, cart: bool = False) -> Json:
    """`contents`, `content_ids`, `content_type`, `num_items`; lines without the chosen id (tips) are left out."""
    field = _ID_FIELD.get(choice, "variant_id")
    contents = [
        _content(line, id_, currency, cart)
        for line in lines[:_MOST_LINES]
        if isinstance(line, dict) and (id_ := exact_id(line.get(field))) is not None
    ]
    if not contents:
        return {}
    return {
        "contents": contents,
        "content_ids": list(dict.fromkeys(content["id"] for content in contents)),
        "content_type": CONTENT_TYPES.get(choice, "product"),
        "num_items": sum(content["quantity"] for content in contents),
    }


def _content(line: Json, id_: str, currency: str | None, cart: bool) -> Json:
    count = quantity(line.get("quantity")) or 1
    price = amount(line.get("discounted_price")) if cart else None
    if price is None:
        price = _paid_price(line, count)
    content: Json = {"id": id_, "quantity": count}
    if price is not None:
        content["item_price"] = rounded(price, currency)
    return content


def _paid_price(line: Json, count: int) -> Decimal | None:
    """The price of one after its discounts."""
    price = amount(line.get("price"))
    if price is None:
        return None
    listed = line.get("discount_allocations")
    given = listed if isinstance(listed, list) else []
    shares = [amount(part.get("amount")) for part in given if isinstance(part, dict)]
    whole = amount(line.get("total_discount")) or Decimal(0)
    discount = max(sum((share for share in shares if share), Decimal(0)), whole)
    return max(price * count - discount, Decimal(0)) / count


def _shop_money(bag: Any) -> tuple[Decimal | None, str | None]:
    shop = bag.get("shop_money") if isinstance(bag, dict) else None
    if not isinstance(shop, dict):
        return None, None
    code = currency(shop.get("currency_code"))
    return money(shop.get("amount"), code), code
