"""What an event says of money and goods, row by row of the mapping."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from core.inbound.reading import WEBHOOK_DEPTH, read_object
from core.inbound.shopify import Delivery
from core.inbound.shopify_events import to_event
from core.store.acceptance import NewEvent
from core.store.apps import App
from tests.inbound.bodies import (
    SHOP,
    bags,
    cart,
    cart_from_abroad,
    checkout,
    line,
    order,
    order_from_abroad,
    raw,
)

Make = Callable[..., App]
Json = dict[str, Any]


def mapped(app: App, topic: str, body: Json) -> NewEvent:
    sent = Delivery(SHOP, None, None, None)
    return to_event(app, topic, read_object(raw(body), depth=WEBHOOK_DEPTH), sent, now=datetime.now(UTC))


def payload(event: NewEvent) -> Json:
    assert event.skipped is None
    return json.loads(event.payload)


def custom(app: App, topic: str, body: Json) -> Json:
    return payload(mapped(app, topic, body))["custom_data"]


def prices(said: Json) -> list[Any]:
    return [one.get("item_price") for one in said["contents"]]


# value and currency, with the prices of the same money


@pytest.mark.parametrize(
    ("value_of", "expected"),
    [
        ("total", (59.22, "AUD", [23.69])),
        ("subtotal", (47.38, "AUD", [23.69])),
        ("presentment", (45, "USD", [18])),
        ("anything else", (59.22, "AUD", [23.69])),
    ],
)
def test_an_order_is_worth_what_the_app_says(an_app: Make, value_of: str, expected: tuple[Any, ...]) -> None:
    event = mapped(an_app(value_of=value_of), "orders/create", order_from_abroad())
    said = payload(event)["custom_data"]
    assert (said["value"], said["currency"], prices(said)) == expected
    assert (float(event.value or 0), event.currency) == expected[:2]


@pytest.mark.parametrize(
    ("value_of", "expected"),
    [("total", (75, "AUD", [25])), ("subtotal", (75, "AUD", [25])), ("presentment", (57, "USD", [19]))],
)
def test_a_cart_is_worth_its_lines(an_app: Make, value_of: str, expected: tuple[Any, ...]) -> None:
    said = custom(an_app(value_of=value_of), "carts/create", cart_from_abroad())
    assert (said["value"], said["currency"], prices(said)) == expected


_GOODS = order_from_abroad()["line_items"][0]
_HALF = {"presentment_money": {"amount": "45.00"}, "shop_money": {"amount": "59.22", "currency_code": "AUD"}}


@pytest.mark.parametrize(
    "changes",
    [
        {"total_price_set": None},
        {"total_price_set": _HALF},
        {"total_price_set": bags("59.22", "45.00", paid_code="US$")},
        {"total_price_set": bags("59.22", "-1")},
        {"line_items": [_GOODS | {"price_set": None}]},
        {"line_items": [_GOODS | {"price_set": {**bags("26.32", "20.00"), "presentment_money": {"amount": "20.00"}}}]},
        {"line_items": [_GOODS, _GOODS | {"price_set": bags("26.32", "20.00", paid_code="CAD")}]},
        {"line_items": [_GOODS | {"discount_allocations": [{"amount": "5.26"}]}]},
        {"line_items": [_GOODS | {"total_discount": "5.26", "total_discount_set": {}}]},
    ],
)
def test_what_the_buyers_money_does_not_wholly_tell_is_told_in_the_shops(an_app: Make, changes: Json) -> None:
    said = custom(an_app(value_of="presentment"), "orders/create", order_from_abroad() | changes)
    assert (said["value"], said["currency"], prices(said)[0]) == (59.22, "AUD", 23.69)


def test_a_gift_or_a_tip_does_not_have_to_be_priced_in_the_buyers_money(an_app: Make) -> None:
    lines = [_GOODS, line(variant_id=None, price="3.00"), line(gift_card=True)]
    said = custom(an_app(value_of="presentment"), "orders/create", order_from_abroad() | {"line_items": lines})
    assert (said["value"], said["currency"], prices(said)) == (45, "USD", [18])


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("checkouts/create", checkout(presentment_currency="USD")),
        ("carts/create", cart(line_items=[line(line_price="44.99", price_set=bags("44.99", "1", shop_code="EUR"))])),
    ],
)
def test_where_there_is_no_other_money_it_is_the_shops(an_app: Make, topic: str, body: Json) -> None:
    said = custom(an_app(value_of="presentment"), topic, body)
    assert (said["value"], said["currency"]) == (44.99, "EUR")


@pytest.mark.parametrize(
    ("changes", "value", "currency"),
    [
        ({"total_price": "10.649999999999999"}, 10.65, "EUR"),
        ({"total_price": 10.649999999999999}, 10.65, "EUR"),
        ({"total_price": 45, "currency": " eur"}, 45, "EUR"),
        ({"total_price": "23600", "currency": "JPY"}, 23600, "JPY"),
        ({"total_price": "23600.4", "currency": "CLP"}, 23600, "CLP"),
        ({"total_price": "1.2345", "currency": "KWD"}, 1.235, "KWD"),
        ({"total_price": None, "total_price_set": bags("60.33", "45.85")}, 60.33, "AUD"),
        ({"total_price": "x", "total_price_set": bags("60.33", "45.85")}, 60.33, "AUD"),
        ({"currency": None, "total_price_set": bags("60.33", "45.85")}, 60.33, "AUD"),
        ({"currency": "EUR", "total_price_set": bags("60.33", "45.85")}, 44.99, "EUR"),
    ],
)
def test_money_is_exact_and_from_one_place(an_app: Make, changes: Json, value: float, currency: str) -> None:
    said = custom(an_app(), "orders/create", order(**changes))
    assert (said["value"], said["currency"]) == (value, currency)


def test_an_app_that_counts_subtotals_gets_the_total_where_there_is_none(an_app: Make) -> None:
    assert custom(an_app(value_of="subtotal"), "orders/create", order())["value"] == 44.99
    assert custom(an_app(value_of="subtotal"), "checkouts/create", checkout(subtotal_price="40"))["value"] == 40


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("checkouts/create", checkout(currency=None)),
        ("carts/create", cart(line_items=[line(line_price="50.00", discounted_price="25.00")])),
    ],
)
def test_an_amount_of_no_currency_is_not_sent(an_app: Make, topic: str, body: Json) -> None:
    said = custom(an_app(), topic, body)
    assert {"value", "currency"}.isdisjoint(said)
    assert prices(said) == [None]


@pytest.mark.parametrize(
    "second",
    [
        line(line_price=None, price_set=bags("1", "1")),
        line(line_price="9.00", price_set=bags("9", "9", shop_code="NZD")),
    ],
)
def test_a_cart_that_cannot_be_summed_has_no_value(an_app: Make, second: Json) -> None:
    said = custom(an_app(), "carts/create", cart(line_items=[*cart_from_abroad()["line_items"], second]))
    assert ("value" in said, said["currency"]) == (False, "AUD")


# contents


@pytest.mark.parametrize(
    ("changes", "price"),
    [
        ({}, 22.5),
        ({"total_discount": "9.00"}, 20.5),
        ({"total_discount": "5.00", "discount_allocations": [{"amount": "5.01"}, {"amount": "4.99"}]}, 20),
        ({"discount_allocations": None, "total_discount": None}, 25),
        ({"discount_allocations": [None, {"amount": "x"}, {}], "total_discount": "-1"}, 25),
        ({"discount_allocations": [{"amount": "80"}]}, 0),
        ({"quantity": 3, "price": "10.649999999999999", "discount_allocations": []}, 10.65),
        ({"quantity": 3, "price": "10.00", "discount_allocations": [{"amount": "10.00"}]}, 6.67),
        ({"price": None}, None),
        ({"price": None, "price_set": bags("25.00", "1", shop_code="EUR")}, 22.5),
        ({"price_set": bags("25.00", "1", shop_code="AUD")}, None),
    ],
)
def test_a_price_is_what_one_piece_cost_in_the_end(an_app: Make, changes: Json, price: float | None) -> None:
    assert prices(custom(an_app(), "orders/create", order(line_items=[line(**changes)]))) == [price]


def test_prices_have_the_digits_of_their_currency(an_app: Make) -> None:
    for currency, price in (("JPY", 22), ("KWD", 22.495)):
        assert prices(custom(an_app(), "orders/create", order(currency=currency)))[0] == price


@pytest.mark.parametrize(
    ("changes", "price"), [({}, 20), ({"discounted_price": None}, 22.5), ({"discounted_price": "10.649999999"}, 10.65)]
)
def test_a_carts_price_is_the_discounted_one(an_app: Make, changes: Json, price: float) -> None:
    goods = line(line_price="40.00", discounted_price="20.00", price_set=bags("25", "1", shop_code="EUR")) | changes
    assert prices(custom(an_app(), "carts/create", cart(line_items=[goods]))) == [price]


@pytest.mark.parametrize(
    ("choice", "ids", "kind"),
    [
        ("variant", ["9223372036854775807"], "product"),
        ("product", ["9007199254740993"], "product_group"),
        ("sku", ["LAMP-B"], "product"),
    ],
)
def test_content_ids_are_the_apps_choice(an_app: Make, choice: str, ids: list[str], kind: str) -> None:
    for topic, body in (("orders/create", order()), ("checkouts/create", checkout()), ("carts/create", cart())):
        said = custom(an_app(content_id=choice), topic, body)
        assert (said["content_ids"], said["content_type"]) == (ids, kind)
        assert {one["id"] for one in said["contents"]} == set(ids)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (2**63 + 1, str(2**63 + 1)),
        ("39072856", "39072856"),
        ("gid://shopify/ProductVariant/18446744073709551617", "18446744073709551617"),
        (3.9072856e7, None),
        (None, None),
        ("", None),
        (True, None),
        ([1], None),
    ],
)
def test_an_id_is_exact_or_its_line_is_left_out(an_app: Make, given: Any, sent: str | None) -> None:
    said = custom(an_app(), "orders/create", order(line_items=[line(variant_id=given), line(variant_id=5)]))
    assert said["content_ids"] == ([sent, "5"] if sent else ["5"])


def test_gift_cards_tips_and_nothing_are_no_content(an_app: Make) -> None:
    lines = [line(gift_card=True), line(variant_id=None), line(quantity=0), "tip", None, line(quantity=None)]
    said = custom(an_app(), "orders/create", order(line_items=lines))
    assert [(one["id"], one["quantity"]) for one in said["contents"]] == [("9223372036854775807", 1)]
    empty = custom(an_app(), "orders/create", order(line_items=[line(gift_card=True)]))
    assert empty.keys() == {"value", "currency", "order_id"}


def test_the_number_of_items_belongs_to_a_checkout_only(an_app: Make) -> None:
    lines = [line(quantity=2), line(quantity=3, variant_id=None), line(quantity="x"), line(quantity=0)]
    assert custom(an_app(), "checkouts/create", checkout(line_items=lines))["num_items"] == 6
    assert "num_items" not in custom(an_app(), "orders/create", order(line_items=lines))
    assert "num_items" not in custom(an_app(), "carts/create", cart())


@pytest.mark.parametrize("id_", [820982911946154508, "820982911946154508", "gid://shopify/Order/820982911946154508"])
def test_an_orders_id_is_text(an_app: Make, id_: Any) -> None:
    event = mapped(an_app(), "orders/create", order(id=id_))
    assert payload(event)["custom_data"]["order_id"] == event.order_id == "820982911946154508"
    assert "order_id" not in custom(an_app(), "checkouts/create", checkout(id=id_))
