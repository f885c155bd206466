import base64
import hashlib
import hmac
import http.server
import json
import threading

import pytest

from core.sandbox.shop import Shop
from core.secret import Secret


class Ear(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.path, dict(self.headers), body))
        answer = b'{"success": true, "eventId": "e-1"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        assert arguments


@pytest.fixture
def ear():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    server.heard = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def shop(ear):
    shop = Shop(f"http://127.0.0.1:{ear.server_address[1]}", Secret("hush"), seed=7)
    yield shop
    shop.close()


@pytest.mark.parametrize(("call", "topic"), [("order", "orders"), ("cart", "carts"), ("checkout", "checkouts")])
def test_a_webhook_is_signed_over_its_very_bytes(ear, shop, call, topic):
    getattr(shop, call)("zoe.myshopify.com")
    path, headers, body = ear.heard[0]
    assert path == f"/webhooks/{topic}/create"
    assert headers["X-Shopify-Topic"] == f"{topic}/create"
    assert headers["X-Shopify-Shop-Domain"] == "zoe.myshopify.com"
    expected = base64.b64encode(hmac.new(b"hush", body, hashlib.sha256).digest()).decode()
    assert headers["X-Shopify-Hmac-Sha256"] == expected
    assert json.loads(body)["line_items"]


def test_bodies_are_as_shopify_writes_them(ear, shop):
    shop.order("zoe.myshopify.com", email="zoë@müller.example")
    body = ear.heard[0][2]
    assert "zoë@müller.example".encode() in body
    assert b"https:\\/\\/zoe.myshopify.com" in body
    order = json.loads(body)
    assert order["browser_ip"] == order["client_details"]["browser_ip"]
    assert order["total_price"] == order["total_price_set"]["shop_money"]["amount"]
    assert order["source_name"] == "web"


def test_a_cart_has_nothing_to_know_a_person_by(shop):
    sent = shop.cart("zoe.myshopify.com").sent
    assert set(sent) == {"id", "token", "line_items", "note", "created_at", "updated_at"}


def test_a_retry_is_the_same_bytes(ear, shop):
    first = shop.order("zoe.myshopify.com")
    shop.again(first)
    assert ear.heard[0][2] == ear.heard[1][2]
    assert ear.heard[0][1]["X-Shopify-Webhook-Id"] == ear.heard[1][1]["X-Shopify-Webhook-Id"]


def test_a_tracking_call_is_the_storefront_scripts(ear, shop):
    reply = shop.track("px_1", "addToCart", event_id="abc", value=12.9, currency="EUR")
    path, headers, raw = ear.heard[0]
    body = json.loads(raw)
    assert path == "/api/track"
    assert (body["appId"], body["eventName"], body["event_id"]) == ("px_1", "addToCart", "abc")
    assert body["value"] == body["customData"]["value"] == 12.9
    assert headers["Origin"] == "https://shop.example"
    assert headers["User-Agent"].startswith("Mozilla/5.0")
    assert (reply.status, reply.event_id) == (200, "e-1")


def test_a_wrong_signature_can_be_sent(ear, shop):
    shop.deliver("orders/create", "zoe.myshopify.com", {"id": 1}, signature="bm8=")
    assert ear.heard[0][1]["X-Shopify-Hmac-Sha256"] == "bm8="


def test_the_same_seed_gives_the_same_customers(ear):
    url = f"http://127.0.0.1:{ear.server_address[1]}"
    one, two = (Shop(url, Secret("hush"), seed=3).order("a.example").sent["email"] for _ in range(2))
    assert one == two
