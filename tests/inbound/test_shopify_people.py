"""What an event says of its buyer: page, person and browser, row by row of the mapping."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.inbound.reading import WEBHOOK_DEPTH, read_object
from core.inbound.shopify import Delivery
from core.inbound.shopify_events import to_event
from core.store.acceptance import NewEvent
from core.store.apps import App
from tests.inbound.bodies import BROWSER, SHOP, address, cart, checkout, order, raw, sha

Make = Callable[..., App]
Json = dict[str, Any]
FBP = "fb.1.1760000000000.1234567890"
FBC = "fb.1.1760000000000.IwAR-x.y_Z"


def mapped(app: App, topic: str, body: Json, *, shop: str = SHOP) -> NewEvent:
    sent = Delivery(shop, None, None, None)
    return to_event(app, topic, read_object(raw(body), depth=WEBHOOK_DEPTH), sent, now=datetime.now(UTC))


def payload(event: NewEvent) -> Json:
    assert event.skipped is None
    return json.loads(event.payload)


def person(app: App, body: Json, topic: str = "orders/create") -> Json:
    return payload(mapped(app, topic, body))["user_data"]


HOME = f"https://{SHOP}/"


@pytest.mark.parametrize(
    ("landing", "url"),
    [
        (
            "/p/lamp?utm_source=a&utm_medium=b&ref=x&key=1&fbclid=Iw_1",
            f"{HOME}p/lamp?utm_source=a&utm_medium=b&fbclid=Iw_1",
        ),
        ("/?utm_term=ana%40example.com&utm_source=a", f"{HOME}?utm_source=a"),
        (f"https://{SHOP.upper()}/p", f"{HOME}p"),
        ("https://lantern-and-loom.com/p?fbclid=Iw", "https://lantern-and-loom.com/p?fbclid=Iw"),
        ("https://evil.example/x?fbclid=1", HOME),
        ("//evil.example/x", HOME),
        ("https://lantern-and-loom.com@evil.example/x", HOME),
        ("https://[broken", HOME),
        ("javascript:alert(1)", HOME),
        ("collections/light", HOME),
        ("/548380009/orders/123456abcd/authenticate?key=abc", HOME),
        ("/en/account/activate/1/abc", HOME),
        ("/checkouts/cn/Z2Nw", HOME),
        ("/cart/c/hWN1?key=abc", HOME),
        ("/" + "a" * 3000, HOME),
        ("/a b", HOME),
        ("", HOME),
        (None, HOME),
        (7, HOME),
    ],
)
def test_the_page_is_the_shops_own_without_anybodys_keys(an_app: Make, landing: Any, url: str) -> None:
    secrets = {"order_status_url": "https://s/authenticate?key=k1", "referring_site": "https://evil.example/k1"}
    app = an_app(allowed_origins=("Lantern-and-Loom.com",))
    event = mapped(app, "orders/create", order(landing_site=landing, **secrets))
    assert payload(event)["event_source_url"] == url
    assert b"k1" not in event.payload


def test_a_checkouts_recovery_link_is_not_its_page(an_app: Make) -> None:
    body = checkout(abandoned_checkout_url="https://s/recover?key=k1", landing_site="/p")
    assert payload(mapped(an_app(shop_domain="lamps.example"), "checkouts/create", body))["event_source_url"] == (
        "https://lamps.example/p"
    )


@pytest.mark.parametrize(
    ("changes", "email"),
    [
        ({}, "ana.conti@example.com"),
        ({"email": None, "contact_email": "Contact@example.com"}, "contact@example.com"),
        ({"email": "", "contact_email": None}, "other@example.com"),
        ({"email": "n/a", "contact_email": "contact@example.com"}, "contact@example.com"),
        ({"email": "", "customer": None}, None),
        ({"email": {}, "customer": []}, None),
    ],
)
def test_the_first_email_that_can_be_used_counts(an_app: Make, changes: Json, email: str | None) -> None:
    assert person(an_app(), order(**changes)).get("em") == (sha(email) if email else None)


def test_null_empty_and_absent_are_alike(an_app: Make) -> None:
    protected = ("email", "contact_email", "phone", "customer", "billing_address", "shipping_address", "browser_ip")
    at = order()["created_at"]
    bodies = [order(created_at=at) | dict.fromkeys(protected, nothing) for nothing in (None, "", [], {})]
    bodies.append({key: value for key, value in order(created_at=at).items() if key not in protected})
    assert len({json.dumps(person(an_app(), body)) for body in bodies}) == 1
    assert person(an_app(), bodies[0]).keys() == {"client_ip_address", "client_user_agent", "fbp", "fbc"}


_US, _NONE = address(country_code="US", phone="(202) 555-0143"), address(phone=None, country_code=None)


@pytest.mark.parametrize(
    ("changes", "digits"),
    [
        ({}, "390115550142"),
        ({"phone": "+44 20 7946 0018"}, "442079460018"),
        ({"phone": "011 555 0199"}, "390115550199"),
        ({"customer": {"phone": "202-555-0144", "default_address": _US}}, "12025550144"),
        ({"customer": {"phone": "011 555 0199"}}, "390115550199"),
        ({"billing_address": address(phone="555-555-SHIP"), "shipping_address": _US}, "12025550143"),
        ({"billing_address": _NONE, "customer": {"default_address": _US}}, "12025550143"),
        ({"billing_address": _US | {"country_code": None, "country": "United States"}}, "12025550143"),
        ({"billing_address": None, "sms_marketing_phone": "+12025550145"}, "12025550145"),
        ({"billing_address": address(phone="555-555-SHIP")}, None),
    ],
)
def test_the_first_phone_that_can_be_used_counts(an_app: Make, changes: Json, digits: str | None) -> None:
    assert person(an_app(), order(**changes)).get("ph") == (sha(digits) if digits else None)


_BILLING, _SHIPPING = (
    address(),
    address(first_name="Léa", last_name="Petit", city="Lyon", zip="69001", country_code="FR"),
)
_OWN = {"first_name": "Bo", "last_name": "Ek", "default_address": address(first_name="Bo", last_name="Ek", city="Umeå")}


@pytest.mark.parametrize(
    ("billing", "shipping", "customer", "name", "city"),
    [
        (_BILLING, _SHIPPING, _OWN, ("ana", "conti"), "turin"),
        (None, _SHIPPING, _OWN, ("léa", "petit"), "lyon"),
        (None, [], _OWN, ("bo", "ek"), "umeå"),
        ({}, "", {"first_name": "Bo", "last_name": "Ek"}, ("bo", "ek"), None),
        ({"country_code": "IT"}, None, {"first_name": "Bo"}, ("bo", None), None),
        ({"first_name": "Ana", "last_name": ""}, None, _OWN, ("ana", None), "umeå"),
        (address(first_name="田中", last_name="O’Brien"), None, None, ("田中", "o’brien"), "turin"),
    ],
)
def test_name_and_place_come_from_one_address_each(
    an_app: Make, billing: Any, shipping: Any, customer: Any, name: tuple[str | None, ...], city: str | None
) -> None:
    body = order(billing_address=billing, shipping_address=shipping, customer=customer)
    found = person(an_app(), body)
    digests = [sha(word) if word else None for word in (*name, city)]
    assert [found.get(key) for key in ("fn", "ln", "ct")] == digests


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({}, ("turin", "to", "10121", "it")),
        (
            {"province_code": None, "province": "Torino", "country_code": "", "country": "Italy"},
            ("turin", "torino", "10121", "it"),
        ),
        ({"city": None, "zip": "", "province_code": "", "country_code": "IT"}, (None, None, None, "it")),
        ({"country_code": "ZZ", "country": "Nowhere"}, ("turin", "to", "10121", None)),
        (
            {"city": "New York", "province_code": "NY", "zip": "10001-2345", "country_code": "US"},
            ("newyork", "ny", "10001", "us"),
        ),
    ],
)
def test_a_place_is_told_by_its_codes(an_app: Make, changes: Json, place: tuple[str | None, ...]) -> None:
    found = person(an_app(), order(billing_address=address(**changes)))
    assert [found.get(key) for key in ("ct", "st", "zp", "country")] == [sha(word) if word else None for word in place]


@pytest.mark.parametrize(
    ("customer", "id_"),
    [
        ({"id": 2**63 + 1}, str(2**63 + 1)),
        ({"id": "77"}, "77"),
        ({"id": "gid://shopify/Customer/77"}, "77"),
        ({"id": None, "admin_graphql_api_id": "gid://shopify/Customer/77"}, "77"),
        ({"id": 7.7}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_customer_is_known_within_its_shop(an_app: Make, customer: Any, id_: str | None) -> None:
    for topic, body in (("orders/create", order(customer=customer)), ("checkouts/create", checkout(customer=customer))):
        assert person(an_app(), body, topic).get("external_id") == (sha(f"{SHOP}:{id_}") if id_ else None)
    theirs = payload(mapped(an_app(), "orders/create", order(), shop="other.myshopify.com"))["user_data"]
    assert theirs["external_id"] == sha("other.myshopify.com:77")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, ("93.184.216.34", BROWSER)),
        ({"browser_ip": "2606:2800:220:1::1"}, ("2606:2800:220:1::1", BROWSER)),
        ({"browser_ip": "0.0.0.0"}, ("93.184.216.34", BROWSER)),
        ({"browser_ip": "127.0.0.1", "client_details": {"browser_ip": "10.0.0.1"}}, (None, None)),
        ({"browser_ip": None, "client_details": None}, (None, None)),
        ({"browser_ip": "", "client_details": {}}, (None, None)),
        ({"browser_ip": ["8.8.8.8"], "client_details": {"user_agent": {}}}, (None, None)),
    ],
)
def test_only_a_public_address_is_the_buyers(an_app: Make, changes: Json, found: tuple[str | None, ...]) -> None:
    people = person(an_app(), order(**changes))
    assert (people.get("client_ip_address"), people.get("client_user_agent")) == found


@pytest.mark.parametrize(
    ("notes", "fbp", "fbc"),
    [
        ([{"name": "_fbp", "value": FBP}, {"name": "_fbc", "value": FBC}], FBP, FBC),
        ([{"name": "fbp", "value": FBP}, {"name": "__fbc", "value": f" {FBC} "}], FBP, FBC),
        ([{"name": "_fbp", "value": "fb.1.17.7"}, {"name": "_fbp", "value": FBP}], FBP, None),
        ([{"name": "_fbp", "value": "<script>"}, {"name": "_fbc", "value": "IwAR"}], None, None),
        ([{"name": "note", "value": FBP}, None, "x", {"name": None, "value": FBP}, {"name": "_fbp"}], None, None),
        ({"_fbp": FBP}, None, None),
        (None, None, None),
    ],
)
def test_metas_cookies_come_from_the_carts_attributes(an_app: Make, notes: Any, fbp: Any, fbc: Any) -> None:
    for topic, body in (
        ("orders/create", order(landing_site=None)),
        ("checkouts/create", checkout()),
        ("carts/create", cart()),
    ):
        found = person(an_app(), body | {"note_attributes": notes}, topic)
        assert (found.get("fbp"), found.get("fbc")) == (fbp, fbc)


@pytest.mark.parametrize(
    ("landing", "click"),
    [
        ("/p?fbclid=IwAR0_zQ", "IwAR0_zQ"),
        ("https://lantern-and-loom.com/p?a=1&fbclid=IwAR0_zQ#top", "IwAR0_zQ"),
        ("/p?fbclid=" + "a" * 500, "a" * 500),
        ("/p?fbclid=" + "a" * 501, None),
        ("/p?fbclid=", None),
        ("/p?fbclid=<x>", None),
        ("/p", None),
    ],
)
def test_a_click_id_becomes_metas_cookie(an_app: Make, landing: str, click: str | None) -> None:
    at = (datetime.now(UTC) - timedelta(hours=1)).replace(microsecond=123_000)
    stamp = int(at.replace(microsecond=0).timestamp()) * 1000 + 123
    expected = f"fb.1.{stamp}.{click}" if click else None
    for topic, make in (("orders/create", order), ("checkouts/create", checkout)):
        body = make(landing_site=landing, created_at=at.isoformat())
        assert person(an_app(), body, topic).get("fbc") == expected
    noted = order(landing_site=landing, note_attributes=[{"name": "_fbc", "value": FBC}])
    assert person(an_app(), noted)["fbc"] == FBC
