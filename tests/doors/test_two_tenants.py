"""Two merchants at one endpoint: whatever the one sends, the other's rows stay as they are and no answer tells of them.

A merchant holds the storefront script with their own public id, their own pages, and the reconnect link that was sent
to them. API keys and Shopify's secret are the platform's: a merchant has none, or one that is not good here.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import requests
from prometheus_client import generate_latest
from sqlalchemy import Engine, select
from starlette.routing import Route

from core.clock import now as real_now
from core.desk import snapshot
from core.doors.counting import CountingApp, CountingIntake
from core.doors.endpoint import create_app
from core.doors.endpoint_reconnect import CALLBACK, PAGE
from core.doors.metrics import EndpointMetrics, WorkerMetrics
from core.doors.timetable import TASKS
from core.inbound.shopify import DUTIES, ROUTES
from core.inbound.visitors import join_waiting
from core.sandbox.client import Sandbox
from core.secret import Secret
from core.services import bulk
from core.services.links import Link, Links
from core.services.reconnect import Reconnect
from core.settings import Settings
from core.store import api_keys, apps, jobs, snapshots
from core.store.apps import App
from core.store.database import reading, writing
from core.store.platform_tables import platform
from core.store.schema import capi_api_key, capi_event, capi_job, capi_outbox, capi_receipt, ours
from tests.inbound.bodies import BROWSER, SECRET, cart, headers, order, raw, tracking
from tests.inbound.serving import serving
from tests.processes import free_port
from tests.reconnecting import Browser, Road, Time
from tests.world import APP_ID, APP_SECRET, DAY, World

GUESSED = "shpss_a_merchant_made_this_up"
FBP = "fb.1.1760000000000.7"
CUSTOMER = {"id": 77, "email": "Ana.Conti@Example.com", "phone": None}
# What every table may hold of the other. A call that was refused under their public id leaves them a receipt: their
# page shows who tries, ten lines a minute at most.
TABLES = [table for table in (*ours.sorted_tables, *platform.sorted_tables) if table is not capi_receipt]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Names:
    """What a request may name: something of the other merchant's, or what nobody has."""

    public_id: str
    shop: str
    user: str
    email: str
    case_id: int

    def taken_out_of(self, text: str) -> str:
        return re.sub("|".join(map(re.escape, (self.public_id, self.shop, self.user, self.email))), "NAME", text)


NOBODY = Names("app_0000000000000000", "nobody.myshopify.com", "f" * 32, "nobody@nowhere.example", 10**6)


@dataclass
class Tenants:
    """`mine` sends, `theirs` is looked at."""

    road: Road
    mine: App
    theirs: App
    asgi: Any
    counted: EndpointMetrics
    keys: dict[str, str]

    @property
    def names(self) -> Names:
        app = self.theirs
        return Names(app.public_id, str(app.shop_domain), app.user_id, app.email, self.road.case(app).id)

    def track(self, public_id: str, *, page: str = "https://mine.example", **fields: Any) -> requests.Response:
        sent = {"User-Agent": BROWSER, "Origin": page}
        body = tracking(appId=public_id, url=f"{page}/products/lamp", **fields)
        return requests.post(f"{self.road.url}/api/track", json=body, headers=sent, timeout=10)

    def webhook(self, topic: str, body: Any, *, shop: str, secret: str = SECRET, route: str = "") -> requests.Response:
        url, data = f"{self.road.url}/webhooks/{route or topic}", raw(body)
        return requests.post(url, data=data, headers=headers(data, topic, shop=shop, secret=secret), timeout=10)

    def refresh(self, user: str, **sent: str) -> requests.Response:
        body = {"intent": "refresh-facebook-token", "userId": user}
        return requests.post(f"{self.road.url}/api/refresh", json=body, headers=sent, timeout=20)

    def forged(self, case_id: int) -> str:
        """A link to this case by somebody who knows all but our secret."""
        link = Link(case_id, real_now() + DAY, str(self.road.case(self.mine).nonce))
        return Links(Secret(GUESSED)).write(link)

    def rows_of(self, app: App) -> dict[str, list[str]]:
        """Every row, in any table, in which this merchant stands by one of their names."""
        marks = self.marks(app)
        found: dict[str, list[str]] = {}
        with reading(self.road.world.engine) as conn:
            for table in TABLES:
                rows = [repr(tuple(row)) for row in conn.execute(select(table))]
                found[table.name] = sorted(row for row in rows if any(mark in row for mark in marks))
        return found

    def marks(self, app: App) -> tuple[str, ...]:
        named = (app.id, app.public_id, app.name, app.user_id, app.email, app.shop_domain, app.pixel_id)
        return tuple(str(one) for one in (*named, app.fingerprint))

    def events_of(self, app: App) -> list[Any]:
        with reading(self.road.world.engine) as conn:
            mine = select(capi_event).where(capi_event.c.app_id == app.id)
            return list(conn.execute(mine.order_by(capi_event.c.id)))


