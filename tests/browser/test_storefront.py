"""What reaches the endpoint from a real browser: what platforms' scripts send, and our own `/pixel.js`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.browser.screens import CHROMIUM, FLAGS
from tests.inbound.bodies import BROWSER, sha, tracking
from tests.inbound.bodies import order as order_webhook
from tests.inbound.serving import Endpoint, an_endpoint

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine"),
]

FBP = "fb.1.1760000000000.1234567890"
# Shopify's own record of a product page's product, in hundredths.
LAMP = """<script>
  var ShopifyAnalytics = {meta: {selectedVariantId: "42", currency: "EUR", product: {id: 7, variants: [
    {id: 41, price: 1000, name: "Lamp - Brass", sku: "L-B"},
    {id: 42, price: 2450, name: "Lamp - Steel", sku: "L-S"}]}}};
  var Shopify = {currency: {active: "EUR"}};
</script>"""
# One item was in the cart before: the answer counts both, and has the price after the discount.
CART_LINE = {"id": 42, "variant_id": 42, "product_id": 7, "quantity": 3, "price": 2450, "final_price": 2000}
FORM = (
    '<form action="/cart/add" method="post"><input name="id" value="42"><input name="quantity" value="2">'
    "<button id=add>Add</button></form>"
)
REDIRECTS = {"/cart/add": "/cart", "/cart": "/checkout"}
FBQ = "<script>var calls = []; function fbq() { calls.push([...arguments]) }</script>"
PRIVACY = """<script>
  var answers = {marketing: ""};
  var Shopify = {customerPrivacy: {
    marketingAllowed: () => answers.marketing == "yes", saleOfDataAllowed: () => answers.marketing == "yes",
    currentVisitorConsent: () => answers}};
  function choose(answer) {
    answers.marketing = answer;
    document.dispatchEvent(new CustomEvent("visitorConsentCollected"))
  }
