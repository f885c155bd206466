from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from sqlalchemy import Engine, text

from core.store.database import writing
from tests.inbound.bodies import BROWSER, tracking
from tests.inbound.serving import Endpoint, an_endpoint

LONG = "".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(1_990))
ORIGIN = "https://lantern-and-loom.com"


@pytest.fixture
def endpoint(engine: Engine) -> Iterator[Endpoint]:
    with an_endpoint(engine) as running:
        yield running


def test_an_event_is_in_the_outbox_when_it_is_answered(endpoint: Endpoint) -> None:
    answer = endpoint.track(tracking(event_id="e-1"))
    assert (answer.status_code, answer.json()) == (
        200,
        {"success": True, "eventId": "e-1", "accepted": 1, "dropped": []},
    )
    (event,) = endpoint.events()
    assert (event.app_id, event.pixel_id, event.event_name, event.state) == (
        endpoint.app.id,
        "1001",
        "AddToCart",
        "due",
    )
    assert json.loads(endpoint.payloads()[0])["event_id"] == "e-1"


def test_a_hundred_replays_are_one_event(endpoint: Endpoint) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: endpoint.track(tracking(event_id="same")).json(), range(100)))
    assert sum(answer["accepted"] for answer in answers) == 1
    assert sum(answer["dropped"] == [{"i": 0, "reason": "duplicate"}] for answer in answers) == 99
    assert len(endpoint.events()) == len(endpoint.payloads()) == 1


def test_a_skipped_event_has_a_ledger_line_and_no_payload(endpoint: Endpoint) -> None:
    answer = endpoint.track(tracking(eventName="scroll"))
    assert answer.json()["dropped"] == [{"i": 0, "reason": "not_forwarded"}]
    assert [(event.state, event.failure) for event in endpoint.events()] == [("skipped", "not_forwarded")]
    assert endpoint.payloads() == []


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"{}", 400, "Missing required fields"),
        (b"[1]", 400, "The body is not a JSON object"),
        (b"{", 400, "The body is not valid JSON"),
        (b'{"appId":NaN}', 400, "The body is not valid JSON"),
        (b'{"appId":1e999}', 400, "The body is not valid JSON"),
        (b'{"a":' * 5000, 400, "The body is not valid JSON"),
        (json.dumps(tracking(appId="nobody")).encode(), 404, "App not found"),
        (json.dumps(tracking(appId="x" * 4000)).encode(), 404, "App not found"),
        (b" " * (64 * 1024 + 1), 413, "The body is too large"),
    ],
)
def test_refusals_have_the_platforms_shape(endpoint: Endpoint, body: bytes, status: int, error: str) -> None:
    answer = endpoint.track(body)
    assert (answer.status_code, answer.json()) == (status, {"error": error})
    assert endpoint.events() == []


def test_a_streamed_body_is_cut_off_at_its_cap(endpoint: Endpoint) -> None:
    answer = requests.post(f"{endpoint.url}/api/track", data=(b"x" * 8192 for _ in range(9)), timeout=10)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        tracking(eventName="wh\u0000eel\ud800"),
        tracking(event_id=5, value=10**30, currency=["EUR"], products=[[]]),
        tracking(userData="x", timestamp=10**40, url=["x"]),
        tracking(variables={"input": 3}),
        tracking(customData=None),
    ],
)
def test_odd_bodies_are_never_a_server_error(endpoint: Endpoint, body: dict[str, object]) -> None:
    assert endpoint.track(json.dumps(body).encode()).status_code in (200, 400)


def test_a_client_that_hangs_up_disturbs_nobody(endpoint: Endpoint) -> None:
    host, port = endpoint.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /api/track HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert endpoint.track().status_code == 200


@pytest.mark.parametrize("origin", [ORIGIN, "null"])
def test_the_preflight_of_a_credentialed_beacon_passes(endpoint: Endpoint, origin: str) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = requests.options(f"{endpoint.url}/api/track", headers=asked, timeout=10)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "content-type" in answer.headers["access-control-allow-headers"]
    assert (answer.headers["access-control-max-age"], answer.headers["vary"]) == ("86400", "Origin")


def test_a_text_plain_beacon_needs_no_preflight(endpoint: Endpoint) -> None:
    sent = {"Origin": ORIGIN, "Content-Type": "text/plain;charset=UTF-8"}
    answer = endpoint.track(json.dumps(tracking()).encode(), headers=sent)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)


def test_refusals_can_be_read_by_the_page(endpoint: Endpoint) -> None:
    answer = endpoint.track(b"{}", headers={"Origin": ORIGIN})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (400, ORIGIN)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (ORIGIN, 200),
        ("https://evil.example", 403),
        ("null", 200),
        (None, 200),
    ],
)
def test_listed_hosts_are_enforced_in_the_handler(endpoint: Endpoint, origin: str | None, status: int) -> None:
    endpoint.configure(allowed_origins="lantern-and-loom.com")
    answer = endpoint.track(headers={"Origin": origin} if origin else {})
    assert answer.status_code == status
    assert len(endpoint.events()) == (status == 200)


def test_the_image_always_answers_a_picture(endpoint: Endpoint) -> None:
    data = base64.b64encode(json.dumps(tracking(event_id="img", eventName=None)).encode()).decode()
    good = {"e": "pageview", "d": data}
    for query in (good, {}, {"d": "%%%"}, {"e": "x", "d": base64.b64encode(b"[]").decode()}):
        answer = requests.get(f"{endpoint.url}/api/track", params=query, headers={"User-Agent": BROWSER}, timeout=10)
        assert (answer.status_code, answer.headers["content-type"], answer.content[:6]) == (200, "image/gif", b"GIF89a")
    assert [(event.event_name, event.event_id) for event in endpoint.events()] == [("PageView", "img")]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(endpoint: Endpoint, method: str) -> None:
    answer = requests.request(method, f"{endpoint.url}/api/track", timeout=10)
    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})