@pytest.fixture
def tenants(engine: Engine, meta: Sandbox) -> Iterator[Tenants]:
    """Both merchants' tokens have died, both have a case, a link and an event that waits."""
    port = free_port()
    settings = Settings(
        FACEBOOK_APP_ID=APP_ID,
        FACEBOOK_APP_SECRET=Secret(APP_SECRET),
        SHOPIFY_API_SECRET=(Secret(SECRET),),
        CAPI_GRAPH_URL=meta.url,
        CAPI_DIALOG_URL=meta.url,
        CAPI_ENDPOINT_PORT=port,
        CAPI_TRUSTED_PROXIES="127.0.0.1",
    )
    world, time, counted = World(engine, meta), Time(), EndpointMetrics()
    service = world.service("endpoint")
    reconnect = Reconnect(service, settings)
    asgi = create_app(
        engine,
        settings,
        reconnect=reconnect,
        refresh_user=lambda user: len(service.refresh_all_user_tokens(user)),
        intake=CountingIntake(engine, counted, clock=real_now),
    )
    paths = frozenset(route.path for route in asgi.routes if isinstance(route, Route) and "{" not in route.path)
    with serving(CountingApp(asgi, counted, paths), port=port) as url:  # type: ignore[arg-type]
        road = Road(world, url, settings, reconnect, time)
        mine, theirs = (_merchant(road, name) for name in ("mine", "theirs"))
        yield Tenants(road, mine, theirs, asgi, counted, _keys(engine))


def _merchant(road: Road, name: str) -> App:
    token = road.meta.create_token(user={"mine": "7001", "theirs": "7002"}[name])
    with writing(road.world.engine) as conn:
        pixel = {"mine": "600100", "theirs": "600200"}[name]
        names = {"name": f"The shop called {name}", "email": f"owner@{name}.example"}
        app = apps.add(conn, **names, shop_domain=f"{name}.myshopify.com", pixel_id=pixel)
        apps.configure(conn, app.id, allowed_origins=f"{name}.example")
    with writing(road.world.engine) as conn:
        apps.write_token(conn, app.id, token, expires_at=real_now() + 50 * DAY)
        app = apps.get(conn, app.id)
    road.lose(app, token)
    road.link(app)
    return app


def _keys(engine: Engine) -> dict[str, str]:
    """The platform's key, one that was revoked, and one whose scope is another."""
    with writing(engine) as conn:
        made = {title: api_keys.add(conn, title=title, scope="refresh", now=real_now()) for title in ("good", "old")}
        made["narrow"] = api_keys.add(conn, title="narrow", scope="refresh", now=real_now())
        api_keys.revoke(conn, "old", now=real_now())
        k = capi_api_key.c
        conn.execute(capi_api_key.update().where(k.title == "narrow").values(scope="read"))
    return made


@dataclass(frozen=True, slots=True)
class Try:
    """A request of `mine` that names what it is given. It is answered as if nobody had that name, or says why not."""

    send: Callable[[Tenants, Names], requests.Response]
    status: int
    differs: str = ""


def _asked(method: str, path: str) -> Callable[[Tenants, Names], requests.Response]:
    """`{}` in the path is what is named: a public id, or a link to a case."""

    def send(at: Tenants, named: Names) -> requests.Response:
        what = at.forged(named.case_id) if path.startswith("/reconnect") else named.public_id
        return requests.request(method, at.road.url + path.format(what), allow_redirects=False, timeout=10)

    return send


