"""Shopify's orders over real HTTP: to stop, to show, to forget. Taken once, for the right shop, never for another."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select, text, update

from core.inbound.shopify import COMPLIANCE, DUTIES
from core.store import apps, jobs
from core.store.database import is_embedded, reading, writing
from core.store.platform_tables import app as app_table
from core.store.schema import capi_app, capi_audit, capi_job, capi_job_item, ours
from tests.inbound.bodies import SECRET, SHOP, order, sha
from tests.inbound.serving import Endpoint, an_endpoint

OTHER = "other-shop.myshopify.com"
EMAIL, PHONE = "Ana.Conti@Example.com", "+39 011 555 0142"
OLD = {"X-Shopify-Triggered-At": (datetime.now(UTC) - timedelta(days=3)).isoformat()}


@pytest.fixture
def endpoint(engine: Engine) -> Iterator[Endpoint]:
    with an_endpoint(engine) as running:
        yield running


def customer(**changes: Any) -> dict[str, Any]:
    return {"id": 77, "email": EMAIL, "phone": PHONE, **changes}


def data_request(**changes: Any) -> dict[str, Any]:
    orders = {"orders_requested": [299938, "280263"], "data_request": {"id": 9999}}
    return {"shop_id": 954889, "shop_domain": SHOP, "customer": customer(), **orders, **changes}


def customer_redact(**changes: Any) -> dict[str, Any]:
    whose = {"shop_id": 954889, "shop_domain": SHOP, "customer": customer()}
    return {**whose, "orders_to_redact": [18446744073709551617, 280263], **changes}


def shop_redact(**changes: Any) -> dict[str, Any]:
    return {"shop_id": 954889, "shop_domain": SHOP, **changes}


def shop_resource(**changes: Any) -> dict[str, Any]:
    """As in Shopify's own example, where the domains are null."""
    return {
        "id": 548380009,
        "name": "Super Toys",
        "email": "super@supertoys.com",
        "domain": None,
        "phone": "3213213210",
        "shop_owner": "John Smith",
        "plan_name": "enterprise",
        "money_format": "${{amount}}",
        "myshopify_domain": None,
        **changes,
    }


BODIES = {
    "app/uninstalled": shop_resource,
    "customers/data_request": data_request,
    "customers/redact": customer_redact,
    "shop/redact": shop_redact,
}


def ordered(endpoint: Endpoint) -> list[Any]:
    with reading(endpoint.engine) as conn:
        return list(conn.execute(select(capi_job).order_by(capi_job.c.id)))


def subjects(endpoint: Endpoint) -> list[str]:
    with reading(endpoint.engine) as conn:
        return list(conn.scalars(select(capi_job_item.c.subject).order_by(capi_job_item.c.subject)))


def audited(endpoint: Endpoint) -> list[tuple[str, str, int]]:
    with reading(endpoint.engine) as conn:
        rows = conn.execute(select(capi_audit).order_by(capi_audit.c.id)).all()
    assert {row.by for row in rows} <= {"shopify"}
    return [(row.action, row.subject, row.count) for row in rows]


def paused(endpoint: Endpoint) -> dict[str, str | None]:
    with reading(endpoint.engine) as conn:
        rows = conn.execute(select(capi_app).where(capi_app.c.paused_at.is_not(None)))
        return {row.app_id: row.paused_reason for row in rows}


def nothing_happened(endpoint: Endpoint) -> bool:
    return (ordered(endpoint), audited(endpoint), paused(endpoint), endpoint.events()) == ([], [], {}, [])


def an_app(endpoint: Endpoint, *, shop: str | None, email: str = "x@example.com") -> str:
    with writing(endpoint.engine) as conn:
        return apps.add(conn, name="Another", email=email, shop_domain=shop, pixel_id="1002").id


@pytest.mark.parametrize("topic", sorted(COMPLIANCE))
@pytest.mark.parametrize("route", ["its own", "shopify"])
def test_a_compliance_delivery_becomes_a_job_and_an_audit_line(endpoint: Endpoint, topic: str, route: str) -> None:
    answer = endpoint.webhook(topic if route == "its own" else route, BODIES[topic](), header_topic=topic)
    assert (answer.status_code, answer.json()) == (200, {"success": True, "accepted": 1, "dropped": []})
    (job,) = ordered(endpoint)
    assert (job.kind, job.by, job.state, job.total) == (COMPLIANCE[topic], "shopify", "queued", len(subjects(endpoint)))
    assert audited(endpoint) == [(job.kind, f"job {job.id}", job.total)]
    assert endpoint.receipts() == []


