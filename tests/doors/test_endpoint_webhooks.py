from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from sqlalchemy import Engine

from tests.inbound.bodies import SECRET, cart, checkout, headers, order, raw, signature
from tests.inbound.serving import Endpoint, an_endpoint


@pytest.fixture
def endpoint(engine: Engine) -> Iterator[Endpoint]:
    with an_endpoint(engine) as running:
        yield running


def test_an_order_waits_in_the_outbox_when_it_is_answered(endpoint: Endpoint) -> None:
    answer = endpoint.webhook("orders/create", order())
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    (event,) = endpoint.events()
    assert (event.event_name, event.event_id, event.state, event.order_id) == (
        "Purchase",
        "purchase.ck-31f0",
        "due",
        "18446744073709551617",
    )
    assert json.loads(endpoint.payloads()[0])["custom_data"]["value"] == 44.99
    assert b"example.com" not in endpoint.payloads()[0].lower()


@pytest.mark.parametrize(
    ("topic", "body", "event_id"),
    [
        ("checkouts/create", checkout(email=None, phone=None, customer=None), "checkout.ck-31f0"),
        ("carts/create", cart(), "cart.Z2NwLWV1"),
    ],
)
@pytest.mark.parametrize("route", ["its own", "shopify"])
def test_what_lacks_a_browser_waits_for_it(
    endpoint: Endpoint, topic: str, body: dict[str, object], event_id: str, route: str
) -> None:
    answer = endpoint.webhook(topic if route == "its own" else route, body, header_topic=topic)
    assert answer.status_code == 200
    assert [(event.event_id, event.source) for event in endpoint.events()] == [(event_id, topic)]


def test_a_redelivery_is_a_duplicate(endpoint: Endpoint) -> None:
    body = order()
    answers = [endpoint.webhook("orders/create", body).json() for _ in range(3)]
    assert [answer["accepted"] for answer in answers] == [1, 0, 0]
    assert len(endpoint.events()) == 1


def test_a_bad_signature_is_refused_and_noted(endpoint: Endpoint) -> None:
    answer = endpoint.webhook("orders/create", order(), secret="somebody_elses")
    assert (answer.status_code, endpoint.events()) == (401, [])
    assert [(receipt.source, receipt.reason, receipt.status) for receipt in endpoint.receipts()] == [
        ("orders/create", "bad_signature", 401),
    ]


def test_strangers_cannot_fill_the_receipts(endpoint: Endpoint) -> None:
    for _ in range(40):
        assert endpoint.webhook("carts/create", b"{}", secret="x").status_code == 401
    assert len(endpoint.receipts()) < 40


def test_both_secrets_are_good_while_they_rotate(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "webhooks"), an_endpoint(engine, secrets=("the_new_one", SECRET)) as endpoint:
        assert endpoint.webhook("orders/create", order()).json()["accepted"] == 1
        assert endpoint.webhook("orders/create", order(), secret="the_new_one").json()["dropped"] != []
        assert endpoint.webhook("orders/create", order(), secret="the_old_one").status_code == 401
    second = [record for record in caplog.records if "second secret" in record.getMessage()]
    assert [record.secret for record in second] == [2]  # type: ignore[attr-defined]


def test_two_signatures_are_none(endpoint: Endpoint) -> None:
    body = raw(order())
    both = {**headers(body, "orders/create"), "shopify-hmac-sha256": signature(body)}
    assert (
        requests.post(f"{endpoint.url}/webhooks/orders/create", data=body, headers=both, timeout=10).status_code == 401
    )
    none = {name: value for name, value in both.items() if "hmac" not in name.lower()}
    assert requests.post(f"{endpoint.url}/webhooks/shopify", data=body, headers=none, timeout=10).status_code == 401
    assert endpoint.events() == []


@pytest.mark.parametrize("route", ["orders/create", "shopify"])
def test_the_newer_headers_are_read_too(endpoint: Endpoint, route: str) -> None:
    body = raw(order())
    newer = {name.removeprefix("X-").lower(): value for name, value in headers(body, "orders/create").items()}
    answer = requests.post(f"{endpoint.url}/webhooks/{route}", data=body, headers=newer, timeout=10)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)


@pytest.mark.parametrize("secrets", [()])
def test_without_a_secret_webhooks_are_refused_and_the_log_says_why(
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    secrets: tuple[str, ...],
) -> None:
    with caplog.at_level(logging.WARNING, "webhooks"), an_endpoint(engine, secrets=secrets) as endpoint:
        assert [endpoint.webhook("orders/create", order()).status_code for _ in range(3)] == [401] * 3
    lines = [record.getMessage() for record in caplog.records if "SHOPIFY_API_SECRET" in record.getMessage()]
    assert len(lines) == 1
    assert "put the client secret" in lines[0]


