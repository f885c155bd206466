from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from core.inbound.reading import read_object
from core.inbound.track import MissingFields, Visit, read_call, read_calls, take
from core.meta import events
from core.store.acceptance import NewEvent
from core.store.apps import App
from tests.inbound.bodies import BROWSER, sha, tracking

Make = Callable[..., App]
VISIT = Visit(BROWSER, "93.184.216.34", None)


def taken(app: App, body: dict[str, Any], visit: Visit = VISIT) -> NewEvent:
    body = read_object(json.dumps(body).encode())
    (call,) = read_calls(body)
    assert call is not None
    return take(app, call, visit, now=datetime.now(UTC)).event


def sent(event: NewEvent) -> dict[str, Any]:
    return json.loads(event.payload)


def test_the_platforms_call_becomes_metas_event(an_app: Make) -> None:
    event = taken(an_app(), tracking())
    assert (event.event_name, event.skipped, event.source) == ("AddToCart", None, "track")
    assert (event.value, event.currency) == (Decimal("59.90"), "EUR")
    assert sent(event)["event_source_url"] == "https://lantern-and-loom.com/products/lamp?utm_source=x"
    assert sent(event)["custom_data"] == {
        "value": 59.9,
        "currency": "EUR",
        "content_name": "Brass lamp",
        "content_ids": ["8801"],
        "content_type": "product",
        "contents": [{"id": "8801", "quantity": 2}],
    }
    assert sent(event)["user_data"] == {
        "client_ip_address": "93.184.216.34",
        "client_user_agent": BROWSER,
        "external_id": sha("visitor-7"),
    }


@pytest.mark.parametrize("shape", ["top", "customData", "properties", "graphql"])
def test_every_shape_of_the_body_says_the_same(an_app: Make, shape: str) -> None:
    goods = {"value": "12.50", "currency": "USD", "order_id": 9007199254740993, "event_id": "e-1"}
    plain = tracking(eventName="purchase", customData={})
    body = plain | goods if shape in ("top", "graphql") else plain | {shape: goods, "value": None, "currency": None}
    event = taken(an_app(), {"query": "mutation", "variables": {"input": body}} if shape == "graphql" else body)
    assert (event.event_id, event.order_id, event.value) == ("e-1", "9007199254740993", Decimal("12.50"))


HERE = "https://lamps.example/"


@pytest.mark.parametrize(
    ("body", "inner", "url"),
    [
        ({"url": HERE, "event_source_url": "x"}, {"url": "x"}, HERE),
        ({"event_source_url": "x"}, {"url": HERE}, HERE),
        ({"event_source_url": HERE}, {}, HERE),
        ({"event_source_url": HERE}, {"event_source_url": "about:blank"}, HERE),
        ({"event_source_url": HERE}, {"event_source_url": ""}, HERE),
        ({"url": ["x"], "event_source_url": HERE}, {"url": " "}, HERE),
    ],
)
def test_what_a_call_says_of_its_page_outweighs_its_properties(
    body: dict[str, Any], inner: dict[str, Any], url: str
) -> None:
    assert read_call({"appId": "a", "eventName": "search", **body, "properties": inner}).url == url


@pytest.mark.parametrize(
    ("name", "meta"),
    [
        ("pageview", "PageView"),
        ("page_view", "PageView"),
        ("addToCart", "AddToCart"),
        ("add to cart", "AddToCart"),
        ("initiateCheckout", "InitiateCheckout"),
        ("view_content", "ViewContent"),
        ("Purchase", "Purchase"),
    ],
)
def test_spellings_become_metas_names(an_app: Make, name: str, meta: str) -> None:
    assert taken(an_app(), tracking(eventName=name)).event_name == meta


@pytest.mark.parametrize("name", ["scroll", "click", "Spun The Wheel"])
def test_other_names_are_forwarded_only_where_the_app_lists_them(an_app: Make, name: str) -> None:
    assert taken(an_app(), tracking(eventName=name)).skipped == "not_forwarded"
    assert taken(an_app(forwarded_names=(name,)), tracking(eventName=name)).skipped is None


