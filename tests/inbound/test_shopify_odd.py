"""Bodies that no shop sends: whatever comes, Meta is not told what it would refuse, and nothing falls over."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from core.inbound.finish import LACKS_BROWSER
from core.inbound.reading import WEBHOOK_DEPTH, read_object
from core.inbound.shopify import Delivery
from core.inbound.shopify_events import OtherTopic, WrongShape, to_event
from core.meta import events
from core.store.apps import App
from tests.inbound.bodies import SHOP, address, cart, cart_from_abroad, checkout, line, order, order_from_abroad, raw

Make = Callable[..., App]
Json = dict[str, Any]
NOW = datetime.now(UTC)
SENT = Delivery(SHOP, None, None, NOW - timedelta(minutes=1))
MADE = (NOW - timedelta(hours=1)).isoformat()
VALID = {
    "orders/create": order(created_at=MADE),
    "orders/paid": order_from_abroad(created_at=MADE, processed_at=MADE),
    "checkouts/create": checkout(created_at=MADE, billing_address=address(), customer={"id": 7, "default_address": {}}),
    "carts/create": cart_from_abroad(created_at=MADE),
}
KEYS = sorted({*VALID["orders/paid"], *checkout(), *cart(), *address(), *line(), "phone", "sms_marketing_phone"})

_odd = st.sampled_from(
    [
        *(None, "", [], {}, 0, -1, "x", True, [None], {"a": 1}, 1e300, 1e-300, 10**39, -(10**30), "9" * 300),
        *(
            "\x00",
            "\ud800",
            "555-555-SHIP",
            [{"id": 1}],
            "\u202e\u0661\u0662",
            "//[",
            "1e999999999",
            "NaN",
            "web",
            "pos",
        ),
        *("fb.1.1.x", "gid://shopify/", "?key=1", "2026-02-30T25:61:00Z", "0001-01-01T00:00:00+14:00", "EUR", 4e18),
    ]
)
_any = _odd | st.text(max_size=12) | st.recursive(_odd, lambda part: st.lists(part, max_size=3), max_leaves=5)
_apps = st.fixed_dictionaries(
    {
        "content_id": st.sampled_from(["variant", "product", "sku"]),
        "value_of": st.sampled_from(["total", "subtotal", "presentment"]),
        "order_channels": st.sampled_from([(), ("pos", "x"), ("api_apps", "web", "EUR")]),
        "consent_policy": st.sampled_from(["send", "limit", "require"]),
    }
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, Json]:
    """A topic and a body of it, spoilt in some places: a part is gone, or something odd stands there."""
    topic = draw(st.sampled_from(sorted(VALID)))
    body = copy.deepcopy(VALID[topic])
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.sampled_from(_places(body)))
        key = draw(st.sampled_from([*range(len(place))] if isinstance(place, list) else sorted({*place, *KEYS})))
        if draw(st.booleans()):
            _drop(place, key)
        else:
            place[key] = copy.deepcopy(draw(_any))
    return topic, body


def _places(body: Any) -> list[Any]:
    """Every object and every list in a body that holds something, itself first."""
    if not body or not isinstance(body, dict | list):
        return []
    return [body, *(place for part in (body.values() if isinstance(body, dict) else body) for place in _places(part))]


def _read(body: Json) -> Json | None:
    try:
        return read_object(raw(body), depth=WEBHOOK_DEPTH)
    except BadInput:
        return None


def _drop(place: Any, key: Any) -> None:
    if isinstance(place, list) or key in place:
        del place[key]


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("carts/create", order()),
        ("carts/create", checkout()),
        ("carts/create", checkout(total_price=None, abandoned_checkout_url="https://s/x")),
        ("checkouts/create", order()),
        ("checkouts/create", cart()),
        ("orders/create", cart()),
        ("orders/create", checkout()),
        ("orders/create", checkout(id=1, abandoned_checkout_url="https://s/x")),
        ("orders/create", order(invoice_url="https://s/invoices/x")),
        ("orders/create", order(refund_line_items=[{}])),
        ("orders/create", {"id": 1}),
        ("orders/create", {"line_items": {}, "currency": "EUR", "id": 1}),
        ("orders/create", order(id=None, checkout_token=None)),
        ("orders/create", order(id=820982911946154508.5, checkout_token=None)),
        ("checkouts/create", checkout(token=None)),
        ("carts/create", cart(id=None, token=None)),
        ("carts/create", cart(id={}, token="\u00e9")),
        ("carts/create", {}),
    ],
)
def test_a_body_of_another_topic_is_refused(an_app: Make, topic: str, body: dict[str, Any]) -> None:
    with pytest.raises(WrongShape):
        to_event(an_app(), topic, read_object(raw(body), depth=WEBHOOK_DEPTH), SENT, now=NOW)


@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies(), _apps)
@example(("carts/create", {}), {})
@example(("orders/create", {"line_items": [], "id": 1, "currency": None}), {})
def test_no_payload_however_odd_gives_what_meta_would_refuse(
    an_app: Make, came: tuple[str, Json], choices: dict[str, Any]
) -> None:
    topic, body = came
    app = an_app(**choices, purchase_topic=topic if topic.startswith("orders") else "orders/create")
    read = _read(body)
    try:
        event = None if read is None else to_event(app, topic, read, SENT, now=NOW)
    except (WrongShape, OtherTopic):
        event = None
    if event is None:
        return
    if event.skipped:
        assert (event.payload, event.join) == (b"", None)
        return
    reason = events.check(json.loads(event.payload), now=NOW)
    # What waits for its browser is judged again when that was seen; there consent comes before all else.
    assert reason is None or event.join is not None
    assert reason is None or reason in LACKS_BROWSER or app.consent_policy == "require"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies(), _apps)
def test_what_is_read_already_raises_nothing_but_our_two_words(
    an_app: Make, came: tuple[str, Json], choices: dict[str, Any]
) -> None:
    """Even where the reader would have stopped it: floats, and integers of any length."""
    topic, body = came
    assume("\\ud800" not in json.dumps(body))  # the reader lets none through
    try:
        to_event(an_app(**choices), topic, body, SENT, now=NOW)
    except (WrongShape, OtherTopic):
        return
