"""A browser's calls and Shopify's webhooks meet: one event for one order, and a browser for a cart that has none."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from core.clock import now as real_now
from core.desk.queries import retry_preview
from core.inbound.visitors import join_waiting
from core.store import again, outbox, ready
from core.store.database import reading, writing
from core.store.schema import capi_alias, capi_join, capi_outbox, capi_visitor
from core.store.visitors import Visitor, forget_old, remember
from tests.inbound.bodies import BROWSER, cart, checkout, order, sha, tracking
from tests.inbound.serving import Endpoint, an_endpoint

FBP = "fb.1.1760000000000.7"
PUBLIC = "93.184.216.34"
MINUTE = timedelta(seconds=61)


@pytest.fixture
def endpoint(engine: Engine) -> Iterator[Endpoint]:
    """Behind a proxy of its own, so that visitors have public addresses."""
    with an_endpoint(engine, CAPI_TRUSTED_PROXIES="127.0.0.1") as running:
        yield running


def visit(endpoint: Endpoint, **fields: Any) -> dict[str, Any]:
    answer = endpoint.track(tracking(fbp=FBP, **fields), headers={"X-Forwarded-For": PUBLIC})
    assert answer.status_code == 200
    return answer.json()


def join(endpoint: Endpoint, *, later: timedelta = timedelta(0)) -> int:
    return join_waiting(endpoint.engine, now=real_now() + later)


def the(endpoint: Endpoint, name: str) -> Any:
    (event,) = (event for event in endpoint.events() if event.event_name == name)
    return event


def payload_of(endpoint: Endpoint, name: str) -> dict[str, Any]:
    with reading(endpoint.engine) as conn:
        held = conn.scalar(select(capi_outbox.c.payload).where(capi_outbox.c.id == the(endpoint, name).id))
    assert held is not None
    return dict(json.loads(bytes(held)))


def due(endpoint: Endpoint, *, later: timedelta = timedelta(0)) -> int:
    with reading(endpoint.engine) as conn:
        return len(ready.take(conn, "1001", [endpoint.app.id], now=real_now() + later, count=100, size=10**6))


def test_a_cart_finds_the_browser_that_filled_it(endpoint: Endpoint) -> None:
    visit(endpoint, eventName="pageview", cartToken="ct-9?key=1", url="https://lantern-and-loom.com/products/lamp")
    assert endpoint.webhook("carts/create", cart(token="ct-9")).json()["accepted"] == 1
    assert join(endpoint) == 1
    user = payload_of(endpoint, "AddToCart")["user_data"]
    assert user == {"client_ip_address": PUBLIC, "client_user_agent": BROWSER, "fbp": FBP}
    assert payload_of(endpoint, "AddToCart")["event_source_url"] == "https://lantern-and-loom.com/products/lamp"
    assert due(endpoint) == 2


def test_a_browser_that_comes_after_its_cart_is_found_as_well(endpoint: Endpoint) -> None:
    endpoint.webhook("carts/create", cart(token="ct-9"))
    assert (join(endpoint), due(endpoint)) == (0, 0)
    visit(endpoint, eventName="pageview", cartToken="ct-9")
    assert (join(endpoint), due(endpoint)) == (1, 2)


def test_a_cart_that_nobody_was_seen_with_is_skipped_after_a_minute(endpoint: Endpoint) -> None:
    endpoint.webhook("carts/create", cart(token="ct-9"))
    assert join(endpoint, later=timedelta(seconds=55)) == 0
    assert join(endpoint, later=MINUTE) == 1
    event = the(endpoint, "AddToCart")
    assert (event.state, event.failure) == ("skipped", "no_match_keys")
    assert endpoint.payloads() == []
    assert endpoint.webhook("carts/create", cart(token="ct-9")).json()["dropped"][0]["reason"] == "duplicate"


def test_a_checkout_goes_with_what_it_has_after_a_minute(endpoint: Endpoint) -> None:
    endpoint.webhook("checkouts/create", checkout(email="ana@example.com"))
    assert join(endpoint) == 0
    assert join(endpoint, later=MINUTE) == 1
    assert payload_of(endpoint, "InitiateCheckout")["user_data"]["em"] == sha("ana@example.com")


def test_who_sat_before_the_browser_is_never_copied(endpoint: Endpoint) -> None:
    visit(
        endpoint,
        eventName="pageview",
        cartToken="ct-9",
        userData={"email": "ana@example.com", "phone": "+390115550142"},
    )
    endpoint.webhook("carts/create", cart(token="ct-9"))
    join(endpoint)
    assert set(payload_of(endpoint, "AddToCart")["user_data"]) == {"client_ip_address", "client_user_agent", "fbp"}
    with reading(endpoint.engine) as conn:
        assert "ana" not in str(conn.execute(select(capi_visitor)).all())


@pytest.mark.parametrize("first", ["browser", "webhook"])
@pytest.mark.parametrize("fields", [{"order_id": "5550001"}, {"checkoutToken": "ck-31f0"}, {"order_id": "#1001"}])
def test_an_order_told_by_browser_and_webhook_is_one_event(
    endpoint: Endpoint, first: str, fields: dict[str, Any]
) -> None:
    body = order(id=5550001, name="#1001", order_number=1001)

    def browser() -> int:
        return int(visit(endpoint, eventName="purchase", event_id="px-1", **fields)["accepted"])

    def webhook() -> int:
        return int(endpoint.webhook("orders/create", body).json()["accepted"])

    told = [browser(), webhook()] if first == "browser" else [webhook(), browser()]
    assert told == [1, 0]
    assert len([event for event in endpoint.events() if event.event_name == "Purchase"]) == 1
    join(endpoint, later=MINUTE)
    assert due(endpoint, later=MINUTE) == 1


def test_a_browsers_own_addtocart_makes_the_carts_webhook_a_second_report(endpoint: Endpoint) -> None:
    endpoint.webhook("carts/create", cart(token="ct-9"))
    for product in ("1", "2"):
        assert visit(endpoint, eventName="addToCart", cartToken="ct-9", product_id=product)["accepted"] == 1
    assert join(endpoint) == 1
    (webhook,) = (event for event in endpoint.events() if event.source == "carts/create")
    assert (webhook.state, webhook.failure, due(endpoint)) == ("skipped", "reported_by_browser", 2)
    visit(endpoint, eventName="addToCart", cartToken="ct-10")
    assert endpoint.webhook("carts/create", cart(token="ct-10")).json()["dropped"][0]["reason"] == "duplicate"


@pytest.mark.parametrize("first", ["browser", "webhook"])
def test_a_click_on_checkout_makes_the_checkouts_webhook_a_second_report(endpoint: Endpoint, first: str) -> None:
    def click() -> None:
        visit(endpoint, eventName="initiateCheckout", cartToken="ct-9")

    for deed in (click, lambda: endpoint.webhook("checkouts/create", checkout(client_details=None)))[
        :: 1 if first == "browser" else -1
    ]:
        deed()
    join(endpoint)
    started = [event for event in endpoint.events() if event.event_name == "InitiateCheckout"]
    assert [event.source for event in started if event.state == "due"] == ["track"]


def test_an_order_that_was_skipped_after_its_wait_leaves_the_way_free_for_the_browser(endpoint: Endpoint) -> None:
    endpoint.configure(consent_policy="require")
    endpoint.webhook("orders/create", order(id=77))
    join(endpoint, later=MINUTE)
    assert the(endpoint, "Purchase").failure == "no_consent"
    told = visit(endpoint, eventName="purchase", order_id="77", event_id="px-1", consent={"marketing": True})
    assert told["accepted"] == 1
    with reading(endpoint.engine) as conn:
        assert len(conn.execute(select(capi_alias).where(capi_alias.c.alias == "order:77")).all()) == 1


def test_a_denial_in_the_browser_holds_the_webhook_back(endpoint: Endpoint) -> None:
    visit(endpoint, eventName="pageview", checkoutToken="ck-31f0", consent={"marketing": False})
    endpoint.webhook("orders/create", order())
    join(endpoint)
    assert the(endpoint, "Purchase").failure == "no_consent"


@pytest.mark.parametrize(("consent", "limited"), [({"saleOfData": True, "marketing": True}, False), (None, True)])
def test_limited_use_is_decided_when_the_browser_was_asked(
    endpoint: Endpoint, consent: dict[str, bool] | None, limited: bool
) -> None:
    endpoint.configure(consent_policy="limit")
    visit(endpoint, eventName="pageview", checkoutToken="ck-31f0", consent=consent)
    endpoint.webhook("checkouts/create", checkout())
    join(endpoint)
    assert ("data_processing_options" in payload_of(endpoint, "InitiateCheckout")) is limited


def test_a_browser_is_forgotten_in_time(endpoint: Endpoint) -> None:
    visit(endpoint, eventName="pageview", cartToken="ct-9", checkoutToken="ck")
    with writing(endpoint.engine) as conn:
        assert forget_old(conn, now=real_now() + timedelta(hours=11)) == 0
        assert forget_old(conn, now=real_now() + timedelta(hours=13)) == 1
        assert forget_old(conn, now=real_now() + timedelta(hours=25)) == 2
    endpoint.webhook("carts/create", cart(token="ct-9"))
    assert join(endpoint) == 0


def test_an_event_that_was_ended_waits_for_nobody(endpoint: Endpoint) -> None:
    endpoint.webhook("carts/create", cart(token="ct-9"))
    with writing(endpoint.engine) as conn:
        outbox.move(conn, "bury", [the(endpoint, "AddToCart").id], failure="past_deadline")
        forget_old(conn, now=real_now())
        assert conn.execute(select(capi_join)).all() == []


def test_a_batch_is_answered_event_by_event(endpoint: Endpoint) -> None:
    shared = {"appId": "app_public", "url": "https://lantern-and-loom.com/", "visitorId": "v"}
    events = [{"eventName": "pageview", "event_id": "a"}, {}, {"eventName": "scroll", "event_id": "b"}]
    answer = endpoint.track(shared | {"events": [*events, {"eventName": "pageview", "event_id": "a"}]}).json()
    assert answer == {
        "success": True,
        "eventId": "a",
        "accepted": 1,
        "dropped": [
            {"i": 1, "reason": "missing_fields"},
            {"i": 2, "reason": "not_forwarded"},
            {"i": 3, "reason": "duplicate"},
        ],
        "eventIds": ["a", None, "b", "a"],
    }
    assert [receipt.reason for receipt in endpoint.receipts()] == ["missing_fields"]


def test_the_same_browser_is_not_written_at_every_click(endpoint: Endpoint) -> None:
    visit(endpoint, eventName="pageview")
    with writing(endpoint.engine) as conn:
        conn.execute(text("UPDATE capi_visitor SET user_agent = 'touched'"))
    visit(endpoint, eventName="viewContent", url="https://lantern-and-loom.com/other")
    with reading(endpoint.engine) as conn:
        assert conn.scalars(select(capi_visitor.c.user_agent)).all() == ["touched"]
    visit(endpoint, eventName="viewContent", consent={"marketing": True})
    with reading(endpoint.engine) as conn:
        assert conn.scalars(select(capi_visitor.c.user_agent)).all() == [BROWSER]


def test_an_order_without_tokens_finds_the_browser_that_named_it(endpoint: Endpoint) -> None:
    """The platform's own script sends the order's number and nothing else."""
    endpoint.configure(consent_policy="require")
    body = order(id=77, order_number=1001, checkout_token=None, cart_token=None, note_attributes=[])
    assert endpoint.webhook("orders/create", body).json()["accepted"] == 1
    fields = {"eventName": "purchase", "order_id": "1001", "consent": {"marketing": True}}
    told = endpoint.track(tracking(**fields), headers={"X-Forwarded-For": PUBLIC}).json()
    assert told["dropped"][0]["reason"] == "duplicate"
    assert (join(endpoint), due(endpoint)) == (1, 1)
    assert the(endpoint, "Purchase").source == "orders/create"


def test_a_browser_with_both_tokens_does_not_end_the_webhook_that_waits_for_it(endpoint: Endpoint) -> None:
    endpoint.webhook("checkouts/create", checkout())
    told = visit(endpoint, eventName="initiateCheckout", cartToken="ct-9", checkoutToken="ck-31f0")
    assert told["accepted"] == 0
    assert (join(endpoint), due(endpoint)) == (1, 1)


def test_an_addtocart_sent_again_leaves_its_note(endpoint: Endpoint) -> None:
    for accepted in (1, 0):
        assert visit(endpoint, eventName="addToCart", cartToken="ct-9", event_id="a1")["accepted"] == accepted
    assert endpoint.webhook("carts/create", cart(token="ct-9")).json()["accepted"] == 0


def test_who_was_told_already_leaves_no_name_behind_that_nobody_has(endpoint: Endpoint) -> None:
    visit(endpoint, eventName="purchase", checkoutToken="ck-31f0", event_id="px")
    endpoint.webhook("orders/create", order(id=77))
    with reading(endpoint.engine) as conn:
        owners = set(conn.scalars(select(capi_alias.c.event_id).where(capi_alias.c.event_name == "Purchase")))
        assert owners == {the(endpoint, "Purchase").id}
        assert conn.scalars(select(capi_alias.c.alias).where(capi_alias.c.alias == "order:77")).all()


def test_the_number_of_an_order_that_is_still_to_come_cannot_be_taken(endpoint: Endpoint) -> None:
    long_ago = real_now() - timedelta(days=20)
    for number in range(1001, 1011):
        assert visit(endpoint, eventName="purchase", order_id=str(number), value=0.01)["accepted"] == 1
    with writing(endpoint.engine) as conn:
        conn.execute(capi_alias.update().values(at=long_ago))
    assert endpoint.webhook("orders/create", order(id=77, order_number=1010)).json()["accepted"] == 1
    assert endpoint.webhook("orders/create", order(id=77, order_number=1010)).json()["accepted"] == 0


@pytest.mark.parametrize("first", ["browser", "webhook"])
def test_a_report_that_could_not_be_sent_gives_way_to_one_that_can(endpoint: Endpoint, first: str) -> None:
    if first == "browser":
        told = visit(endpoint, eventName="purchase", checkoutToken="ck-31f0", value=None, customData={})
        assert told["dropped"][0]["reason"] == "no_value"
        assert endpoint.webhook("orders/create", order()).json()["accepted"] == 1
    else:
        endpoint.webhook("orders/create", order(currency="XXXX", total_price_set=None))
        assert the(endpoint, "Purchase").state == "skipped"
        assert visit(endpoint, eventName="purchase", checkoutToken="ck-31f0")["accepted"] == 1
    assert the(endpoint, "Purchase").state == "due"


def test_a_browsers_no_stands_against_a_webhook_of_the_same_name(endpoint: Endpoint) -> None:
    visit(endpoint, eventName="purchase", checkoutToken="ck-31f0", consent={"marketing": False})
    assert endpoint.webhook("orders/create", order()).json()["accepted"] == 0
    assert the(endpoint, "Purchase").failure == "no_consent"


def test_a_test_order_stays_unsent_whoever_tells_of_it(endpoint: Endpoint) -> None:
    endpoint.webhook("orders/create", order(test=True))
    assert visit(endpoint, eventName="purchase", checkoutToken="ck-31f0")["accepted"] == 0


def test_a_no_is_not_forgotten_by_a_call_that_says_nothing(endpoint: Endpoint) -> None:
    visit(endpoint, eventName="pageview", checkoutToken="ck-31f0", consent={"marketing": False})
    visit(endpoint, eventName="pageview", checkoutToken="ck-31f0")
    with reading(endpoint.engine) as conn:
        kept = conn.execute(select(capi_visitor).where(capi_visitor.c.kind == "checkout")).one()
    assert (kept.marketing, kept.address, kept.user_agent, kept.fbp) == (False, None, None, None)
    endpoint.webhook("checkouts/create", checkout())
    join(endpoint)
    assert the(endpoint, "InitiateCheckout").failure == "no_consent"
    visit(endpoint, eventName="pageview", checkoutToken="ck-31f0", consent={"marketing": True})
    with reading(endpoint.engine) as conn:
        kept = conn.execute(select(capi_visitor).where(capi_visitor.c.kind == "checkout")).one()
    assert (kept.marketing, kept.user_agent) == (True, BROWSER)


def test_what_waits_for_its_browser_cannot_be_hurried(endpoint: Endpoint) -> None:
    endpoint.configure(consent_policy="require")
    endpoint.webhook("orders/create", order())
    id_ = the(endpoint, "Purchase").id
    with reading(endpoint.engine) as conn:
        assert retry_preview(conn, [id_], now=real_now()).retried == 0
        found = again.find(conn, [id_])[id_]
    assert found.waits


def test_an_app_that_was_paused_meanwhile_sends_nothing(endpoint: Endpoint) -> None:
    endpoint.webhook("checkouts/create", checkout())
    endpoint.configure(paused_at=real_now())
    join(endpoint, later=MINUTE)
    assert the(endpoint, "InitiateCheckout").failure == "paused"


def test_two_checkouts_of_one_cart_are_two(endpoint: Endpoint) -> None:
    told = [endpoint.webhook("checkouts/create", checkout(token=token)).json()["accepted"] for token in ("a1", "b2")]
    assert told == [1, 1]


def test_a_click_of_days_ago_does_not_answer_for_todays_checkout(endpoint: Endpoint) -> None:
    visit(endpoint, eventName="initiateCheckout", cartToken="ct-9")
    with writing(endpoint.engine) as conn:
        conn.execute(capi_alias.update().values(at=real_now() - timedelta(days=6)))
    endpoint.webhook("checkouts/create", checkout())
    join(endpoint)
    assert [event.state for event in endpoint.events() if event.source == "checkouts/create"] == ["due"]


def test_many_browsers_do_not_slow_the_look_for_a_few(endpoint: Endpoint) -> None:
    """An index answers for each waiting event; a scan of the app's browsers took seconds under the write lock."""
    seen = [Visitor(endpoint.app.id, "fbp", f"fb.1.1760000000000.{n}", user_agent=BROWSER) for n in range(20_000)]
    with writing(endpoint.engine) as conn:
        remember(conn, seen, now=real_now())
    for n in range(50):
        endpoint.webhook("carts/create", cart(token=f"ct-{n}"))
    began = time.monotonic()
    assert join(endpoint) == 0
    assert time.monotonic() - began < 0.5
