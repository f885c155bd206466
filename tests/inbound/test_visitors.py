"""What a browser that was seen adds to a webhook's event, and what it never adds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from core.inbound.visitors import completed
from core.store.apps import App
from tests.inbound.bodies import BROWSER, sha

Make = Callable[..., App]
NOW = datetime.now(UTC)
FBP = "fb.1.1760000000000.7"


def an_event(name: str = "Purchase", **user_data: Any) -> dict[str, Any]:
    return {
        "event_name": name,
        "event_id": "e1",
        "event_time": int(NOW.timestamp()) - 60,
        "action_source": "website",
        "event_source_url": "https://shop.example/",
        "user_data": user_data,
        "custom_data": {"value": 10.5, "currency": "EUR"},
    }


def a_browser(**changes: Any) -> Any:
    seen = {
        "address": "93.184.216.34",
        "user_agent": BROWSER,
        "fbp": FBP,
        "fbc": None,
        "page_url": "https://shop.example/products/lamp",
        "marketing": None,
        "sale_of_data": None,
    }
    return SimpleNamespace(**seen | changes)


def complete(app: App, event: dict[str, Any], *seen: Any) -> tuple[dict[str, Any], str | None]:
    return completed(app, copy.deepcopy(event), seen, now=NOW)


def test_a_cart_becomes_somebody_metas_can_find(an_app: Make) -> None:
    event, reason = complete(an_app(), an_event("AddToCart"), a_browser())
    assert reason is None
    assert event["user_data"] == {"client_ip_address": "93.184.216.34", "client_user_agent": BROWSER, "fbp": FBP}
    assert event["event_source_url"] == "https://shop.example/products/lamp"


def test_nobody_seen_and_nothing_to_match_on_is_skipped(an_app: Make) -> None:
    assert complete(an_app(), an_event("AddToCart"))[1] == "no_match_keys"


def test_nobody_seen_but_a_customer_known_goes_with_what_it_has(an_app: Make) -> None:
    event = an_event(em=sha("ana@example.com"))
    assert complete(an_app(), event) == (event, None)


def test_what_the_order_says_itself_stays(an_app: Make) -> None:
    own = {"client_user_agent": "Mozilla/5.0 own", "fbc": "fb.1.1760000000000.own", "em": sha("a@example.com")}
    event, _ = complete(an_app(), an_event(**own), a_browser(fbc="fb.1.1760000000000.other"))
    assert event["user_data"] == own | {"client_ip_address": "93.184.216.34", "fbp": FBP}
    assert event["event_source_url"] == "https://shop.example/"


def test_another_browser_is_not_mixed_in(an_app: Make) -> None:
    event = an_event(fbp="fb.1.1760000000000.8", em=sha("a@example.com"))
    assert complete(an_app(), event, a_browser()) == (event, None)


def test_marks_come_from_one_browser_only(an_app: Make) -> None:
    first, second = a_browser(fbp=None, address=None), a_browser(fbp=FBP)
    event, _ = complete(an_app(), an_event(em=sha("a@example.com")), first, second)
    assert "fbp" not in event["user_data"]
    assert "client_ip_address" not in event["user_data"]


@pytest.mark.parametrize(
    ("policy", "answers", "reason", "limited"),
    [
        ("send", [], None, False),
        ("require", [], "no_consent", False),
        ("limit", [], None, True),
        ("require", [{"marketing": True}], None, False),
        ("send", [{"marketing": True}, {"marketing": False}], "no_consent", False),
        ("send", [{"sale_of_data": False}], None, True),
        ("limit", [{"marketing": True, "sale_of_data": True}], None, False),
    ],
)
def test_consent_is_the_browsers(
    an_app: Make, policy: str, answers: list[dict[str, Any]], reason: str | None, limited: bool
) -> None:
    event = an_event(em=sha("a@example.com"), client_user_agent=BROWSER)
    event, found = complete(an_app(consent_policy=policy), event, *(a_browser(**answer) for answer in answers))
    assert (found, event.get("data_processing_options") == ["LDU"]) == (reason, limited)