def test_who_is_meant_stands_in_the_job_as_digests_only(endpoint: Endpoint) -> None:
    endpoint.webhook("customers/redact", customer_redact())
    digests = sorted([sha("ana.conti@example.com"), sha("390115550142"), sha(f"{SHOP}:77"), sha("77")])
    app = endpoint.app.id
    assert subjects(endpoint) == sorted(
        [f"customer {','.join(digests)} {app}", f"order 18446744073709551617 {app}", f"order 280263 {app}"]
    )
    endpoint.webhook("customers/data_request", data_request())
    every = everything(endpoint.engine)
    assert not any(word in every for word in ("conti", "555 0142", "5550142"))


def everything(engine: Engine) -> str:
    """Every value in every table of ours, in small letters."""
    with reading(engine) as conn:
        rows = [tuple(row) for table in ours.sorted_tables for row in conn.execute(select(table))]
    return repr(rows).lower()


def test_every_app_of_the_shop_is_meant_and_no_other(endpoint: Endpoint) -> None:
    named, mailed = an_app(endpoint, shop=SHOP), an_app(endpoint, shop=None, email=SHOP)
    an_app(endpoint, shop=OTHER, email="y@example.com")
    an_app(endpoint, shop=OTHER, email=SHOP)
    endpoint.webhook("shop/redact", shop_redact())
    assert {subject.split(" ")[2] for subject in subjects(endpoint)} == {endpoint.app.id, named, mailed}
    endpoint.webhook("app/uninstalled", shop_resource())
    assert set(paused(endpoint)) == {endpoint.app.id, named, mailed}


def test_what_the_platform_has_deleted_is_forgotten_all_the_same(endpoint: Endpoint) -> None:
    with writing(endpoint.engine) as conn:
        conn.execute(text('DELETE FROM "AppSettings"'))
        conn.execute(app_table.delete())
    endpoint.webhook("shop/redact", shop_redact())
    assert {subject.split(" ")[2] for subject in subjects(endpoint)} == {endpoint.app.id}


def test_an_uninstall_pauses_the_app(endpoint: Endpoint) -> None:
    for _ in range(3):
        assert endpoint.webhook("app/uninstalled", shop_resource()).status_code == 200
    assert paused(endpoint) == {endpoint.app.id: "app/uninstalled"}
    assert audited(endpoint) == [("pause_app", f"app {endpoint.app.id}", 1)]
    with reading(endpoint.engine) as conn:
        assert apps.get(conn, endpoint.app.id).shop_domain == SHOP


@pytest.mark.parametrize(
    "changes",
    [{"myshopify_domain": SHOP}, {"domain": SHOP}, {"domain": "www.lantern.example"}],
)
def test_a_shop_that_names_itself_is_believed(endpoint: Endpoint, changes: dict[str, Any]) -> None:
    assert endpoint.webhook("app/uninstalled", shop_resource(**changes)).json()["accepted"] == 1
    assert set(paused(endpoint)) == {endpoint.app.id}


@pytest.mark.parametrize("topic", sorted(DUTIES))
def test_a_bad_signature_is_refused(endpoint: Endpoint, topic: str) -> None:
    for route in (topic, "shopify"):
        answer = endpoint.webhook(route, BODIES[topic](), header_topic=topic, secret="somebody_elses")
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
    assert [(receipt.reason, receipt.status) for receipt in endpoint.receipts()] == [("bad_signature", 401)] * 2
    assert nothing_happened(endpoint)


@pytest.mark.parametrize("topic", sorted(DUTIES))
def test_without_a_secret_nothing_is_done(engine: Engine, topic: str) -> None:
    with an_endpoint(engine, secrets=()) as endpoint:
        assert endpoint.webhook(topic, BODIES[topic](), secret="").status_code == 401
        assert nothing_happened(endpoint)


