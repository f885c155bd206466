"""Where an order was made, what of it may then be said, and which apps take it."""

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
from tests.inbound.bodies import SHOP, order, raw

Make = Callable[..., App]
NOW = datetime.now(UTC)


def mapped(app: App, body: dict[str, Any]) -> NewEvent:
    body = read_object(raw(body), depth=WEBHOOK_DEPTH)
    return to_event(app, "orders/create", body, Delivery(SHOP, None, None, None), now=NOW)


def payload(event: NewEvent) -> dict[str, Any]:
    assert event.skipped is None
    return json.loads(event.payload)


@pytest.mark.parametrize(
    ("source", "listed", "reason", "place"),
    [
        ("web", (), None, "website"),
        (None, (), None, "website"),
        ("", (), None, "website"),
        ("pos", (), "pos", None),
        ("pos", ("api_apps", "755357713"), "pos", None),
        ("pos", ("pos",), None, "physical_store"),
        ("shopify_draft_order", (), "draft_order", None),
        ("shopify_draft_order", ("shopify_draft_order",), None, "other"),
        ("755357713", (), "other_channel", None),
        (755357713, (), "other_channel", None),
        ("755357713", ("pos", "1"), "other_channel", None),
        ("755357713", ("755357713",), None, "website"),
        ("755357713", ("api_apps",), None, "website"),
        ("iphone", ("api_apps",), "other_channel", None),
        ("iphone", ("iphone",), None, "other"),
        ("android", ("android",), None, "other"),
        ("market stall", (), "other_channel", None),
        ("market stall", ("market stall",), None, "website"),
        ("subscription_contract_checkout_one", (), "other_channel", None),
        ("subscription_contract", ("subscription_contract",), None, "system_generated"),
    ],
)
def test_an_order_comes_from_where_the_app_sells(
    an_app: Make, source: Any, listed: tuple[str, ...], reason: str | None, place: str | None
) -> None:
    event = mapped(an_app(order_channels=listed), order(source_name=source))
    assert event.skipped == reason
    assert place is None or payload(event)["action_source"] == place


@pytest.mark.parametrize("channel", ["pos", "shopify_draft_order", "iphone"])
def test_outside_the_website_there_is_no_page_and_only_the_staffs_browser(an_app: Make, channel: str) -> None:
    event = mapped(an_app(order_channels=(channel,)), order(source_name=channel))
    assert {"client_ip_address", "client_user_agent"}.isdisjoint(payload(event)["user_data"])
    assert "event_source_url" not in payload(event)
    assert event.join is None


def test_a_till_may_report_for_two_months(an_app: Make) -> None:
    app = an_app(order_channels=("pos",))
    event = mapped(app, order(source_name="pos", created_at=(NOW - timedelta(days=61)).isoformat()))
    assert event.skipped is None
    assert event.deadline_at > NOW
    assert mapped(app, order(source_name="pos", created_at=(NOW - timedelta(days=62)).isoformat())).skipped == "too_old"
