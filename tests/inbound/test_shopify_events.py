"""Which event a webhook becomes, under which names, when, where, and whether Meta hears of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.inbound.reading import WEBHOOK_DEPTH, read_object
from core.inbound.shopify import Delivery
from core.inbound.shopify_events import BROWSER_WAIT, OtherTopic, to_event
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.visitors import Join
from tests.inbound.bodies import BROWSER, SHOP, cart, checkout, order, raw, sha

Make = Callable[..., App]
SENT = Delivery(SHOP, None, None, None)
NOW = datetime.now(UTC).replace(microsecond=0)
FBP = "fb.1.1760000000000.1234567890"
BODIES = {"orders/create": order, "orders/paid": order, "checkouts/create": checkout, "carts/create": cart}


def mapped(app: App, topic: str, body: dict[str, Any], sent: Delivery = SENT) -> NewEvent:
    return to_event(app, topic, read_object(raw(body), depth=WEBHOOK_DEPTH), sent, now=NOW)


def payload(event: NewEvent) -> dict[str, Any]:
    assert event.skipped is None
    return json.loads(event.payload)


def ago(**time: float) -> str:
    return (NOW - timedelta(**time)).isoformat()


def test_an_order_becomes_a_purchase(an_app: Make) -> None:
    body = order(created_at=ago(minutes=5))
    event = mapped(an_app(), "orders/create", body)
    said = payload(event)
    assert (event.event_id, event.order_id, event.source) == (
        "purchase.ck-31f0",
        "18446744073709551617",
        "orders/create",
    )
    assert said["event_time"] == int(NOW.timestamp()) - 300
    assert said["action_source"] == "website"
    assert said["event_source_url"] == f"https://{SHOP}/collections/light?utm_source=news&fbclid=IwAbC_9"
    assert said["custom_data"] == {
        "value": 44.99,
        "currency": "EUR",
        "order_id": "18446744073709551617",
        "content_type": "product",
        "content_ids": ["9223372036854775807"],
        "contents": [{"id": "9223372036854775807", "quantity": 2, "item_price": 22.5}],
    }


def test_the_buyer_is_hashed_under_metas_keys(an_app: Make) -> None:
    body = order(created_at=ago(minutes=5))
    assert payload(mapped(an_app(), "orders/create", body))["user_data"] == {
        "em": sha("ana.conti@example.com"),
        "ph": sha("390115550142"),
        "fn": sha("ana"),
        "ln": sha("conti"),
        "ct": sha("turin"),
        "st": sha("to"),
        "zp": sha("10121"),
        "country": sha("it"),
        "external_id": sha(f"{SHOP}:77"),
        "client_ip_address": "93.184.216.34",
        "client_user_agent": BROWSER,
        "fbp": FBP,
        "fbc": f"fb.1.{int(NOW.timestamp()) - 300}000.IwAbC_9",
    }


def test_a_checkout_counts_its_items(an_app: Make) -> None:
    event = mapped(an_app(), "checkouts/create", checkout())
    assert (event.event_name, event.event_id) == ("InitiateCheckout", "checkout.ck-31f0")
    assert payload(event)["custom_data"]["num_items"] == 3


def test_a_cart_names_nobody_and_waits_for_its_browser(an_app: Make) -> None:
    event = mapped(an_app(), "carts/create", cart())
    assert (event.event_name, event.event_id, event.skipped) == ("AddToCart", "cart.Z2NwLWV1", None)
    assert (str(event.value), event.currency) == ("41.01", "EUR")
    assert event.join == Join(NOW + BROWSER_WAIT, cart="Z2NwLWV1")
    assert payload(event)["user_data"] == {}


# send when


@pytest.mark.parametrize(
    ("topic", "body", "reason"),
    [
        ("orders/create", order(test=True), "test_order"),
        ("orders/create", order(test=None), None),
        ("orders/create", order(cancelled_at="2026-11-23T10:00:00Z"), "cancelled"),
        ("orders/create", order(financial_status="refunded"), "cancelled"),
        ("orders/create", order(financial_status="voided"), "cancelled"),
        ("orders/create", order(financial_status="partially_refunded"), None),
        ("orders/create", order(financial_status="pending"), None),
        ("orders/create", order(created_at="2026-01-01T00:00:00Z"), "too_old"),
        ("orders/create", order(client_details=None), None),
        ("orders/create", order(client_details={}, browser_ip=None), None),
        ("orders/create", order(total_price=None), "no_value"),
        ("orders/create", order(total_price="-3.00"), "no_value"),
        ("orders/create", order(currency="US$"), "no_currency"),
        ("orders/create", order(total_price="0.00"), None),
        ("orders/create", order(line_items=[]), None),
        ("checkouts/create", checkout(completed_at="2026-11-23T10:00:00Z"), "completed"),
        ("checkouts/create", checkout(line_items=[]), "empty"),
        ("checkouts/create", checkout(source_name="pos"), "pos"),
        ("checkouts/create", checkout(created_at="2026-01-01T00:00:00Z"), "too_old"),
        ("carts/create", cart(line_items=[]), "empty"),
        ("carts/create", cart(line_items=[None]), "empty"),
    ],
)
def test_what_is_no_fresh_purchase_is_skipped(an_app: Make, topic: str, body: dict[str, Any], reason: str) -> None:
    event = mapped(an_app(), topic, body)
    assert event.skipped == reason
    assert reason is None or (event.join is None and event.payload == b"")


def test_a_free_order_is_a_purchase_of_nothing(an_app: Make) -> None:
    assert payload(mapped(an_app(), "orders/create", order(total_price="0.00")))["custom_data"]["value"] == 0


def test_the_purchase_topic_is_the_apps_choice(an_app: Make) -> None:
    assert mapped(an_app(purchase_topic="orders/paid"), "orders/paid", order()).source == "orders/paid"
    for chosen, came in (("orders/paid", "orders/create"), ("orders/create", "orders/paid")):
        with pytest.raises(OtherTopic):
            mapped(an_app(purchase_topic=chosen), came, order())


# event_id, the other names, the browser


@pytest.mark.parametrize(
    ("topic", "body", "event_id", "aliases"),
    [
        ("orders/create", order(id=5), "purchase.ck-31f0", ("order:5", "checkout:ck-31f0")),
        ("orders/create", order(id="5", checkout_token=None), "purchase.o5", ("order:5",)),
        ("orders/create", order(id="gid://shopify/Order/5", checkout_token=""), "purchase.o5", ("order:5",)),
        (
            "orders/create",
            order(id=None, admin_graphql_api_id="gid://shopify/Order/5"),
            "purchase.ck-31f0",
            ("order:5", "checkout:ck-31f0"),
        ),
        ("orders/create", order(id=5.5, checkout_token="ck?key=1"), "purchase.ck", ("checkout:ck",)),
        ("orders/create", order(id=2**64, checkout_token=None), f"purchase.o{2**64}", (f"order:{2**64}",)),
        (
            "orders/create",
            order(id=5, name="#1001", order_number=1001),
            "purchase.ck-31f0",
            ("order:5", "checkout:ck-31f0", "order:#1001", "order:1001"),
        ),
        ("checkouts/create", checkout(), "checkout.ck-31f0", ("checkout:ck-31f0",)),
        ("checkouts/create", checkout(token="ck?key=2"), "checkout.ck", ("checkout:ck",)),
        ("checkouts/create", checkout(token=None, id=77), "checkout.77", ("checkout:77",)),
        ("carts/create", cart(), "cart.Z2NwLWV1", ("cart:Z2NwLWV1",)),
        ("carts/create", cart(token=None), "cart.Z2NwLWV1", ("cart:Z2NwLWV1",)),
        ("carts/create", cart(token="gid://shopify/Cart/c1?key=9"), "cart.c1", ("cart:c1",)),
        ("carts/create", cart(id=7, token=7), "cart.7", ("cart:7",)),
    ],
)
def test_an_event_has_the_names_its_browser_gives_it(
    an_app: Make, topic: str, body: dict[str, Any], event_id: str, aliases: tuple[str, ...]
) -> None:
    event = mapped(an_app(), topic, body)
    assert (event.event_id, event.aliases, event.notes) == (event_id, aliases, ())


@pytest.mark.parametrize(
    ("topic", "body", "policy", "waits", "keys"),
    [
        ("orders/create", order(), "send", False, {"checkout": "ck-31f0", "cart": "ct-9", "fbp": FBP}),
        ("orders/create", order(), "limit", False, {"checkout": "ck-31f0", "cart": "ct-9", "fbp": FBP}),
        ("orders/create", order(), "require", True, {"checkout": "ck-31f0", "cart": "ct-9", "fbp": FBP}),
        (
            "orders/create",
            order(client_details=None, checkout_token=None, cart_token="ct?key=1"),
            "send",
            True,
            {"cart": "ct", "fbp": FBP},
        ),
        ("checkouts/create", checkout(), "send", True, {"checkout": "ck-31f0", "cart": "ct-9"}),
        (
            "checkouts/create",
            checkout(cart_token=None, note_attributes=[{"name": "_fbp", "value": FBP}]),
            "send",
            True,
            {"checkout": "ck-31f0", "fbp": FBP},
        ),
        ("carts/create", cart(), "require", True, {"cart": "Z2NwLWV1"}),
        ("orders/create", order(checkout_token=None, cart_token="", note_attributes=[]), "send", False, {}),
    ],
)
def test_an_event_looks_for_its_browser(
    an_app: Make, topic: str, body: dict[str, Any], policy: str, waits: bool, keys: dict[str, str]
) -> None:
    event = mapped(an_app(consent_policy=policy), topic, body)
    assert event.skipped is None
    until = NOW + timedelta(seconds=60) if waits else NOW
    assert event.join == Join(until, **keys)


def test_an_order_without_tokens_waits_for_the_browser_that_names_it(an_app: Make) -> None:
    body = order(checkout_token=None, cart_token=None, note_attributes=None)
    waiting = mapped(an_app(consent_policy="require"), "orders/create", body)
    assert (waiting.skipped, waiting.join) == (None, Join(NOW + timedelta(seconds=60)))
    nobody = {
        "email": "",
        "customer": None,
        "billing_address": None,
        "client_details": None,
        "landing_site": None,
        "browser_ip": None,
    }
    unknown = mapped(an_app(), "orders/create", body | nobody)
    assert (unknown.skipped, unknown.join) == (None, Join(NOW + timedelta(seconds=60)))


# event_time

PAID = ago(days=30)


@pytest.mark.parametrize(
    ("topic", "body", "triggered", "expected"),
    [
        ("orders/create", {"created_at": ago(hours=3)}, timedelta(hours=1), timedelta(hours=3)),
        ("orders/create", {"created_at": ago(hours=3), "updated_at": ago(hours=1)}, None, timedelta(hours=3)),
        ("orders/create", {"created_at": ago(hours=-2)}, None, timedelta(0)),
        ("orders/create", {"created_at": "soon", "processed_at": ago(hours=2)}, None, timedelta(hours=2)),
        ("orders/create", {"created_at": None, "updated_at": ago(hours=2)}, timedelta(hours=9), timedelta(hours=9)),
        ("orders/create", {"created_at": {}, "updated_at": ago(hours=2)}, None, timedelta(0)),
        ("orders/create", {"created_at": (NOW - timedelta(hours=2)).timestamp()}, None, timedelta(hours=2)),
        ("checkouts/create", {"created_at": ago(hours=1), "updated_at": ago(hours=0)}, None, timedelta(hours=1)),
        ("carts/create", {"created_at": ago(hours=1), "updated_at": ago(hours=0)}, None, timedelta(hours=1)),
        ("carts/create", {"created_at": ""}, timedelta(hours=2), timedelta(hours=2)),
        ("orders/paid", {"created_at": PAID, "processed_at": PAID}, timedelta(hours=4), timedelta(hours=4)),
        ("orders/paid", {"created_at": PAID}, timedelta(hours=-4), timedelta(0)),
        ("orders/paid", {"created_at": PAID, "processed_at": ago(days=1)}, timedelta(hours=5), timedelta(days=1)),
        ("orders/paid", {"created_at": PAID, "processed_at": ago(days=1)}, None, timedelta(days=1)),
        ("orders/paid", {"created_at": ago(days=2), "processed_at": "?"}, timedelta(hours=5), timedelta(days=2)),
        ("orders/paid", {"created_at": None, "processed_at": None}, timedelta(hours=5), timedelta(hours=5)),
    ],
)
def test_an_event_happened_when_the_shop_says(
    an_app: Make, topic: str, body: dict[str, Any], triggered: timedelta | None, expected: timedelta
) -> None:
    sent = Delivery(SHOP, topic, None, None if triggered is None else NOW - triggered)
    app = an_app(purchase_topic=topic if topic.startswith("orders") else "orders/create")
    assert mapped(app, topic, BODIES[topic](**body), sent).event_time == NOW - expected


def test_a_click_is_as_old_as_its_order_however_late_it_was_paid(an_app: Make) -> None:
    body = order(created_at="2026-11-01T10:00:00.250Z")
    event = mapped(an_app(purchase_topic="orders/paid"), "orders/paid", body, Delivery(SHOP, None, None, NOW))
    assert payload(event)["user_data"]["fbc"] == "fb.1.1793527200250.IwAbC_9"