@pytest.mark.parametrize("topic", sorted(DUTIES))
def test_both_secrets_are_good(engine: Engine, topic: str) -> None:
    with an_endpoint(engine, secrets=("the_new_one", SECRET)) as endpoint:
        assert endpoint.webhook(topic, BODIES[topic]()).json()["accepted"] == 1


@pytest.mark.parametrize("topic", sorted(DUTIES))
def test_a_shop_we_do_not_know_is_answered_200(endpoint: Endpoint, topic: str) -> None:
    body = BODIES[topic]() | ({"shop_domain": OTHER} if topic in COMPLIANCE else {})
    answer = endpoint.webhook(topic, body, shop=OTHER)
    assert (answer.status_code, answer.json()["dropped"]) == (200, [{"i": 0, "reason": "unknown_shop"}])
    assert [(receipt.source, receipt.reason) for receipt in endpoint.receipts()] == [(topic, "unknown_shop")]
    assert nothing_happened(endpoint)


SIGNED_FOR_ANOTHER_TOPIC = [
    ("shop/redact", customer_redact()),
    ("shop/redact", data_request()),
    ("shop/redact", shop_resource(myshopify_domain=SHOP)),
    ("shop/redact", order()),
    ("shop/redact", {"shop_id": 1}),
    ("shop/redact", {"shop_domain": SHOP}),
    ("shop/redact", {}),
    ("customers/redact", data_request()),
    ("customers/redact", shop_redact()),
    ("customers/redact", shop_resource()),
    ("customers/redact", order()),
    ("customers/redact", customer_redact(shop_domain=None)),
    ("customers/redact", customer_redact(customer=None, orders_to_redact=None)),
    ("customers/redact", customer_redact(customer={}, orders_to_redact=[None, {}, 1.5])),
    ("customers/data_request", customer_redact()),
    ("customers/data_request", shop_redact()),
    ("customers/data_request", order()),
    ("app/uninstalled", shop_redact()),
    ("app/uninstalled", customer_redact()),
    ("app/uninstalled", data_request()),
    ("app/uninstalled", order()),
    ("app/uninstalled", order(myshopify_domain=SHOP)),
    ("app/uninstalled", {"myshopify_domain": None, "id": 1}),
    ("app/uninstalled", {"id": 1}),
    ("app/uninstalled", {}),
]


SIGNED_FOR_ANOTHER_SHOP = [
    ("shop/redact", shop_redact(shop_domain=OTHER)),
    ("shop/redact", shop_redact(myshopify_domain=OTHER)),
    ("customers/redact", customer_redact(shop_domain=OTHER)),
    ("customers/data_request", data_request(shop_domain=OTHER)),
    ("app/uninstalled", shop_resource(myshopify_domain=OTHER)),
    ("app/uninstalled", shop_resource(domain=OTHER)),
]


@pytest.mark.parametrize(
    ("reason", "forged"), [("wrong_shape", SIGNED_FOR_ANOTHER_TOPIC), ("shop_mismatch", SIGNED_FOR_ANOTHER_SHOP)]
)
def test_a_body_that_was_signed_for_another_topic_or_shop_does_nothing(
    endpoint: Endpoint, reason: str, forged: list[tuple[str, dict[str, Any]]]
) -> None:
    """The headers are not signed: whoever got hold of a signed body can send it again under any of them."""
    for topic, body in forged:
        answer = endpoint.webhook("shopify", body, header_topic=topic)
        assert (answer.status_code, answer.json()["dropped"]) == (200, [{"i": 0, "reason": reason}]), (topic, body)
    kept = [(receipt.source, receipt.reason) for receipt in endpoint.receipts()]
    assert kept == [(topic, reason) for topic, _ in forged]
    assert nothing_happened(endpoint)


def test_two_topics_with_one_address_are_told_apart_by_their_header(endpoint: Endpoint) -> None:
    """Shopify's settings name one address for all three of compliance."""
    assert endpoint.webhook("customers/data_request", shop_redact(), header_topic="shop/redact").json()["accepted"] == 1
    assert [job.kind for job in ordered(endpoint)] == ["redact_shop"]
    answer = endpoint.webhook("shop/redact", shop_resource(), header_topic="app/uninstalled")
    assert answer.json()["dropped"][0]["reason"] == "topic_mismatch"
    (receipt,) = endpoint.receipts()
    assert (receipt.source, receipt.detail) == ("shop/redact", "topic app/uninstalled, webhook wh-1")


