"""Amounts in a Shopify payload. A plain field is the shop's money, `…_set` beside it holds the shop's and the buyer's.

https://shopify.dev/docs/api/admin-rest/latest/resources/order : `currency` is the shop's, and the buyer may have paid
in `presentment_currency`. What is known in one of the two only must not be mixed with the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from core.inbound.values import amount, currency

Json = dict[str, Any]

SHOP, BUYER = "shop_money", "presentment_money"
_SETS_OF_A_CART_LINE = ("price", "line_price", "discounted_price")


@dataclass(frozen=True, slots=True)
class Money:
    """An amount as it was written, and the currency that is said of it."""

    amount: Decimal | None = None
    currency: str | None = None

    @property
    def whole(self) -> bool:
        return self.amount is not None and self.currency is not None


def total(body: Json, name: str, bag: str) -> Money:
    """`total_price` or `subtotal_price` of an order or a checkout: amount and currency from the same place."""
    plain = Money(amount(body.get(name)), currency(body.get("currency")))
    if bag == SHOP and plain.whole:
        return plain
    stated = _stated(body, name, bag)
    return plain if bag == SHOP and stated.amount is None else stated


def cart_total(lines: list[Json], bag: str) -> Money:
    """A cart names no total and no currency of its own: both come from its lines."""
    codes = [_stated(line, name, bag).currency for line in lines for name in _SETS_OF_A_CART_LINE]
    said = list(dict.fromkeys(code for code in codes if code))
    prices = [_at(line, "line_price", bag).amount for line in lines]
    known = [price for price in prices if price is not None]
    whole = len(known) == len(lines) > 0 and len(said) == 1
    return Money(sum(known, Decimal(0)) if whole else None, said[0] if said else None)


def paid_price(line: Json, count: int, bag: str, code: str) -> Decimal | None:
    """The price of one after its discounts; None unless every part of it is known in this currency."""
    price, discount = _in(line, "price", bag, code), _discount(line, bag, code)
    if price is None or discount is None:
        return None
    return max(price * count - discount, Decimal(0)) / count


def cart_price(line: Json, count: int, bag: str, code: str) -> Decimal | None:
    discounted = _in(line, "discounted_price", bag, code)
    return paid_price(line, count, bag, code) if discounted is None else discounted


def _discount(line: Json, bag: str, code: str) -> Decimal | None:
    """The larger of the shares listed and the line's own sum: each holds what the other may lack."""
    listed = line.get("discount_allocations")
    parts = [part for part in listed if isinstance(part, dict)] if isinstance(listed, list) else []
    shares = [_share(part, "amount", bag, code) for part in parts]
    whole = _share(line, "total_discount", bag, code)
    known = [share for share in shares if share is not None]
    return None if whole is None or len(known) < len(shares) else max(sum(known, Decimal(0)), whole)


def _share(source: Json, name: str, bag: str, code: str) -> Decimal | None:
    """A discount in this bag: 0 where there is none, None where there is one that only another bag knows."""
    found = _in(source, name, bag, code)
    return Decimal(0) if found is None and not _at(source, name, SHOP).amount else found


def _in(source: Json, name: str, bag: str, code: str) -> Decimal | None:
    """The amount, unless it is said to be in another currency. A plain field is the shop's, and need not say so."""
    found = _at(source, name, bag)
    return found.amount if found.currency == code or (found.currency is None and bag == SHOP) else None


def _at(source: Json, name: str, bag: str) -> Money:
    stated = _stated(source, name, bag)
    plain = amount(source.get(name)) if bag == SHOP else None
    return stated if plain is None else Money(plain, stated.currency)


def _stated(source: Json, name: str, bag: str) -> Money:
    bags = source.get(f"{name}_set")
    one = bags.get(bag) if isinstance(bags, dict) else None
    return Money(amount(one.get("amount")), currency(one.get("currency_code"))) if isinstance(one, dict) else Money()
