from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from core.inbound.reading import WEBHOOK_DEPTH, read_object
from core.inbound.shopify import Delivery
from core.inbound.shopify_events import OtherTopic, WrongShape, to_event
from core.meta import events
from core.store.acceptance import NewEvent
from core.store.apps import App
from tests.inbound.bodies import BROWSER, SHOP, address, cart, checkout, line, order, raw, sha

Make = Callable[..., App]
BODIES = {"orders/create": order, "checkouts/create": checkout, "carts/create": cart}
SENT = Delivery(SHOP, None, None, None)


def mapped(app: App, topic: str, body: dict[str, Any], sent: Delivery = SENT) -> NewEvent:
    return to_event(app, topic, read_object(raw(body), depth=WEBHOOK_DEPTH), sent, now=datetime.now(UTC))


def payload(event: NewEvent) -> dict[str, Any]:
    assert event.skipped is None
    return json.loads(event.payload)


def test_an_order_becomes_a_purchase(an_app: Make) -> None:
    body = order()
    event = mapped(an_app(), "orders/create", body)
    said = payload(event)
    assert (event.event_id, event.order_id, event.source) == (
        "purchase.ck-31f0",
        "18446744073709551617",
        "orders/create",
    )
    assert said["event_time"] == int(datetime.fromisoformat(body["created_at"]).timestamp())
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
    body = order()
    people = payload(mapped(an_app(), "orders/create", body))["user_data"]
    clicked = int(datetime.fromisoformat(body["created_at"]).timestamp() * 1000)
    assert people == {
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
        "fbp": "fb.1.1760000000000.1234567890",
        "fbc": f"fb.1.{clicked}.IwAbC_9",
    }


def test_a_checkout_counts_its_items(an_app: Make) -> None:
    event = mapped(an_app(), "checkouts/create", checkout())
    assert (event.event_name, event.event_id) == ("InitiateCheckout", "checkout.ck-31f0")
    # Shopify's checkouts carry no user agent; their e-mail is enough to find the customer.
    assert event.skipped is None


def test_a_cart_names_nobody_and_is_skipped(an_app: Make) -> None:
    event = mapped(an_app(), "carts/create", cart())
    assert (event.event_name, event.event_id, event.skipped) == ("AddToCart", "cart.Z2NwLWV1", "no_match_keys")
    assert (str(event.value), event.currency) == ("41.01", "EUR")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"test": True}, "test_order"),
        ({"cancelled_at": "2026-11-23T10:00:00Z"}, "cancelled"),
        ({"financial_status": "refunded"}, "cancelled"),
        ({"source_name": "pos"}, "pos"),
        ({"source_name": "shopify_draft_order"}, "draft_order"),
        ({"source_name": "755357713"}, "other_channel"),
        ({"created_at": "2026-01-01T00:00:00Z"}, "too_old"),
        ({"client_details": None}, None),
        ({"total_price": None}, "no_value"),
        ({"source_name": None}, None),
        ({"total_price": "0.00"}, None),
    ],
)
def test_orders_that_are_no_purchase_on_the_web_are_skipped(
    an_app: Make,
    changes: dict[str, Any],
    reason: str | None,
) -> None:
    assert mapped(an_app(), "orders/create", order(**changes)).skipped == reason


@pytest.mark.parametrize(("currency", "total", "sent"), [("JPY", "23600", 23600), ("KWD", "1.2345", 1.235)])
def test_money_follows_the_currency(an_app: Make, currency: str, total: str, sent: float) -> None:
    said = payload(mapped(an_app(), "orders/create", order(currency=currency, total_price=total)))
    assert said["custom_data"]["value"] == sent


def test_money_comes_from_one_bag(an_app: Make) -> None:
    bag = {"shop_money": {"amount": "60.33", "currency_code": "AUD"}, "presentment_money": {"amount": "45.85"}}
    event = mapped(an_app(), "orders/create", order(total_price=None, total_price_set=bag))
    assert (str(event.value), event.currency) == ("60.33", "AUD")