def _told_as_image(at: Tenants, named: Names) -> requests.Response:
    body = base64.urlsafe_b64encode(json.dumps(tracking(appId=named.public_id)).encode()).decode()
    sent = {"User-Agent": BROWSER, "Origin": "https://mine.example"}
    return requests.get(f"{at.road.url}/api/track", params={"d": body}, headers=sent, timeout=10)


def _guessed(topic: str) -> Try:
    """Signed with what a merchant may hold."""
    body = shopifys_word(topic)
    return Try(
        lambda at, named: at.webhook(topic, body(named.shop, named), shop=named.shop, secret=GUESSED),
        401,
    )


def _sent_again(topic: str) -> Try:
    """What Shopify has signed for `mine`, under the other's name: headers are not signed."""
    body = shopifys_word(topic)
    return Try(
        lambda at, named: at.webhook(topic, body(str(at.mine.shop_domain), named), shop=named.shop),
        200,
        differs="shop_mismatch, where nobody is unknown_shop: only who holds a body that Shopify signed hears it",
    )


def shopifys_word(topic: str) -> Callable[[str, Names], Json]:
    """The body of a topic for a shop, naming the other's customer."""
    asked = {"shop_id": 1, "orders_requested": [280263], "data_request": {"id": 9}}
    bodies: dict[str, Callable[[str, Names], Json]] = {
        "app/uninstalled": lambda shop, _: {"id": 1, "name": "x", "plan_name": "y", "myshopify_domain": shop},
        "customers/data_request": lambda shop, _: {**asked, "shop_domain": shop, "customer": CUSTOMER},
        "customers/redact": lambda shop, named: {
            "shop_id": 1,
            "shop_domain": shop,
            "customer": {**CUSTOMER, "email": named.email},
            "orders_to_redact": [280263],
        },
        "shop/redact": lambda shop, _: {"shop_id": 1, "shop_domain": shop},
    }
    return bodies.get(topic, lambda *_: cart() if topic.startswith("carts") else order())


def _with_key(key: Callable[[Tenants], str]) -> Try:
    return Try(lambda at, named: at.refresh(named.user, Authorization=f"Bearer {key(at)}"), 401)


# (route, method) → what `mine` tries there. Every route stands here; the reconnect pages, whose state, cookie and nonce
# have tests of their own in tests/doors/test_reconnect.py, are tried with links that a merchant can make.
TRIES: dict[tuple[str, str], tuple[Try, ...]] = {
    ("/api/track", "POST"): (
        Try(
            lambda at, named: at.track(named.public_id),
            403,
            differs="the public id stands in the shop's own pages, so that it is there is no secret; nobody's is a 404",
        ),
    ),
    ("/api/track", "GET"): (Try(_told_as_image, 200),),
    ("/api/track", "OPTIONS"): (Try(_asked("OPTIONS", "/api/track?id={}"), 204),),
    ("/pixel.js", "GET"): (Try(_asked("GET", "/pixel.js?id={}"), 200),),
    ("/api/refresh", "POST"): (
        Try(lambda at, named: at.refresh(named.user), 401),
        Try(lambda at, named: at.refresh(named.email), 401),
        _with_key(lambda at: at.mine.public_id),
        _with_key(lambda at: at.road.link(at.mine).rsplit("/", 1)[1]),
        _with_key(lambda at: at.keys["old"]),
        _with_key(lambda at: at.keys["narrow"]),
    ),
    (PAGE, "GET"): (Try(_asked("GET", "/reconnect/{}"), 404),),
    (PAGE, "POST"): (Try(_asked("POST", "/reconnect/{}"), 404),),
    (CALLBACK, "GET"): (
        Try(
            lambda at, named: Browser().get(
                at.road.url + CALLBACK, params={"code": "c", "state": at.forged(named.case_id)}, timeout=10
            ),
            400,
        ),
    ),
    **{(f"/webhooks/{topic}", "POST"): (_guessed(topic),) for topic in ROUTES},
    **{(f"/webhooks/{topic}", "POST"): (_guessed(topic), _sent_again(topic)) for topic in DUTIES},
    ("/openapi.json", "GET"): (Try(_asked("GET", "/openapi.json?id={}"), 200),),
    ("/healthz", "GET"): (Try(_asked("GET", "/healthz?id={}"), 200),),
    ("/readyz", "GET"): (Try(_asked("GET", "/readyz?id={}"), 200),),
}