@pytest.mark.parametrize("topic", sorted(COMPLIANCE))
def test_a_duty_does_not_lapse(endpoint: Endpoint, topic: str) -> None:
    assert endpoint.webhook(topic, BODIES[topic](), **OLD).json()["accepted"] == 1


def test_an_old_uninstall_stops_nobody(endpoint: Endpoint) -> None:
    answer = endpoint.webhook("app/uninstalled", shop_resource(), **OLD)
    assert (answer.status_code, answer.json()["dropped"][0]["reason"]) == (200, "stale")
    assert nothing_happened(endpoint)


def test_broken_json_is_kept_as_a_receipt(endpoint: Endpoint) -> None:
    sent = [(topic, body) for topic in sorted(DUTIES) for body in (b"{", b"[]", b"", b"\xff\xfe")]
    for topic, body in sent:
        answer = endpoint.webhook(topic, body)
        assert (answer.status_code, answer.json()["dropped"][0]["reason"]) == (200, "broken_json")
    assert [(receipt.source, receipt.reason) for receipt in endpoint.receipts()] == [
        (topic, "broken_json") for topic, _ in sent
    ]
    assert nothing_happened(endpoint)


def test_every_receipt_of_a_duty_is_kept(endpoint: Endpoint) -> None:
    for _ in range(25):
        endpoint.webhook("shop/redact", {})
    assert len(endpoint.receipts()) == 25


@pytest.mark.parametrize("topic", sorted(COMPLIANCE))
@pytest.mark.parametrize("between", ["open", "done"])
def test_a_delivery_that_comes_twice_is_one_job(endpoint: Endpoint, topic: str, between: str) -> None:
    body = BODIES[topic]()
    assert endpoint.webhook(topic, body).status_code == 200
    if between == "done":
        with writing(endpoint.engine) as conn:
            jobs.end(conn, ordered(endpoint)[0].id, now=datetime.now(UTC))
    for _ in range(3):
        assert endpoint.webhook(topic, body).status_code == 200
    assert (len(ordered(endpoint)), len(audited(endpoint))) == (1, 1)


def test_deliveries_at_once_are_one_job(endpoint: Endpoint) -> None:
    body = json.dumps(customer_redact()).encode()
    threads = [threading.Thread(target=endpoint.webhook, args=("customers/redact", body)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(ordered(endpoint)), len(audited(endpoint))) == (1, 1)


def test_a_cancelled_job_and_a_later_redaction_are_ordered_anew(endpoint: Endpoint) -> None:
    endpoint.webhook("shop/redact", shop_redact())
    with writing(endpoint.engine) as conn:
        jobs.end(conn, ordered(endpoint)[0].id, now=datetime.now(UTC), state="cancelled")
    endpoint.webhook("shop/redact", shop_redact())
    assert len(ordered(endpoint)) == 2
    with writing(endpoint.engine) as conn:
        jobs.end(conn, ordered(endpoint)[1].id, now=datetime.now(UTC))
        conn.execute(update(capi_job).values(created_at=datetime.now(UTC) - timedelta(days=2)))
    endpoint.webhook("shop/redact", shop_redact())
    assert len(ordered(endpoint)) == 3


@contextmanager
def store_away(engine: Engine) -> Iterator[None]:
    """Nobody can write: another holds SQLite's only write lock, or all our tables."""
    with writing(engine) as conn:
        if not is_embedded(engine):
            conn.execute(text("LOCK TABLE capi_job, capi_app, capi_audit IN ACCESS EXCLUSIVE MODE"))
        yield


@pytest.mark.parametrize("topic", sorted(DUTIES))
def test_without_a_database_shopify_is_asked_to_come_again(endpoint: Endpoint, topic: str) -> None:
    with store_away(endpoint.engine):
        answer = endpoint.webhook(topic, BODIES[topic]())
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert endpoint.webhook(topic, BODIES[topic]()).json()["accepted"] == 1
    assert len(audited(endpoint)) == 1