def test_a_foreign_write_to_the_settings_is_seen_soon(endpoint: Endpoint) -> None:
    assert endpoint.track().status_code == 200
    with writing(endpoint.engine) as conn:
        conn.execute(text('UPDATE "AppSettings" SET "metaPixelId" = \'2002\''))
    for lookup in endpoint.asgi.state.apps_memory._known:
        endpoint.asgi.state.apps_memory._known[lookup] = (0.0, None)
    endpoint.track()
    assert [event.pixel_id for event in endpoint.events()] == ["1001", "2002"]


def test_the_clients_address_is_the_trusted_proxys_word(engine: Engine) -> None:
    with an_endpoint(engine, CAPI_TRUSTED_PROXIES="127.0.0.1") as endpoint:
        endpoint.track(headers={"X-Forwarded-For": "8.8.4.4, 93.184.216.34"})
        assert json.loads(endpoint.payloads()[0])["user_data"]["client_ip_address"] == "93.184.216.34"


def test_an_untrusted_proxy_is_not_believed(endpoint: Endpoint) -> None:
    endpoint.track(headers={"X-Forwarded-For": "93.184.216.34"})
    assert "client_ip_address" not in json.loads(endpoint.payloads()[0])["user_data"]


def test_who_sends_too_much_is_told_when_to_come_again(engine: Engine) -> None:
    visitor = {"X-Forwarded-For": "93.184.216.34"}
    with an_endpoint(engine, CAPI_TRUSTED_PROXIES="127.0.0.1", CAPI_RATE_ADDRESS="1") as endpoint:
        answers = [endpoint.track(tracking(), headers=visitor) for _ in range(8)]
        assert [answer.status_code for answer in answers] == [200] * 6 + [429] * 2
        assert answers[-1].json() == {"error": "Too many requests"}
        assert answers[-1].headers["retry-after"] == "1"
        assert endpoint.track(tracking(), headers={"X-Forwarded-For": "93.184.216.35"}).status_code == 200
        assert {(receipt.app_id, receipt.reason, receipt.status) for receipt in endpoint.receipts()} == {
            (endpoint.app.id, "rate_limited", 429)
        }


def test_guessing_app_ids_is_slowed_down_and_noted_in_part(engine: Engine) -> None:
    visitor = {"X-Forwarded-For": "93.184.216.34"}
    with an_endpoint(engine, CAPI_TRUSTED_PROXIES="127.0.0.1") as endpoint:
        statuses = [endpoint.track(tracking(appId=f"guess{n}"), headers=visitor).status_code for n in range(30)]
        assert statuses[:10] == [404] * 10
        assert statuses.count(429) > 10
        noted = [receipt.reason for receipt in endpoint.receipts()]
        assert noted.count("unknown_app") == 10
        assert noted.count("rate_limited") == 10


def test_one_app_does_not_starve_the_others(engine: Engine) -> None:
    with an_endpoint(engine, CAPI_RATE_APP="2") as endpoint:
        assert [endpoint.track(tracking()).status_code for _ in range(10)].count(429) >= 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "unreadable"),
        (b"{}", "missing_fields"),
        (b" " * (64 * 1024 + 1), "too_large"),
        (json.dumps({"appId": "app_public", "events": [{}] * 21}).encode(), "too_many"),
    ],
)
def test_what_cannot_be_taken_leaves_a_receipt(endpoint: Endpoint, body: bytes, reason: str) -> None:
    assert endpoint.track(body).status_code >= 400
    assert [receipt.reason for receipt in endpoint.receipts()] == [reason]


def test_one_value_that_no_index_takes_spoils_nobody_elses(engine: Engine) -> None:
    with an_endpoint(engine) as endpoint, ThreadPoolExecutor(8) as pool:
        bodies = [tracking(event_id=f"e{n}", order_id=LONG if n == 3 else str(n)) for n in range(8)]
        statuses = [answer.status_code for answer in pool.map(endpoint.track, bodies)]
    assert statuses == [200] * 8


def test_a_nul_in_the_images_name_spoils_nobody_elses(endpoint: Endpoint) -> None:
    data = base64.b64encode(json.dumps(tracking(eventName=None, event_id="e1")).encode()).decode()
    answer = requests.get(
        f"{endpoint.url}/api/track", params={"e": "page\0view", "d": data}, headers={"User-Agent": BROWSER}, timeout=10
    )
    assert answer.status_code == 200
    assert [event.event_name for event in endpoint.events()] == ["PageView"]


def test_guesses_are_refused_before_they_cost_a_look_into_the_database(engine: Engine) -> None:
    with an_endpoint(engine, CAPI_TRUSTED_PROXIES="127.0.0.1") as endpoint:
        memory = endpoint.asgi.state.apps_memory
        endpoint.track(tracking(), headers={"X-Forwarded-For": "93.184.216.40"})
        for n in range(30):
            endpoint.track(tracking(appId=f"guess{n}"), headers={"X-Forwarded-For": "93.184.216.34"})
        assert len(memory._unknown) <= 12
        assert memory.remembers("app_public")
        assert endpoint.track(tracking(), headers={"X-Forwarded-For": "93.184.216.34"}).status_code == 200