def test_every_route_is_tried(tenants: Tenants) -> None:
    routes = {
        (route.path, method)
        for route in tenants.asgi.routes
        if isinstance(route, Route)
        for method in (route.methods or ())
        if method != "HEAD"
    }
    assert routes == set(TRIES)


def test_what_names_anothers_is_answered_as_if_it_were_nobodys_and_changes_nothing(tenants: Tenants) -> None:
    before, answers = tenants.rows_of(tenants.theirs), []
    assert all(before[name] for name in ("App", "AppSettings", "capi_app", "capi_event", "capi_token", "capi_case"))
    for (path, method), tries in TRIES.items():
        for number, one in enumerate(tries):
            said = one.send(tenants, tenants.names)
            answers.append(said)
            assert said.status_code == one.status, (path, method, number, said.text)
            same = _seen(said, tenants.names) == _seen(one.send(tenants, NOBODY), NOBODY)
            assert same is not bool(one.differs), (path, method, number, said.text)
            assert tenants.rows_of(tenants.theirs) == before, (path, method, number)
    _tell_nothing(tenants, answers)
    assert (tenants.road.meta.count("code"), tenants.road.meta.count("dialog")) == (0, 0)


def _seen(said: requests.Response, named: Names) -> tuple[int, dict[str, str], str]:
    """All that an answer tells, with what was named taken out of it."""
    told = {
        name.lower(): value for name, value in said.headers.items() if name.lower() not in ("date", "content-length")
    }
    return said.status_code, told, named.taken_out_of(said.text)


def _tell_nothing(tenants: Tenants, answers: list[requests.Response]) -> None:
    """Neither answers nor metrics name the other, but for what the request itself had named."""
    app, named = tenants.theirs, tenants.names
    for said in answers:
        shown = named.taken_out_of(said.text + repr(said.headers))
        assert not any(mark in shown for mark in tenants.marks(app)), said.url
    engine, now = tenants.road.world.engine, real_now()
    with writing(engine) as conn:
        ahead = {"soon": 7 * DAY, "window": 30 * DAY}
        snapshots.put(conn, snapshot.figures(conn, now=now, **ahead, tasks=[task.name for task in TASKS]), now=now)
    for counted in (tenants.counted, WorkerMetrics(engine)):
        shown = generate_latest(counted.registry).decode()
        assert "capi_" in shown
        assert not any(mark in shown for mark in (*tenants.marks(app), *tenants.marks(tenants.mine)))


# What is good, and is sent by or for the one: nothing of it reaches the other.


def test_equal_names_of_orders_carts_and_events_join_nothing_across_shops(tenants: Tenants) -> None:
    """The one's visitor filled a cart that is called as one of the other's, and says that they bought its order."""
    bought, shop = order(id=280263), str(tenants.theirs.shop_domain)
    said = {"cartToken": "ct-9", "checkoutToken": bought["checkout_token"], "order_id": "280263", "fbp": FBP}
    first = tenants.track(tenants.mine.public_id, eventName="purchase", event_id="e-1", **said)
    assert first.json()["dropped"] == []
    before, count = tenants.rows_of(tenants.mine), len(tenants.events_of(tenants.theirs))
    assert tenants.webhook("orders/create", bought, shop=shop).json()["accepted"] == 1
    assert tenants.webhook("carts/create", cart(token="ct-9"), shop=shop).json()["accepted"] == 1
    page = "https://theirs.example"
    again = tenants.track(tenants.theirs.public_id, page=page, eventName="purchase", event_id="e-1")
    assert (again.status_code, again.json()["dropped"]) == (200, [])
    join_waiting(tenants.road.world.engine, now=real_now() + timedelta(hours=1))
    states = {event.source: event.state for event in tenants.events_of(tenants.theirs)[count:]}
    assert states == {"orders/create": "due", "carts/create": "skipped", "track": "due"}
    assert FBP.encode() not in b"".join(_payloads(tenants, tenants.theirs))
    assert FBP.encode() in b"".join(_payloads(tenants, tenants.mine))
    assert tenants.rows_of(tenants.mine) == before