@pytest.mark.parametrize(
    ("choice", "ids", "kind"),
    [
        ("variant", ["9223372036854775807"], "product"),
        ("product", ["9007199254740993"], "product_group"),
        ("sku", ["LAMP-B"], "product"),
    ],
)
def test_content_ids_are_the_apps_choice(an_app: Make, choice: str, ids: list[str], kind: str) -> None:
    custom = payload(mapped(an_app(content_id=choice), "orders/create", order()))["custom_data"]
    assert (custom["content_ids"], custom["content_type"]) == (ids, kind)


@pytest.mark.parametrize(
    "landing",
    [
        "https://evil.example/x?fbclid=1",
        "//evil.example/x",
        "https://[broken",
        None,
        "x" * 3000,
        "javascript:alert(1)",
    ],
)
def test_a_foreign_landing_page_becomes_the_shops_root(an_app: Make, landing: str | None) -> None:
    said = payload(mapped(an_app(), "orders/create", order(landing_site=landing)))
    assert said["event_source_url"] == f"https://{SHOP}/"


def test_an_order_without_checkout_is_named_by_its_own_id(an_app: Make) -> None:
    event = mapped(an_app(), "orders/create", order(checkout_token=None, id="gid://shopify/Order/12"))
    assert (event.event_id, event.order_id) == ("purchase.o12", "12")


def test_the_purchase_topic_is_the_apps_choice(an_app: Make) -> None:
    app = an_app(purchase_topic="orders/paid")
    sent = Delivery(SHOP, "orders/paid", None, datetime.now(UTC) - timedelta(hours=1))
    event = mapped(app, "orders/paid", order(created_at="2026-11-01T00:00:00Z"), sent)
    assert event.event_time == sent.triggered_at.replace(microsecond=0)
    with pytest.raises(OtherTopic):
        mapped(app, "orders/create", order())


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("carts/create", order()),
        ("carts/create", checkout(abandoned_checkout_url="https://s/x")),
        ("orders/create", cart()),
        ("checkouts/create", order()),
        ("orders/create", {"id": 1}),
        ("orders/create", {"line_items": {}, "currency": "EUR"}),
        ("carts/create", cart(id=None, token=None)),
        ("orders/create", order(id=None, checkout_token=None)),
    ],
)
def test_a_body_of_another_topic_is_refused(an_app: Make, topic: str, body: dict[str, Any]) -> None:
    with pytest.raises(WrongShape):
        mapped(an_app(), topic, body)


def test_protected_customer_data_may_be_missing_entirely(an_app: Make) -> None:
    body = order(email="", customer=None, billing_address={"country_code": "IT", "province_code": "TO"})
    people = payload(mapped(an_app(), "orders/create", body))["user_data"]
    assert {"em", "fn", "external_id"}.isdisjoint(people)
    assert people["country"] == sha("it")


def test_staff_addresses_of_draft_orders_are_not_passed_on(an_app: Make) -> None:
    body = order(browser_ip="127.0.0.1", client_details={"browser_ip": "10.1.1.1", "user_agent": BROWSER})
    assert "client_ip_address" not in payload(mapped(an_app(), "orders/create", body))["user_data"]


_odd = st.sampled_from(
    [None, "", [], {}, 0, -1, "x", True, [None], {"a": 1}, 1e300, "\x00", "555-555-SHIP", [{"id": 1}]]
)
_KEYS = sorted({*order(), *checkout(), *cart(), *address(), *line()})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(BODIES)), st.dictionaries(st.sampled_from(_KEYS), _odd, max_size=6), st.booleans())
def test_no_payload_however_odd_gives_what_meta_would_refuse(
    an_app: Make,
    topic: str,
    changes: dict[str, Any],
    inside: bool,
) -> None:
    body = BODIES[topic]()
    target = [*body["line_items"], body.get("billing_address") or {}] if inside else [body]
    for part in target:
        part.update(changes)
    try:
        event = mapped(an_app(), topic, body)
    except BadInput:
        return
    assert event.skipped or events.check(json.loads(event.payload), now=datetime.now(UTC)) is None
