"""What was bought or looked at, as Meta's `contents`, from a storefront's properties."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from core.inbound.values import amount, exact_id, quantity, rounded

Json = dict[str, Any]

# Which id of a product counts, by the app's choice (`capi_app.content_id`): it must equal the catalogue's.
_BY_CHOICE: dict[str, tuple[str, ...]] = {
    "variant": ("variant_id", "variantId"),
    "product": ("product_id", "productId"),
    "sku": ("sku",),
}
_ANY_ID = ("id", "product_id", "productId", "variant_id", "variantId", "sku", "item_id")
_PRICES = ("price", "item_price", "itemPrice")
_IDS = {choice: (*names, *_ANY_ID) for choice, names in _BY_CHOICE.items()}
CONTENT_TYPES = {"variant": "product", "product": "product_group", "sku": "product"}
_MOST_LINES = 500


def contents_of(properties: Json, *, choice: str, code: str | None, unit: Decimal = Decimal(1)) -> list[Json]:
    """`contents` from `products`, `contents` or `items`, else from the one product at the top.

    `unit`: what a price of 1 is worth, 0.01 where the storefront counts in cents.
    """
    for key in ("products", "contents", "items"):
        if isinstance(properties.get(key), list):
            items = (item for item in properties[key][:_MOST_LINES] if isinstance(item, dict))
            return [line for item in items if (line := _line(item, choice, code, unit))]
    single = {key: value for key, value in properties.items() if key != "id"}
    line = _line(single, choice, code, unit)
    return [line] if line else []


def content_ids(properties: Json, contents: list[Json]) -> list[str]:
    """The ids of the contents, else those that the sender lists itself."""
    listed = properties.get("content_ids") or properties.get("contentIds")
    given = [exact_id(item) for item in listed[:_MOST_LINES]] if isinstance(listed, list) else []
    ids = [line["id"] for line in contents] or [item for item in given if item]
    return list(dict.fromkeys(ids))


def _line(item: Json, choice: str, code: str | None, unit: Decimal) -> Json | None:
    names = _IDS.get(choice, _ANY_ID)
    for name in names:
        if name in item and (id_ := exact_id(item[name])):
            break
    else:
        return None
    line: Json = {"id": id_, "quantity": quantity(item.get("quantity")) or quantity(item.get("qty")) or 1}
    for name in _PRICES:
        if name in item and (price := amount(item[name])) is not None:
            line["item_price"] = rounded(price * unit, code)
            break
    return line