</script>"""


class Shop:
    """A shop's pages on an origin of its own; tests write them."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.posts: list[str] = []
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = shop.pages.get(self.path.split("?")[0])
                self._answer(200 if page else 404, "text/html", page or "nothing here", shop.headers)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                shop.posts.append(self.path)
                if self.path in REDIRECTS:
                    self._answer(303, "text/html", "", {"Location": REDIRECTS[self.path]})
                else:
                    sold_out = self.path.endswith("?sold-out")
                    self._answer(422 if sold_out else 200, "application/json", json.dumps(CART_LINE), {})

            def _answer(self, status: int, kind: str, body: str, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {"Content-Type": f"{kind}; charset=utf-8", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                time.sleep(0.5 if "?slow" in self.path else 0)
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # Another host than the endpoint's: a browser takes the two for different sites.
        self.url = f"http://localhost:{self.server.server_port}"


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    shop.pages = {"/": "<title>Home</title>", "/cart": "<title>Cart</title>", "/checkout": "<title>Checkout</title>"}
    thread = threading.Thread(target=shop.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield shop
    shop.server.shutdown()
    shop.server.server_close()
    thread.join(5)


@pytest.fixture
def endpoint(sqlite_engine: Engine) -> Iterator[Endpoint]:
    with an_endpoint(sqlite_engine) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless one says so in its name and is taken for a bot. It is renamed as a whole, not only its pages: what
    outlives a page is sent by the browser itself."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        args = [*FLAGS, f"--user-agent={BROWSER}"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=args)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any, shop: Shop) -> Iterator[Any]:
    """A visitor's tab. No script may fail in it."""
    context = browser.new_context()
    context.add_cookies([{"name": "_fbp", "value": FBP, "url": shop.url}])
    tab = context.new_page()
    broken: list[str] = []
    tab.on("pageerror", lambda error: broken.append(str(error)))
    yield tab
    context.close()
    assert broken == []


@pytest.fixture
def sees(endpoint: Endpoint, shop: Shop, tab: Any) -> Callable[..., None]:
    """Open a page of the shop that carries our script."""

    def open_page(html: str = "", *, path: str = "/products/lamp", before: str = "", attributes: str = "") -> None:
        script = f'<script src="{endpoint.url}/pixel.js?id=app_public" {attributes}></script>'
        shop.pages[path.split("?")[0]] = f"<!doctype html><title>Lamp</title>{before}{script}{html}"
        tab.goto(f"{shop.url}{path}")

    return open_page


def _arrived(endpoint: Endpoint, *names: str) -> list[dict[str, Any]]:
    """Meta's events, exactly these and each of them once; by name as they stand in the outbox."""
    until = time.monotonic() + 8
    while len(endpoint.events()) < len(names) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.4)  # a second one would come now
    events = endpoint.events()
    assert sorted(event.event_name for event in events) == sorted(names)
    assert {(event.state, event.failure) for event in events} <= {("due", None)}
    return [json.loads(payload) for payload in endpoint.payloads()]


def _one(payloads: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [payload for payload in payloads if payload["event_name"] == name]
    return found


def _sent(tab: Any) -> list[str]:
    """The calls to the endpoint from now on."""
    sent: list[str] = []
    tab.on("request", lambda request: sent.append(request.url) if "/api/track" in request.url else None)
    return sent


# What platforms' scripts send today

SENDERS = {
    "a JSON beacon": "navigator.sendBeacon(url, new Blob([body], {type: 'application/json'}))",
    "a text beacon": "navigator.sendBeacon(url, body)",
    "a fetch that outlives its page": (
        "fetch(url, {method: 'POST', body, keepalive: true, headers: {'Content-Type': 'application/json'}})"
    ),
    "an image": "new Image().src = url + '?e=ignored&d=' + encodeURIComponent(btoa(body))",
}
NAMES = {"pageview": "PageView", "viewContent": "ViewContent", "addToCart": "AddToCart", "purchase": "Purchase"}


@pytest.mark.parametrize("sender", SENDERS)
def test_what_a_storefront_sends_arrives_once(endpoint: Endpoint, shop: Shop, tab: Any, sender: str) -> None:
    tab.goto(shop.url)
    for name in NAMES:
        body = json.dumps(tracking(eventName=name, order_id="1001"))
        tab.evaluate(f"([url, body]) => {{ {SENDERS[sender]} }}", [f"{endpoint.url}/api/track", body])
    payloads = _arrived(endpoint, *NAMES.values())
    assert {payload["user_data"]["client_user_agent"] for payload in payloads} == {BROWSER}


@pytest.mark.parametrize("sender", ["a JSON beacon", "a text beacon", "a fetch that outlives its page"])
def test_what_is_sent_while_the_page_is_left_arrives(endpoint: Endpoint, shop: Shop, tab: Any, sender: str) -> None:
    tab.goto(shop.url)
    wait = f"([url, body]) => addEventListener('pagehide', () => {{ {SENDERS[sender]} }})"
    tab.evaluate(wait, [f"{endpoint.url}/api/track", json.dumps(tracking())])
    tab.goto(f"{shop.url}/cart")
    _arrived(endpoint, "AddToCart")


def test_a_json_beacon_asks_first_and_brings_its_credentials(endpoint: Endpoint, shop: Shop, tab: Any) -> None:
    """An endpoint that answered `*` would lose the event in silence."""
    asked: list[str] = []
    session = tab.context.new_cdp_session(tab)
    session.on("Network.requestWillBeSent", lambda sent: asked.append(sent["request"]["method"]))
    session.send("Network.enable")
    tab.goto(shop.url)
    tab.evaluate(
        f"([url, body]) => {{ {SENDERS['a JSON beacon']} }}", [f"{endpoint.url}/api/track", json.dumps(tracking())]
    )
    _arrived(endpoint, "AddToCart")
    tab.evaluate("0")  # lets the last messages in
    assert asked.count("OPTIONS") == asked.count("POST") == 1


@pytest.mark.parametrize("sender", ["a JSON beacon", "a text beacon"])
@pytest.mark.parametrize("origins", [None, "lantern-and-loom.com"])
@pytest.mark.long
def test_a_sandboxed_frame_without_an_origin_is_heard(
    endpoint: Endpoint, shop: Shop, tab: Any, sender: str, origins: str | None
) -> None:
    endpoint.configure(allowed_origins=origins)
    code = f"const url = {json.dumps(f'{endpoint.url}/api/track')}, body = JSON.stringify({json.dumps(tracking())});"
    shop.pages["/frame"] = f"<script>{code} if (origin == 'null') {{ {SENDERS[sender]} }}</script>"
    shop.pages["/"] = '<iframe sandbox="allow-scripts" src="/frame"></iframe>'
    tab.goto(shop.url)
    _arrived(endpoint, "AddToCart")


# Our own script: what it sees by itself


def test_a_page_view(endpoint: Endpoint, sees: Callable[..., None], shop: Shop, tab: Any) -> None:
    tab.context.add_cookies([{"name": "cart", "value": "hWN1-abc%3Fkey%3D99", "url": shop.url}])
    bodies: list[dict[str, Any]] = []
    tab.on("request", lambda sent: bodies.append(json.loads(sent.post_data)) if "/api/track" in sent.url else None)
    sees(path="/?fbclid=IwAbC")
    payload = _one(_arrived(endpoint, "PageView"), "PageView")
    assert payload["event_source_url"] == f"{shop.url}/?fbclid=IwAbC"
    assert payload["user_data"]["fbp"] == FBP
    assert payload["user_data"]["fbc"].startswith("fb.1.")
    assert payload["user_data"]["fbc"].endswith(".IwAbC")
    (body,) = bodies
    assert payload["event_id"] == body["event_id"]
    assert set(body) == {
        "appId", "eventName", "url", "referrer", "pageTitle", "timestamp", "sentAt", "event_id", "fbp", "cartToken",
        "consent", "customData",
    }  # fmt: skip
    assert (body["appId"], body["pageTitle"], body["cartToken"]) == ("app_public", "Lamp", "hWN1-abc")


def test_shopifys_product_is_seen(endpoint: Endpoint, sees: Callable[..., None]) -> None:
    sees(before=LAMP)
    payload = _one(_arrived(endpoint, "PageView", "ViewContent"), "ViewContent")
    assert payload["custom_data"] == {
        "content_ids": ["42"],
        "content_name": "Lamp - Steel",
        "content_type": "product",
        "contents": [{"id": "42", "item_price": 24.5, "quantity": 1}],
        "currency": "EUR",
        "value": 24.5,
    }


LD = {"@type": "Product", "name": "Lamp", "sku": "L-1", "offers": {"price": "24.90", "priceCurrency": "EUR"}}
OPEN_GRAPH = (
    '<meta property="og:type" content="product"><meta property="og:title" content="Lamp">'
    '<meta property="product:price:amount" content="24.90"><meta property="product:price:currency" content="EUR">'
)


@pytest.mark.parametrize(
    "described",
    [
        f'<script type="application/ld+json">{json.dumps(LD)}</script>',
        f'<script type="application/ld+json">{json.dumps({"@graph": [{"@type": "Thing"}, LD]})}</script>',
        f'<script type="application/ld+json">broken</script>'
        f'<script type="application/ld+json">{json.dumps([LD | {"offers": [LD["offers"]]}])}</script>',
        OPEN_GRAPH,
    ],
)
@pytest.mark.long
def test_a_product_that_only_its_markup_describes_is_seen(
    endpoint: Endpoint, sees: Callable[..., None], described: str
) -> None:
    sees(described)
    seen = _one(_arrived(endpoint, "PageView", "ViewContent"), "ViewContent")["custom_data"]
    assert (seen["content_name"], seen["value"], seen["currency"]) == ("Lamp", 24.9, "EUR")
    assert seen.get("content_ids") == (None if described == OPEN_GRAPH else ["L-1"])


@pytest.mark.long
def test_pages_that_are_no_product_are_not_taken_for_one(endpoint: Endpoint, sees: Callable[..., None]) -> None:
    sees('<meta property="og:type" content="website"><script type="application/ld+json">{"@type": "WebSite"}</script>')
    _arrived(endpoint, "PageView")


def test_pages_of_a_single_page_shop_are_views(endpoint: Endpoint, sees: Callable[..., None], tab: Any) -> None:
    sees(before=LAMP)
    assert tab.evaluate("history.pushState({n: 1}, '', '/collections/light'), history.state.n") == 1
    tab.wait_for_timeout(300)
    tab.evaluate("history.pushState({}, '', '/collections/light#top')")
    tab.wait_for_timeout(300)
    tab.go_back()
    tab.wait_for_timeout(300)
    tab.go_back()
    payloads = _arrived(endpoint, "PageView", "ViewContent", "PageView", "PageView")
    paths = [payload["event_source_url"].rsplit("/", 2)[1:] for payload in payloads if "View" in payload["event_name"]]
    assert paths.count(["collections", "light"]) == 1


# Carts and checkouts

ADD = {
    "a form": "document.getElementById('add').click()",
    "a form that the theme sends by fetch": (
        "addEventListener('submit', e => { e.preventDefault(); "
        "fetch('/cart/add.js', {method: 'POST', body: new FormData(e.target)}) }, true);"
        "document.getElementById('add').click()"
    ),
    "a fetch of JSON": (
        "fetch(new URL('/cart/add.js', location), {method: 'POST', headers: {'Content-Type': 'application/json'}, "
        "body: JSON.stringify({items: [{id: 42, quantity: 2}]})})"
    ),
    "a fetch whose page is left before its answer is read": (
        "fetch('/cart/add.js?slow', {method: 'POST', body: new URLSearchParams('id=42&quantity=2')})"
        ".then(() => { location = '/cart' })"
    ),
    "a fetch of form data": "fetch('/cart/add', {method: 'POST', body: new URLSearchParams('id=42&quantity=2')})",
    "an XMLHttpRequest": (
        "const x = new XMLHttpRequest; x.open('POST', '/cart/add.js?x'); "
        "x.setRequestHeader('Content-Type', 'application/x-www-form-urlencoded'); x.send('id=42&quantity=2')"
    ),
    "an XMLHttpRequest for JSON": (
        "const x = new XMLHttpRequest; x.open('POST', '/cart/add.js'); x.responseType = 'json'; "
        "x.send(JSON.stringify({id: 42, quantity: 2}))"
    ),
}


@pytest.mark.parametrize("way", ADD)
def test_what_goes_into_the_cart(endpoint: Endpoint, shop: Shop, sees: Callable[..., None], tab: Any, way: str) -> None:
    sees(FORM, before=LAMP)
    tab.evaluate(f"() => {{ {ADD[way]} }}")
    put = _one(_arrived(endpoint, "PageView", "ViewContent", "AddToCart"), "AddToCart")["custom_data"]
    # Only an answer that can be read names the discounted price.
    price = 20.0 if way in ("a form that the theme sends by fetch", "a fetch of JSON", "an XMLHttpRequest") else 24.5
    assert put["contents"] == [{"id": "42", "item_price": price, "quantity": 2}]
    assert (put["value"], put["currency"]) == (price * 2, "EUR")
    assert len(shop.posts) == 1


@pytest.mark.long
def test_what_the_page_does_is_not_changed(endpoint: Endpoint, sees: Callable[..., None], tab: Any) -> None:
    sees()
    done = tab.evaluate("""async () => {
        const add = path => fetch(path, {method: 'POST', body: 'id=42'});
        const gone = await fetch('http://127.0.0.1:1/cart/add.js').catch(error => error.name);
        const x = new XMLHttpRequest; x.open('GET', '/cart', false); x.send();
        const added = await (await add('/cart/add.js')).json();
        return [added.id, (await add('/cart/add.js?sold-out')).status, gone, x.status]
    }""")
    assert done == [42, 422, "TypeError", 200]
    _arrived(endpoint, "PageView", "AddToCart")


@pytest.mark.parametrize(
    "way_out",
    [
        '<form action="/checkout"><button id=go>Check out</button></form>',
        '<form action="/checkout"><button id=go name=checkout><b>Check out</b></button></form>',
        '<form action="/cart" method=post><button>Update</button><button id=go name=checkout>Check out</button></form>',
        '<a id=go href="/checkout?locale=en">Check out</a>',
        "<button id=go name=checkout onclick=\"location = '/checkout'; event.stopPropagation()\">Check out</button>",
    ],
)
def test_a_checkout_is_told_once_while_the_page_is_left(
    endpoint: Endpoint, sees: Callable[..., None], tab: Any, way_out: str
) -> None:
    sees(way_out, path="/cart")
    tab.click("#go")
    tab.wait_for_url("**/checkout*")
    _arrived(endpoint, "PageView", "InitiateCheckout")


@pytest.mark.long
def test_other_links_lead_to_no_checkout(endpoint: Endpoint, sees: Callable[..., None], tab: Any) -> None:
    sees('<a id=help href="#checkout">Help</a><a name=checkout id=here>Here</a><form><button id=b>B</button></form>')
    for what in ("#help", "#here"):
        tab.click(what)
    _arrived(endpoint, "PageView")


# What the page tells


def test_a_purchase_is_named_as_its_webhook_is(endpoint: Endpoint, sees: Callable[..., None], tab: Any) -> None:
    sent = _sent(tab)
    sees(path="/")
    order = {
        "value": 44.99,
        "currency": "EUR",
        "order_id": "1001",
        "checkoutToken": "ck-31f0?key=1",
        "products": [{"id": 42}],
    }
    for details in (order, order, {**order, "checkoutToken": None, "order_id": "gid://shopify/Order/2002"}):
        tab.evaluate("details => window.capi('Purchase', details)", details)
    tab.reload()
    tab.evaluate("details => window.capi('Purchase', details)", order)
    payloads = _arrived(endpoint, "PageView", "Purchase", "Purchase", "PageView")
    assert len(sent) == 4
    bought = {
        payload["event_id"]: payload["custom_data"] for payload in payloads if payload["event_name"] == "Purchase"
    }
    assert set(bought) == {"purchase.ck-31f0", "purchase.o2002"}
    assert bought["purchase.ck-31f0"]["value"] == 44.99
    assert bought["purchase.ck-31f0"]["content_ids"] == ["42"]
    webhook = endpoint.webhook("orders/create", order_webhook(checkout_token="ck-31f0"))
    assert webhook.json()["dropped"] == [{"i": 0, "reason": "duplicate"}]


def test_any_event_under_an_id_of_the_page(endpoint: Endpoint, sees: Callable[..., None], tab: Any) -> None:
    sees(path="/")
    tab.evaluate("capi('InitiateCheckout', {checkoutToken: 'ck-9', value: 10, currency: 'EUR'})")
    tab.evaluate("capi('Lead', {}, {eventID: 'lead-1'}), capi('Contact', {}, {eventID: 'not an id'})")
    payloads = _arrived(endpoint, "PageView", "InitiateCheckout", "Lead", "Contact")
    assert _one(payloads, "InitiateCheckout")["event_id"] == "checkout.ck-9"
    assert _one(payloads, "Lead")["event_id"] == "lead-1"
    assert len(_one(payloads, "Contact")["event_id"]) == 36


@pytest.mark.long
def test_shopifys_thank_you_page(endpoint: Endpoint, sees: Callable[..., None], tab: Any) -> None:
    line = {"product_id": 7, "variant_id": 42, "quantity": 2, "price": "22.50", "properties": {"engraving": "Ann"}}
    checkout = {"order_id": 5001, "token": "ck-7", "total_price": "44.99", "currency": "EUR", "line_items": [line]}
    sees(before=f"<script>var Shopify = {{checkout: {json.dumps(checkout)}}}</script>")
    tab.reload()
    payload = _one(_arrived(endpoint, "PageView", "Purchase", "PageView"), "Purchase")
    assert payload["event_id"] == "purchase.ck-7"
    assert payload["custom_data"] == {
        "content_ids": ["42"],
        "content_type": "product",
        "contents": [{"id": "42", "item_price": 22.5, "quantity": 2}],
        "currency": "EUR",
        "order_id": "5001",
        "value": 44.99,
    }
    assert {event.order_id for event in endpoint.events()} == {None, "5001"}


def test_calls_from_before_the_script_are_played(endpoint: Endpoint, sees: Callable[..., None]) -> None:
    stub = "window.capi = window.capi || function () { (capi.q = capi.q || []).push(arguments) };"
    sees(before=f"<script>{stub} capi('Lead', {{}}, {{eventID: 'early'}})</script>")
    assert _one(_arrived(endpoint, "Lead", "PageView"), "Lead")["event_id"] == "early"


def test_personal_data_is_hashed_and_not_given_to_metas_pixel(
    endpoint: Endpoint, sees: Callable[..., None], tab: Any
) -> None:
    sees(before=FBQ, attributes='data-fbq="true"')
    tab.evaluate("capi('Lead', {userData: {email: 'ann@example.com'}})")
    lead = _one(_arrived(endpoint, "PageView", "Lead"), "Lead")
    assert sha("ann@example.com") in lead["user_data"]["em"]
    assert "ann@" not in json.dumps(tab.evaluate("calls"))


def test_metas_own_pixel_hears_the_same_ids(endpoint: Endpoint, sees: Callable[..., None], tab: Any) -> None:
    sees(FORM, before=LAMP + FBQ, attributes='data-fbq="true"')
    tab.evaluate(f"() => {{ {ADD['a fetch of JSON']} }}")
    tab.evaluate("capi('Purchase', {value: 5, currency: 'EUR', order_id: 9})")
    payloads = _arrived(endpoint, "PageView", "ViewContent", "AddToCart", "Purchase")
    calls = tab.evaluate("calls")
    assert {call[0] for call in calls} == {"track"}
    heard = sorted((name, options["eventID"]) for _, name, _, options in calls)
    assert heard == sorted((payload["event_name"], payload["event_id"]) for payload in payloads)
    assert calls[0][1] == "PageView"


@pytest.mark.long
def test_metas_own_pixel_is_left_alone_unless_asked_for(
    endpoint: Endpoint, sees: Callable[..., None], tab: Any
) -> None:
    sees(before=LAMP + FBQ)
    _arrived(endpoint, "PageView", "ViewContent")
    assert tab.evaluate("calls") == []


# Consent


def _kept(tab: Any) -> tuple[int, int]:
    cookies = [cookie for cookie in tab.context.cookies() if cookie["name"] != "_fbp"]
    return tab.evaluate("localStorage.length + sessionStorage.length"), len(cookies)


def test_a_denial_told_by_the_page_sends_and_keeps_nothing(
    endpoint: Endpoint, sees: Callable[..., None], tab: Any
) -> None:
    sent = _sent(tab)
    stub = "window.capi = function () { (capi.q = capi.q || []).push(arguments) }; capi('consent', {marketing: false});"
    sees(FORM, before=f"{LAMP}{FBQ}<script>{stub}</script>", attributes='data-fbq="true"')
    tab.evaluate("capi('Purchase', {value: 5, currency: 'EUR', order_id: 9})")
    tab.evaluate(f"() => {{ {ADD['a fetch of JSON']} }}")
    _arrived(endpoint)
    assert (sent, tab.evaluate("calls"), _kept(tab)) == ([], [], (0, 0))
    tab.evaluate("capi('consent', {marketing: true, saleOfData: false}); capi('Lead')")
    payload = _one(_arrived(endpoint, "Lead"), "Lead")
    assert payload["data_processing_options"] == ["LDU"]


def test_a_denial_in_shopifys_banner_sends_and_keeps_nothing(
    endpoint: Endpoint, sees: Callable[..., None], tab: Any
) -> None:
    sent = _sent(tab)
    sees(before=PRIVACY)
    tab.evaluate("capi('Purchase', {value: 5, currency: 'EUR', order_id: 9})")
    tab.evaluate("choose('no')")
    tab.evaluate("capi('Lead')")
    _arrived(endpoint)
    assert (sent, _kept(tab)) == ([], (0, 0))
    tab.evaluate("choose('yes')")  # what was done before the change of mind stays unsaid
    _arrived(endpoint)


def test_what_waits_for_a_choice_is_sent_after_it(endpoint: Endpoint, sees: Callable[..., None], tab: Any) -> None:
    sent = _sent(tab)
    sees(before=PRIVACY)
    tab.evaluate("capi('Purchase', {value: 5, currency: 'EUR', order_id: 9})")
    tab.evaluate("for (let i = 0; i < 50; i++) capi('Lead')")
    _arrived(endpoint)
    assert (sent, _kept(tab)) == ([], (0, 0))
    tab.evaluate("choose('yes')")
    payloads = _arrived(endpoint, "PageView", "Purchase", *["Lead"] * 18)
    assert not any("data_processing_options" in payload for payload in payloads)


@pytest.mark.long
def test_shopifys_consent_api_is_loaded_first(endpoint: Endpoint, sees: Callable[..., None], tab: Any) -> None:
    sees(
        before="<script>var Shopify = {loadFeatures: (wanted, done) => Object.assign(window, {wanted, done})}</script>"
    )
    _arrived(endpoint)
    assert tab.evaluate("wanted") == [{"name": "consent-tracking-api", "version": "0.1"}]
    tab.evaluate("Shopify.customerPrivacy = {marketingAllowed: () => true, saleOfDataAllowed: () => false}; done()")
    assert _one(_arrived(endpoint, "PageView"), "PageView")["data_processing_options"] == ["LDU"]


# Hostile pages


@pytest.mark.long
def test_a_page_without_cookies_and_storage_is_counted(endpoint: Endpoint, shop: Shop, tab: Any) -> None:
    """In a sandboxed frame the very look at document.cookie and localStorage throws."""
    script = f'<script src="{endpoint.url}/pixel.js?id=app_public"></script>'
    order = "capi('Purchase', {value: 5, currency: 'EUR', order_id: 9})"
    shop.pages["/frame"] = f"{script}<script>{order}</script>"
    shop.pages["/"] = '<iframe sandbox="allow-scripts" src="/frame"></iframe>'
    tab.goto(shop.url)
    _until(lambda: len(endpoint.events()) == 2)
    assert {event.event_name for event in endpoint.events()} == {"PageView", "Purchase"}


@pytest.mark.long
def test_a_page_that_isolates_itself_loads_the_script(
    endpoint: Endpoint, shop: Shop, sees: Callable[..., None], tab: Any
) -> None:
    shop.headers = {"Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Opener-Policy": "same-origin"}
    sees()
    assert tab.evaluate("crossOriginIsolated")
    _arrived(endpoint, "PageView")


@pytest.mark.long
def test_twice_on_a_page_is_once(endpoint: Endpoint, sees: Callable[..., None]) -> None:
    sees(f'<script src="{endpoint.url}/pixel.js?id=app_public"></script>')
    _arrived(endpoint, "PageView")


@pytest.mark.long
def test_a_script_that_is_added_later_works_and_leaves_one_name(endpoint: Endpoint, shop: Shop, tab: Any) -> None:
    tab.goto(shop.url)
    before = set(tab.evaluate("Object.keys(window)"))
    tab.add_script_tag(url=f"{endpoint.url}/pixel.js?id=app_public")
    _arrived(endpoint, "PageView")
    assert set(tab.evaluate("Object.keys(window)")) - before == {"capi"}


@pytest.mark.long
def test_without_beacons_it_fetches(endpoint: Endpoint, sees: Callable[..., None]) -> None:
    sees(before="<script>navigator.sendBeacon = () => false</script>")
    _arrived(endpoint, "PageView")


@pytest.mark.long
def test_an_endpoint_that_is_away_is_no_matter(endpoint: Endpoint, sees: Callable[..., None], tab: Any) -> None:
    tab.route("**/api/track", lambda route: route.abort())
    sees(before="<script>navigator.sendBeacon = undefined</script>")
    tab.evaluate("capi('Lead'), capi(), capi(null, null, null), capi({}), capi('Purchase', 7, 7)")
    _arrived(endpoint)


def _until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 8
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