@pytest.mark.parametrize(
    ("body", "options", "reason"),
    [
        (order(), {"shop": "stranger.myshopify.com"}, "unknown_shop"),
        (b'{"id": 1,', {}, "broken_json"),
        (b"[]", {}, "broken_json"),
        (b"", {}, "broken_json"),
        (cart(), {}, "wrong_shape"),
        (order(), {"header_topic": "carts/create"}, "topic_mismatch"),
        (order(), {"header_topic": "x/y"}, "topic_mismatch"),
        (order(), {"header_topic": "refunds/create"}, "topic_mismatch"),
        (order(), {"header_topic": "shop/redact"}, "topic_mismatch"),
        (order(), {"header_topic": "orders/paid"}, "other_topic"),
        (order(), {"X-Shopify-Triggered-At": (datetime.now(UTC) - timedelta(hours=25)).isoformat()}, "stale"),
        (order(shop_domain="other.myshopify.com"), {}, "shop_mismatch"),
        (order(myshopify_domain="other.myshopify.com"), {}, "shop_mismatch"),
    ],
)
def test_what_cannot_be_used_is_answered_200_and_kept_as_a_receipt(
    endpoint: Endpoint,
    body: dict[str, object] | bytes,
    options: dict[str, str],
    reason: str,
) -> None:
    answer = endpoint.webhook("orders/create", body, **options)
    assert (answer.status_code, answer.json()["dropped"]) == (200, [{"i": 0, "reason": reason}])
    (receipt,) = endpoint.receipts()
    source = "orders/paid" if reason == "other_topic" else "orders/create"
    assert (receipt.reason, receipt.source, receipt.status) == (reason, source, 200)
    assert endpoint.events() == []


@pytest.mark.parametrize(
    ("topic", "body", "reason"),
    [
        ("orders/updated", order(), "ignored_topic"),
        ("refunds/create", {"id": 1}, "ignored_topic"),
        ("draft_orders/create", b"not even JSON", "ignored_topic"),
        ("no/such_topic", {}, "unknown_topic"),
        ("orders/create", order(shop_domain="other.myshopify.com"), "shop_mismatch"),
        ("orders/create", cart(), "wrong_shape"),
        ("carts/create", order(), "wrong_shape"),
        ("checkouts/create", b"{", "broken_json"),
    ],
)
def test_one_address_takes_every_topic(endpoint: Endpoint, topic: str, body: Any, reason: str) -> None:
    answer = endpoint.webhook("shopify", body, header_topic=topic)
    assert (answer.status_code, answer.json()["dropped"]) == (200, [{"i": 0, "reason": reason}])
    (receipt,) = endpoint.receipts()
    assert (receipt.source, receipt.reason, receipt.app_id) == (topic, reason, endpoint.app.id)


def test_a_chatty_subscription_cannot_fill_the_receipts(endpoint: Endpoint) -> None:
    for topic in ("carts/update", "no/such"):
        answers = [endpoint.webhook("shopify", {"n": n}, header_topic=topic) for n in range(30)]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["dropped"][0]["reason"] for answer in answers} <= {"ignored_topic", "unknown_topic"}
    # Ten of each in a minute, and the minute may turn meanwhile.
    assert 20 <= len(endpoint.receipts()) <= 40


def test_the_one_address_needs_a_topic(endpoint: Endpoint) -> None:
    answer = endpoint.webhook("shopify", order(), header_topic="")
    assert (answer.status_code, answer.json()) == (400, {"error": "Missing required headers"})
    assert endpoint.webhook("orders/create", order(), header_topic="").json()["accepted"] == 1


def test_a_paused_app_keeps_a_line_that_says_so(endpoint: Endpoint) -> None:
    endpoint.configure(paused_at=datetime.now(UTC))
    assert endpoint.webhook("orders/create", order()).status_code == 200
    assert [event.failure for event in endpoint.events()] == ["paused"]


def test_a_delivery_without_a_shop_is_a_bad_request(endpoint: Endpoint) -> None:
    assert endpoint.webhook("orders/create", order(), shop="nowhere").status_code == 400


def test_five_megabytes_are_the_most(endpoint: Endpoint) -> None:
    assert endpoint.webhook("orders/create", b" " * (5 * 1024 * 1024 + 1)).status_code == 413
