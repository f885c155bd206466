"""From the storefront to Meta with a real endpoint and real workers, one of which is killed."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from core.sandbox.shop import Shop
from core.secret import Secret
from tests.processes import environment, eventually, free_port, running
from tests.world import World

SECRET = "shopify-secret-for-trials"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36"


@pytest.fixture
def env(world: World, database_url: str) -> dict[str, str]:
    more = {"SHOPIFY_API_SECRET": SECRET, "CAPI_ENDPOINT_PORT": str(free_port())}
    return environment(database_url, world.meta.url, **more)


def _is_up(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=2).ok
    except requests.ConnectionError:
        return False


def test_a_thousand_tracking_calls_and_a_killed_worker(world: World, env: dict[str, str], tmp_path: Path) -> None:
    shops = [world.an_app(world.meta.create_token()) for _ in range(5)]
    url = f"http://127.0.0.1:{env['CAPI_ENDPOINT_PORT']}"
    sent = [f"call-{n}" for n in range(1000)]

    def call(n: int) -> int:
        shop = shops[n % len(shops)]
        body = {
            "appId": shop.public_id,
            "eventName": "pageview",
            "url": f"https://{shop.shop_domain}/products/tea?n={n}",
            "event_id": sent[n],
            "visitorId": f"visitor-{n}",
        }
        answer = requests.post(f"{url}/api/track", json=body, headers={"User-Agent": BROWSER}, timeout=20)
        return answer.status_code

    with (
        running("endpoint", env=env, log=tmp_path / "endpoint.log") as endpoint,
        running("worker", env=env, log=tmp_path / "one.log") as first,
    ):
        eventually(lambda: _is_up(url), saying=endpoint.log.read_text)
        world.meta.fault("events", "latency", seconds=0.2)
        with ThreadPoolExecutor(8) as pool:
            half = list(pool.map(call, range(500)))
            eventually(lambda: world.meta.count("events") > 2, saying=first.log.read_text)
            first.kill()
            half += list(pool.map(call, range(500, 1000)))
        assert {status // 100 for status in half} == {2}
        world.meta.clear_faults()
        with running("worker", env=env, log=tmp_path / "two.log") as second:
            eventually(lambda: world.states() == {"delivered": 1000}, within=60, saying=second.log.read_text)
            assert second.stop() == 0
        assert endpoint.stop() == 0
    accepted = Counter(event["event_id"] for event in world.meta.events())
    assert set(accepted) == set(sent)


def test_webhooks_and_calls_arrive_with_metas_names(world: World, env: dict[str, str], tmp_path: Path) -> None:
    app = world.an_app(world.meta.create_token())
    url = f"http://127.0.0.1:{env['CAPI_ENDPOINT_PORT']}"
    shop = Shop(url, Secret(SECRET))
    domain = app.shop_domain or ""
    with (
        running("endpoint", env=env, log=tmp_path / "endpoint.log") as endpoint,
        running("worker", env=env, log=tmp_path / "worker.log") as worker,
    ):
        eventually(lambda: _is_up(url), saying=endpoint.log.read_text)
        replies = [
            shop.track(app.public_id, "addToCart", shop_domain=domain, value=12.5, currency="EUR"),
            shop.order(domain),
            shop.checkout(domain),
            shop.cart(domain),
        ]
        assert [reply.status // 100 for reply in replies] == [2, 2, 2, 2]
        assert shop.again(replies[1]).status == 200, "the same order once more"
        forged = shop.deliver("orders/create", domain, replies[1].body, signature="AAAA")
        assert forged.status == 401
        eventually(lambda: len(world.meta.events()) == 2, saying=worker.log.read_text)
        tokens = {"checkoutToken": replies[2].sent["token"], "cartToken": replies[3].sent["token"]}
        shop.track(app.public_id, "pageview", shop_domain=domain, **tokens)
        eventually(lambda: len(world.meta.events()) == 5, saying=worker.log.read_text)
        eventually(lambda: world.states() == {"delivered": 5})
    assert Counter(event["event_name"] for event in world.meta.events()) == {
        "AddToCart": 2,
        "Purchase": 1,
        "InitiateCheckout": 1,
        "PageView": 1,
    }