@pytest.mark.parametrize(
    ("app", "visit", "body", "reason"),
    [
        ({"paused": True}, VISIT, {}, "paused"),
        ({"pixel_enabled": False}, VISIT, {}, "pixel_disabled"),
        ({"pixel_id": None}, VISIT, {}, "no_pixel"),
        ({}, Visit("Googlebot/2.1", "8.8.8.8"), {}, "bot"),
        ({}, Visit(None, "8.8.8.8"), {}, "bot"),
        ({}, VISIT, {"url": "about:blank"}, "no_source_url"),
        ({}, VISIT, {"eventName": "purchase", "value": "free", "customData": {}}, "no_value"),
        ({}, VISIT, {"eventName": "purchase", "currency": "US$", "customData": {}}, "no_currency"),
        ({}, Visit(BROWSER, "127.0.0.1"), {"visitorId": None}, "no_match_keys"),
        ({}, VISIT, {"timestamp": (datetime.now(UTC) - timedelta(days=7)).isoformat()}, "too_old"),
    ],
)
def test_what_meta_must_not_hear_is_skipped_with_a_reason(
    an_app: Make,
    app: dict[str, Any],
    visit: Visit,
    body: dict[str, Any],
    reason: str,
) -> None:
    event = taken(an_app(**app), tracking(**body), visit)
    assert (event.skipped, event.payload) == (reason, b"")


def test_people_are_hashed_on_receipt(an_app: Make) -> None:
    people = {"email": " Ana@Example.com", "ph": ["+39 011 555 0142"], "firstName": "Ana", "externalId": 77}
    event = taken(an_app(), tracking(userData=people))
    assert (
        sent(event)["user_data"] | {"em": sha("ana@example.com"), "ph": sha("390115550142")} == sent(event)["user_data"]
    )
    assert sent(event)["user_data"]["external_id"] == sha("77")
    assert b"example.com" not in event.payload.replace(b"lantern-and-loom.com", b"")


def test_metas_cookies_are_kept_and_a_click_id_makes_one(an_app: Make) -> None:
    cookies = sent(
        taken(an_app(), tracking(fbp="fb.1.1760000000000.99", fbc="rubbish", url="https://s.example/?fbclid=Ab_C"))
    )
    assert cookies["user_data"]["fbp"] == "fb.1.1760000000000.99"
    assert cookies["user_data"]["fbc"].startswith("fb.1.")
    assert cookies["user_data"]["fbc"].endswith(".Ab_C")


def test_products_become_contents_with_the_apps_choice_of_id(an_app: Make) -> None:
    goods = {"products": [{"product_id": 5, "sku": "A", "quantity": "2", "price": "9.999"}, {"name": "tip"}, "junk"]}
    event = taken(an_app(content_id="sku"), tracking(eventName="initiateCheckout", **goods, customData=goods))
    assert sent(event)["custom_data"]["contents"] == [{"id": "A", "quantity": 2, "item_price": 10}]
    assert sent(event)["custom_data"]["num_items"] == 2


@pytest.mark.parametrize("given_id", ["", "has space", "x" * 129, {"a": 1}])
def test_an_event_id_that_cannot_be_used_is_replaced(an_app: Make, given_id: Any) -> None:
    first, second = (taken(an_app(), tracking(event_id=given_id)).event_id for _ in range(2))
    assert len(first) == 36
    assert first != second


@pytest.mark.parametrize("body", [{}, {"appId": "a"}, {"eventName": "purchase"}, {"appId": "", "eventName": "x"}])
def test_a_call_without_app_or_name_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(MissingFields, match=r"^Missing required fields$"):
        read_call(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
_FIELDS = [*tracking(), "products", "properties", "userData", "event_id", "fbp", "fbc", "contents", "content_ids"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(_FIELDS), _json, max_size=8))
def test_no_body_however_strange_gives_an_event_meta_would_refuse(an_app: Make, changes: dict[str, Any]) -> None:
    try:
        event = taken(an_app(forwarded_names=("click",)), tracking(**changes))
    except BadInput:
        return
    assert event.skipped or events.check(sent(event), now=datetime.now(UTC)) is None


def test_several_events_share_what_stands_beside_them(an_app: Make) -> None:
    body = tracking(fbp="fb.1.1760000000000.7", customData={}, value=None, product_id=None)
    shared = {key: body[key] for key in ("appId", "url", "fbp", "visitorId")}
    batch = shared | {
        "events": [{"eventName": "pageview"}, {"no": "name"}, "junk", {"eventName": "search", "url": "x"}]
    }
    calls = read_calls(read_object(json.dumps(batch).encode()))
    assert [call and call.name for call in calls] == ["pageview", None, None, "search"]
    events_ = [take(an_app(), call, VISIT, now=datetime.now(UTC)).event for call in calls if call]
    assert {sent(event)["user_data"]["fbp"] for event in events_ if event.payload} == {"fb.1.1760000000000.7"}


def test_an_event_among_several_cannot_name_another_app() -> None:
    (call,) = read_calls({"appId": "mine", "events": [{"appId": "theirs", "eventName": "pageview"}]})
    assert call is not None
    assert call.app_id == "mine"


@pytest.mark.parametrize("batch", [[{"eventName": "pageview"}] * 21, [], ["junk"]])
def test_a_batch_without_an_event_or_with_too_many_is_refused(batch: list[Any]) -> None:
    with pytest.raises(BadInput):
        read_calls({"appId": "a", "events": batch})


