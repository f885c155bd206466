from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from core.inbound import browser, values


@pytest.mark.parametrize(
    ("value", "code", "expected"),
    [
        ("404.95", "USD", "404.95"),
        ("23600", "JPY", "23600"),
        ("10.649999999999999", "USD", "10.65"),
        (Decimal("1.2345"), "KWD", "1.235"),
        (0, "EUR", "0.00"),
        ("-1", "EUR", None),
        ("NaN", "EUR", None),
        ("Infinity", "EUR", None),
        ("1e400", "EUR", None),
        (True, "EUR", None),
        ([], "EUR", None),
        ("", "EUR", None),
        (10**39, "EUR", None),
        ("12", None, "12.00"),
    ],
)
def test_money_is_rounded_to_the_digits_of_its_currency(value: Any, code: str | None, expected: str | None) -> None:
    found = values.money(value, code)
    assert (None if found is None else str(found)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("usd", "USD"),
        (" EUR ", "EUR"),
        ("US$", None),
        ("EURO", None),
        (None, None),
        (978, None),
        ("ZZZ", None),
    ],
)
def test_a_currency_is_an_iso_code(value: Any, expected: str | None) -> None:
    assert values.currency(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (18446744073709551617, "18446744073709551617"),
        ("gid://shopify/OrderIdentity/55?x=1", "55"),
        ("b-1", "b-1"),
        (Decimal("1.5"), None),
        (True, None),
        ("", None),
        ({}, None),
        ("x" * 129, None),
    ],
)
def test_an_id_is_exact_text(value: Any, expected: str | None) -> None:
    assert values.exact_id(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-23T10:00:00Z",
        "2026-11-23T11:00:00+01:00",
        1795428000,
        1795428000000,
        "1795428000",
        "1795428000123",
        Decimal("1795428000.75"),
    ],
)
def test_a_moment_comes_as_text_seconds_or_milliseconds(value: Any, now: datetime) -> None:
    assert values.event_moment(value, now=now) == datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2031-01-01T00:00:00Z",
        None,
        "soon",
        10**30,
        -5,
        True,
        [],
        "0001-01-01T00:00:00+14:00",
        4_000_000_000,
        {},
    ],
)
def test_the_future_and_the_unreadable_are_now(value: Any, now: datetime) -> None:
    assert values.event_moment(value, now=now) == now


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Shop.example/a?b=1#top", "https://shop.example/a?b=1"),
        ("https://user:pass@shop.example:8443", "https://shop.example:8443/"),
        ("https://shop.example/o?key=abc&utm_source=x&email=a%40b.co", "https://shop.example/o?utm_source=x"),
        ("javascript:alert(1)", None),
        ("https://", None),
        ("https://[::1", None),
        ("//shop.example/", None),
        (5, None),
        ("https://shop.example/" + "a" * 3000, None),
        ("https://shop.example/a b", None),
    ],
)
def test_a_page_is_a_web_address_without_private_parts(url: Any, expected: str | None) -> None:
    assert browser.page_url(url) == expected


def test_a_page_that_is_too_long_is_not_kept_in_memory() -> None:
    kept = browser._page_url.cache_info().misses
    assert browser.page_url("https://shop.example/" + "b" * 60_000) is None
    assert browser._page_url.cache_info().misses == kept


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", "93.184.216.34"),
        ("2606:2800:220:1::1", "2606:2800:220:1::1"),
        ("::ffff:8.8.8.8", "8.8.8.8"),
        ("127.0.0.1", None),
        ("10.0.0.1", None),
        ("0.0.0.0", None),
        ("fe80::1", None),
        ("224.0.0.1", None),
        ("<script>", None),
        (None, None),
    ],
)
def test_only_global_addresses_are_passed_on(address: Any, expected: str | None) -> None:
    assert browser.public_address(address) == expected


def test_a_click_id_becomes_a_cookie_with_its_case_kept(now: datetime) -> None:
    stamp = int(now.timestamp() * 1000)
    assert browser.click_cookie("/p?x=1&fbclid=IwAR0_zQ", at=now) == f"fb.1.{stamp}.IwAR0_zQ"
    assert browser.click_cookie("/p?fbclid=", at=now) is None
    assert browser.click_cookie("/p?fbclid=" + "a" * 501, at=now) is None
