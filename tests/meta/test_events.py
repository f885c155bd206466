from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from core.meta.events import SPELLINGS, STANDARD_EVENTS, build, check, deadline, encode, meta_name

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
EM = "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"
PERSON = {"em": EM, "client_user_agent": "Mozilla/5.0"}


def an_event(**changes):
    given = {
        "name": "Purchase",
        "event_time": NOW,
        "event_id": "purchase.1",
        "user_data": PERSON,
        "custom_data": {"value": 9.5, "currency": "EUR"},
    }
    return build(**(given | changes))


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("pageview", "PageView"),
        ("page_view", "PageView"),
        ("PageView", "PageView"),
        ("Page View", "PageView"),
        ("addToCart", "AddToCart"),
        ("add_to_cart", "AddToCart"),
        ("Add To Cart", "AddToCart"),
        ("ADD-TO-CART", "AddToCart"),
        ("viewContent", "ViewContent"),
        ("product_viewed", "ViewContent"),
        ("initiateCheckout", "InitiateCheckout"),
        ("begin_checkout", "InitiateCheckout"),
        ("purchase", "Purchase"),
        ("checkout_completed", "Purchase"),
        ("scroll", None),
        ("click", None),
        ("my own thing", None),
        ("", None),
    ],
)
def test_a_storefront_name_becomes_metas(raw, name):
    assert meta_name(raw) == name


def test_every_spelling_leads_to_a_standard_event():
    assert set(SPELLINGS.values()) == set(STANDARD_EVENTS)
    assert all(spelling.isalnum() and spelling.islower() for spelling in SPELLINGS)


def test_a_whole_event_passes():
    event = an_event(source_url="https://shop.example/thanks")
    assert check(event, now=NOW) is None
    assert event["event_time"] == 1795435200
    assert event["event_source_url"] == "https://shop.example/thanks"


def test_empty_values_are_left_out():
    event = an_event(user_data=PERSON | {"ph": None, "fn": ""}, custom_data={}, source_url=None)
    assert event["user_data"] == PERSON
    assert "custom_data" not in event
    assert "event_source_url" not in event


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": ""}, "no_name"),
        ({"action_source": "shop"}, "bad_action_source"),
        ({"event_time": NOW - timedelta(days=7)}, "too_old"),
        ({"event_time": NOW - timedelta(days=62), "action_source": "physical_store"}, "too_old"),
        ({"event_time": NOW + timedelta(minutes=2)}, "in_future"),
        ({"user_data": {}}, "no_match_keys"),
        ({"user_data": {"client_user_agent": "M", "country": EM, "ct": EM}}, "no_match_keys"),
        ({"user_data": {"fn": EM, "ge": EM}}, "no_match_keys"),
        ({"user_data": {"client_user_agent": "M", "em": "john@example.com"}}, "not_hashed"),
        ({"user_data": {"client_user_agent": "M", "ph": [EM, "+1650"]}}, "not_hashed"),
        ({"user_data": {"fn": EM, "ln": EM}}, "no_user_agent"),
        ({"custom_data": {"currency": "EUR"}}, "no_value"),
        ({"custom_data": {"value": 1}}, "no_currency"),
        ({"custom_data": {"value": 1, "currency": "EURO"}}, "bad_currency"),
        ({"custom_data": {"value": 1, "currency": "US$"}}, "bad_currency"),
        ({"name": "Lead", "custom_data": {"currency": "XYZ"}}, "bad_currency"),
        ({"custom_data": {"value": float("nan"), "currency": "EUR"}}, "bad_value"),
        ({"custom_data": {"value": "9.50", "currency": "EUR"}}, "bad_value"),
    ],
)
def test_what_meta_would_refuse_has_a_word(changes, reason):
    assert check(an_event(**changes), now=NOW) == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"event_time": NOW - timedelta(days=61), "action_source": "physical_store"},
        {"user_data": {"em": EM}, "action_source": "physical_store"},
        {"user_data": {"client_ip_address": "203.0.113.9", "client_user_agent": "M"}},
        {"user_data": {"em": [EM, EM + ".AQ"], "client_user_agent": "M"}},
        {"name": "Lead", "custom_data": {}},
        {"custom_data": {"value": Decimal("0"), "currency": "jpy"}},
        {"name": "MyOwn", "custom_data": {"value": 3}},
    ],
)
def test_what_meta_takes_passes(changes):
    assert check(an_event(**changes), now=NOW) is None


@pytest.mark.parametrize("moment", [None, "1795435200", 1795435200000, -5, True, 1.5])
def test_a_time_that_is_not_unix_seconds(moment):
    assert check(an_event() | {"event_time": moment}, now=NOW) == "no_time"


def test_the_deadline_is_a_quarter_hour_before_seven_days_or_sixty_two_in_a_store():
    assert deadline(NOW, "website") == NOW + timedelta(days=7) - timedelta(minutes=15)
    assert deadline(NOW, None) == NOW + timedelta(days=7) - timedelta(minutes=15)
    assert deadline(NOW, "physical_store") == NOW + timedelta(days=62) - timedelta(minutes=15)


def test_encode_is_compact_and_writes_decimals_as_numbers():
    written = encode({"value": Decimal("9.50"), "n": Decimal("1200"), "name": "é"})
    assert written.decode() == '{"value":9.5,"n":1200,"name":"é"}'
    with pytest.raises(TypeError):
        encode({"value": object()})


def test_limited_data_use_is_written_for_metas_own_reading():
    event = an_event(limited_data_use=True)
    assert event["data_processing_options"] == ["LDU"]
    assert (event["data_processing_options_country"], event["data_processing_options_state"]) == (0, 0)
