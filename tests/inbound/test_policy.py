from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core.inbound.policy import client_address, is_bot, networks, origin_allowed
from core.store.apps import App
from tests.inbound.bodies import BROWSER

Make = Callable[..., App]


def test_any_origin_is_served_until_hosts_are_listed(an_app: Make) -> None:
    assert origin_allowed(an_app(), "https://anywhere.example", None)
    assert origin_allowed(an_app(), None, None)


@pytest.mark.parametrize(
    ("origin", "url", "allowed"),
    [
        ("https://Shop.example", None, True),
        ("https://shop.example:8443", None, True),
        ("https://evil.example", None, False),
        ("https://shop.example.evil.example", None, False),
        ("null", "https://shop.example/p", True),
        ("null", "https://evil.example/p", False),
        (None, "https://x.myshopify.com/p", True),
        (None, None, False),
        ("https://evil.example", "https://shop.example/p", False),
        ("https://shop.example@evil.example", None, False),
        ("rubbish", None, False),
    ],
)
def test_listed_hosts_are_the_only_ones(an_app: Make, origin: str | None, url: str | None, allowed: bool) -> None:
    app = an_app(allowed_origins=("shop.example",), shop_domain="x.myshopify.com")
    assert origin_allowed(app, origin, url) is allowed


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1", "203.0.113.9:443, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, [2001:db8::7]:99"], "2001:db8::7"),
        ("10.0.0.1", ["203.0.113.9, <script>"], None),
        ("10.0.0.1", [], "10.0.0.1"),
        (None, [], None),
    ],
)
def test_the_rightmost_address_that_is_no_proxy_counts(
    peer: str | None,
    forwarded: list[str],
    expected: str | None,
) -> None:
    assert client_address(peer, forwarded, networks(["10.0.0.0/8"])) == expected


@pytest.mark.parametrize(
    ("agent", "bot"),
    [
        (BROWSER, False),
        ("Mozilla/5.0 (Linux; Android 9; CUBOT X19) Mobile Safari/537.36", False),
        ("", True),
        (None, True),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", True),
        ("meta-externalagent/1.1", True),
        ("curl/8.5.0", True),
    ],
)
def test_crawlers_scripts_and_nameless_agents_are_bots(agent: Any, bot: bool) -> None:
    assert is_bot(agent) is bot


@pytest.mark.parametrize("origin", ["null", None, ""])
def test_an_app_may_refuse_pages_without_an_origin(an_app: Callable[..., App], origin: str | None) -> None:
    page = "https://tea.example/"
    open_, strict = (an_app(allowed_origins=("tea.example",), allow_null_origin=allowed) for allowed in (True, False))
    assert origin_allowed(open_, origin, page)
    assert not origin_allowed(strict, origin, page)
    assert origin_allowed(strict, page, page)
    assert origin_allowed(an_app(allow_null_origin=False), origin, page), "no hosts are listed: any page may report"