@pytest.mark.parametrize(
    ("policy", "consent", "skipped", "limited"),
    [
        ("send", None, None, False),
        ("limit", None, None, True),
        ("require", None, "no_consent", False),
        ("require", {"marketing": True}, None, False),
        ("send", {"marketing": False}, "no_consent", False),
        ("send", {"marketingAllowed": "no"}, "no_consent", False),
        ("send", {"marketing": True, "saleOfData": False}, None, True),
        ("limit", {"marketing": True, "saleOfDataAllowed": True}, None, False),
        ("send", {"marketing": "perhaps"}, None, False),
        ("send", "yes", None, False),
    ],
)
def test_consent_is_honoured(an_app: Make, policy: str, consent: Any, skipped: str | None, limited: bool) -> None:
    event = taken(an_app(consent_policy=policy), tracking(consent=consent))
    assert event.skipped == skipped
    assert (b'"data_processing_options":["LDU"]' in event.payload) is limited


def test_shopifys_own_names_for_consent_are_read(an_app: Make) -> None:
    assert taken(an_app(), tracking(customerPrivacy={"marketingAllowed": False})).skipped == "no_consent"


@pytest.mark.parametrize("place", ["customData", "properties"])
def test_a_denial_among_the_properties_is_one(an_app: Make, place: str) -> None:
    assert taken(an_app(), tracking(**{place: {"consent": {"marketing": False}}})).skipped == "no_consent"


def test_who_denies_leaves_nothing_but_the_denial(an_app: Make) -> None:
    body = tracking(cartToken="c1?key=abc", fbp="fb.1.1760000000000.7", consent={"marketing": False})
    (call,) = read_calls(body)
    assert call is not None
    left = take(an_app(), call, VISIT, now=datetime.now(UTC)).visitors
    assert {(one.kind, one.key) for one in left} == {("cart", "c1"), ("fbp", "fb.1.1760000000000.7")}
    assert {(one.address, one.user_agent, one.fbp, one.page_url, one.marketing) for one in left} == {
        (None, None, None, None, False)
    }


@pytest.mark.parametrize(
    ("unit", "currency", "value", "price"),
    [("cents", "EUR", 59.9, 25.0), ("minor", "JPY", 60, 25), ("major", "EUR", 5990, 2500), (None, "EUR", 5990, 2500)],
)
def test_money_in_cents_is_said_so(an_app: Make, unit: str | None, currency: str, value: float, price: float) -> None:
    goods = {"value": 5990, "currency": currency, "products": [{"id": "1", "price": "2500"}], "moneyUnit": unit}
    event = taken(an_app(), tracking(eventName="purchase", **goods, customData=goods))
    assert (sent(event)["custom_data"]["value"], sent(event)["custom_data"]["contents"][0]["item_price"]) == (
        value,
        price,
    )


@pytest.mark.parametrize(
    ("name", "fields", "event_id", "aliases", "notes"),
    [
        ("purchase", {"order_id": "gid://shopify/Order/55"}, "purchase.o55", ("order:55",), ()),
        (
            "purchase",
            {"order_id": 2**70, "checkoutToken": "ck1"},
            "purchase.ck1",
            (f"order:{2**70}", "checkout:ck1"),
            (),
        ),
        ("purchase", {"event_id": "mine", "order_id": 7}, "mine", ("order:7",), ()),
        (
            "initiateCheckout",
            {"checkout_token": "ck1", "cartToken": "ct1"},
            "checkout.ck1",
            ("checkout:ck1",),
            ("cart:ct1",),
        ),
        ("addToCart", {"cart_token": "ct1?key=9", "event_id": "e"}, "e", (), ("cart:ct1",)),
        ("pageview", {"cart_token": "ct1", "event_id": "e"}, "e", (), ()),
    ],
)
def test_an_order_is_called_what_its_webhook_calls_it(
    an_app: Make, name: str, fields: dict[str, Any], event_id: str, aliases: tuple[str, ...], notes: tuple[str, ...]
) -> None:
    event = taken(an_app(), tracking(eventName=name, **fields))
    assert (event.event_id, event.aliases, event.notes) == (event_id, aliases, notes)


def test_a_wrong_clock_is_made_good(an_app: Make) -> None:
    now = datetime.now(UTC)
    ahead = {"timestamp": (now + timedelta(hours=3)).isoformat(), "sentAt": (now + timedelta(hours=3)).isoformat()}
    behind = {
        "timestamp": int((now - timedelta(days=30)).timestamp() * 1000),
        "sentAt": (now - timedelta(days=30)).isoformat(),
    }
    for clock in (ahead, behind):
        assert abs(taken(an_app(), tracking(**clock)).event_time - now) < timedelta(seconds=5)
