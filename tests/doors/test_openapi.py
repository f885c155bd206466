"""The endpoint's document is true: every route stands in it, and bodies made at random are answered as it says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection
from starlette.routing import Route

from core.clock import now
from core.doors import openapi
from core.doors.endpoint_reconnect import CALLBACK, PAGE
from core.inbound.shopify import ROUTES
from core.meta.events import check
from core.store import api_keys, database, migrate
from core.store.database import writing
from tests.inbound.bodies import BROWSER, SECRET, SHOP
from tests.inbound.serving import Endpoint, an_endpoint

SCOPE = "refresh"
OPERATIONS = [(path, method) for path, methods in openapi.document(ROUTES)["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    engine = database.open_engine(f"sqlite:///{tmp_path_factory.mktemp('fuzz') / 'capi.db'}")
    migrate.prepare(engine)
    with an_endpoint(engine, refresh_user=lambda _user: 3) as running:
        yield running
    engine.dispose()


@pytest.fixture(scope="module")
def key(endpoint: Endpoint) -> str:
    with writing(endpoint.engine) as conn:
        return api_keys.add(conn, title="fuzz", scope=SCOPE, now=now())


@pytest.fixture(scope="module")
def document(endpoint: Endpoint) -> dict[str, Any]:
    return dict(requests.get(f"{endpoint.url}/openapi.json", timeout=10).json())


@pytest.fixture(scope="module")
def schema(endpoint: Endpoint) -> Any:
    return schemathesis.openapi.from_url(f"{endpoint.url}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_whatever_comes_is_answered_as_the_document_says(
    endpoint: Endpoint, key: str, schema: Any, path: str, method: str, mode: GenerationMode
) -> None:
    operation = schema[path][method.upper()]
    session = requests.Session()
    headers = {"User-Agent": BROWSER} | ({"Authorization": f"Bearer {key}"} if path == "/api/refresh" else {})

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: Any) -> None:
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict) and "appId" in case.body:
            case.body["appId"] = "app_public"  # no app is called by chance
        case.call_and_validate(headers=headers, session=session)
        if path.startswith("/webhooks/"):
            # Whatever a genuine delivery lacks is answered with 200: Shopify deletes what is refused too often.
            case.call_and_validate(
                headers=headers | _signed(case), session=session, excluded_checks=[negative_data_rejection]
            )

    try:
        holds()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "there is always something right to send"


def _signed(case: Any) -> dict[str, str]:
    prepared = requests.Request(**case.as_transport_kwargs()).prepare()
    body = prepared.body or b""
    raw = body.encode() if isinstance(body, str) else bytes(body)
    digest = hmac.digest(SECRET.encode(), raw, hashlib.sha256)
    topic = case.path.removeprefix("/webhooks/")
    return {
        "X-Shopify-Hmac-Sha256": base64.b64encode(digest).decode(),
        "X-Shopify-Shop-Domain": SHOP,
        "X-Shopify-Topic": topic if "/" in topic else "orders/create",
    }


# A merchant's browser opens these; no program does.
PAGES = {PAGE, CALLBACK}


def test_every_route_stands_in_the_document_and_the_reverse(endpoint: Endpoint, document: dict[str, Any]) -> None:
    routes = {
        (route.path, method.lower())
        for route in endpoint.asgi.routes
        if isinstance(route, Route) and route.path not in PAGES
        for method in (route.methods or ())
        if method != "HEAD"
    }
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == routes


def test_every_event_that_was_taken_by_chance_is_one_meta_would_take(endpoint: Endpoint) -> None:
    for payload in endpoint.payloads():
        event = json.loads(payload)
        assert check(event, now=now()) in (None, "no_match_keys", "no_user_agent"), event