def _payloads(tenants: Tenants, app: App) -> list[bytes]:
    with reading(tenants.road.world.engine) as conn:
        held = select(capi_outbox.c.payload).where(capi_outbox.c.app_id == app.id)
        return [bytes(payload) for payload in conn.scalars(held)]


@pytest.mark.parametrize("topic", sorted(DUTIES))
def test_what_one_shop_wants_stopped_or_forgotten_stays_with_the_other(tenants: Tenants, topic: str) -> None:
    """The same person has bought in both shops, an order of the same number."""
    for app in (tenants.mine, tenants.theirs):
        tenants.webhook("orders/create", order(id=280263, email=CUSTOMER["email"]), shop=str(app.shop_domain))
    before, own = tenants.rows_of(tenants.theirs), tenants.rows_of(tenants.mine)
    shop = str(tenants.mine.shop_domain)
    body = shopifys_word(topic)(shop, Names("", "", "", str(CUSTOMER["email"]), 0))
    assert tenants.webhook(topic, body, shop=shop).json()["accepted"] == 1
    engine = tenants.road.world.engine
    with reading(engine) as conn:
        ordered = list(conn.scalars(select(capi_job.c.id)))
    for job in ordered:
        bulk.run(tenants.road.world.service(), job, threads=1)
        with reading(engine) as conn:
            assert jobs.progress(conn, job).state == "done"  # type: ignore[union-attr]
    assert tenants.rows_of(tenants.theirs) == before
    assert tenants.rows_of(tenants.mine) != own


def test_the_platforms_refresh_of_one_user_calls_meta_for_nobody_else(tenants: Tenants) -> None:
    engine, meta = tenants.road.world.engine, tenants.road.meta
    tokens = {}
    for app in (tenants.mine, tenants.theirs):
        tokens[app.id] = meta.create_token(expires_in=5 * 86_400)
        with writing(engine) as conn:
            apps.write_token(conn, app.id, tokens[app.id], expires_at=real_now() + 5 * DAY)
    before = tenants.rows_of(tenants.theirs)
    said = tenants.refresh(tenants.mine.user_id, Authorization=f"Bearer {tenants.keys['good']}")
    assert (said.status_code, said.json()["message"]) == (200, "Successfully refreshed 1 token(s)")
    assert tenants.rows_of(tenants.theirs) == before
    assert tenants.road.world.app(tenants.mine).token != tokens[tenants.mine.id]
    assert {call["fingerprint"] for call in meta.calls("exchange")[-1:]} == {tokens[tenants.mine.id].fingerprint}


def test_one_merchants_login_mends_their_own_token_alone(tenants: Tenants) -> None:
    """That state, cookie and Meta user of one login are good for no other case: tests/doors/test_reconnect.py."""
    before, meta = tenants.rows_of(tenants.theirs), tenants.road.meta
    meta.login(user="7001", at_once=True)
    browser, link = Browser(), tenants.road.link(tenants.mine)
    pages = [browser.get(link, timeout=20), browser.walk(link), browser.get(link, timeout=20)]
    assert "Thank you" in pages[-1].text
    assert tenants.road.world.app(tenants.mine).token != tenants.mine.token
    assert tenants.rows_of(tenants.theirs) == before
    _tell_nothing(tenants, pages)


def test_pages_of_one_shop_use_up_nothing_of_what_the_other_may_send(sqlite_engine: Engine) -> None:
    settings = Settings(CAPI_RATE_APP=1)
    with writing(sqlite_engine) as conn:
        theirs = apps.add(conn, name="t", email="t@theirs.example", shop_domain="t.myshopify.com", pixel_id="600200")
        apps.configure(conn, theirs.id, allowed_origins="theirs.example")
    with serving(create_app(sqlite_engine, settings)) as url:

        def track(page: str) -> int:
            sent = {"User-Agent": BROWSER, "Origin": page}
            body = tracking(appId=theirs.public_id)
            return requests.post(f"{url}/api/track", json=body, headers=sent, timeout=10).status_code

        assert [track("https://mine.example") for _ in range(12)] == [403] * 12
        assert track("https://theirs.example") == 200
