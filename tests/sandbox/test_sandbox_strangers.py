"""The stand-in listens where every page in a browser of this machine can reach it, and takes no orders from them."""

from __future__ import annotations

import pytest
import requests

from core.sandbox.client import Sandbox


def _reset(meta: Sandbox, **headers: str) -> int:
    return requests.post(f"{meta.url}/_sandbox/reset", headers=headers, timeout=5).status_code


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8099", "localhost.evil.example", "127.0.0.1.x", "", "[x"]
)
def test_a_name_that_was_led_here_is_not_served(meta: Sandbox, host: str) -> None:
    meta.create_token()
    assert _reset(meta, Host=host) == 421
    assert meta.stats()["tokens"] == 1


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://localhost:1", "http://["])
def test_a_page_of_another_origin_orders_nothing(meta: Sandbox, origin: str) -> None:
    meta.create_token()
    assert _reset(meta, Origin=origin) == 403
    assert meta.stats()["tokens"] == 1


@pytest.mark.parametrize("host", ["localhost:8099", "127.0.0.1", "[::1]:8099", "10.1.2.3:8099"])
def test_addresses_and_their_own_pages_are_served(meta: Sandbox, host: str) -> None:
    assert _reset(meta, Host=host) == 200
    assert _reset(meta, Host=host, Origin=f"http://{host}") == 200


def test_its_pages_cannot_be_framed(meta: Sandbox) -> None:
    assert requests.get(f"{meta.url}/v24.0/dialog/oauth", timeout=5).headers["x-frame-options"] == "DENY"
