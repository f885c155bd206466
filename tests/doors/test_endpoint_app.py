from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from sqlalchemy import Engine

from core.doors import endpoint_http
from core.doors.endpoint import create_app, listen, run
from core.errors import NotFound, Refused, SettingsError
from core.settings import Settings
from core.store import api_keys, database
from core.store.database import writing
from tests.inbound.serving import Endpoint, an_endpoint, serving
from tests.processes import eventually


def refresh_user(user_id: str) -> int:
    if user_id == "nobody":
        raise NotFound()
    if user_id == "stuck":
        raise Refused("Meta did not take the token")
    return 3


@pytest.fixture
def endpoint(engine: Engine) -> Iterator[Endpoint]:
    with an_endpoint(engine, refresh_user=refresh_user) as running:
        yield running


@pytest.fixture
def key(endpoint: Endpoint, now: object) -> str:
    with writing(endpoint.engine) as conn:
        return api_keys.add(conn, title="platform", scope="refresh", now=now)


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_the_platforms_refresh_order_is_carried_out(endpoint: Endpoint, key: str, header: str) -> None:
    given = {header: f"Bearer {key}" if header == "Authorization" else key}
    order = {"intent": "refresh-facebook-token", "userId": "u1"}
    answer = requests.post(f"{endpoint.url}/api/refresh", json=order, headers=given, timeout=10)
    assert (answer.status_code, answer.json()) == (
        200,
        {"success": True, "message": "Successfully refreshed 3 token(s)"},
    )


@pytest.mark.parametrize(
    ("order", "status"),
    [
        ({"intent": "delete-everything", "userId": "u1"}, 400),
        ({"intent": "refresh-facebook-token"}, 400),
        ([], 400),
        ({"intent": "refresh-facebook-token", "userId": "nobody"}, 404),
        ({"intent": "refresh-facebook-token", "userId": "stuck"}, 502),
    ],
)
def test_a_refresh_that_fails_says_so(endpoint: Endpoint, key: str, order: object, status: int) -> None:
    answer = requests.post(f"{endpoint.url}/api/refresh", json=order, headers={"X-API-Key": key}, timeout=10)
    assert (answer.status_code, answer.json()["success"]) == (status, False)
    assert answer.json()["error"]


@pytest.mark.parametrize("given", [{}, {"X-API-Key": "capi_guess"}, {"Authorization": "Basic capi_guess"}])
def test_a_refresh_needs_a_key(endpoint: Endpoint, key: str, given: dict[str, str]) -> None:
    answer = requests.post(f"{endpoint.url}/api/refresh", json={}, headers=given, timeout=10)
    assert (answer.status_code, answer.json()) == (401, {"success": False, "error": "Unauthorized"})


def test_health_and_readiness(endpoint: Endpoint) -> None:
    assert requests.get(f"{endpoint.url}/healthz", timeout=10).json() == {"status": "ok"}
    assert requests.get(f"{endpoint.url}/readyz", timeout=10).json() == {"status": "ready"}


def test_a_database_that_is_not_migrated_is_not_ready(tmp_path: Path) -> None:
    with serving(create_app(database.open_engine(f"sqlite:///{tmp_path / 'empty.db'}"), Settings())) as url:
        answer = requests.get(f"{url}/readyz", timeout=10)
        assert (answer.status_code, requests.get(f"{url}/healthz", timeout=10).status_code) == (503, 200)
        assert "not migrated" in answer.json()["reason"]


def test_a_database_that_is_away_is_not_ready_and_takes_nothing() -> None:
    engine = database.open_engine("postgresql://nobody:wrong@127.0.0.1:9/none")
    with serving(create_app(engine, Settings())) as url:
        assert requests.get(f"{url}/readyz", timeout=10).status_code == 503
        answer = requests.post(f"{url}/api/track", json={"appId": "a", "eventName": "x"}, timeout=10)
        assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (
            503,
            {"error": "Service unavailable"},
            "1",
        )


def test_an_unknown_path_is_json_too(endpoint: Endpoint) -> None:
    answer = requests.get(f"{endpoint.url}/nothing", timeout=10)
    assert (answer.status_code, answer.json(), "server" in answer.headers) == (404, {"error": "Not Found"}, False)


def test_a_taken_port_is_named() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(SettingsError, match="CAPI_ENDPOINT_PORT"):
        run(None, host="127.0.0.1", port=taken.getsockname()[1])  # type: ignore[arg-type]


def test_the_listener_switches_nagle_off() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert (listener.proto, listener.family) == (socket.IPPROTO_TCP, socket.AF_INET)


def test_a_locked_database_is_answered_503_and_never_200(sqlite_engine: Engine) -> None:
    with an_endpoint(sqlite_engine) as endpoint:
        endpoint.track()
        with writing(sqlite_engine):
            answer = endpoint.track()
            alive = requests.get(f"{endpoint.url}/healthz", timeout=1)
        assert (answer.status_code, answer.headers["retry-after"], alive.status_code) == (503, "1", 200)
        assert answer.elapsed.total_seconds() < 5
        assert (endpoint.track().status_code, len(endpoint.events())) == (200, 2)


def test_a_short_lock_is_waited_out(sqlite_engine: Engine) -> None:
    with an_endpoint(sqlite_engine) as endpoint:
        endpoint.track()
        with ThreadPoolExecutor(1) as pool, writing(sqlite_engine):
            answer = pool.submit(endpoint.track)
            with pytest.raises(TimeoutError):
                answer.result(0.3)
        assert answer.result(5).status_code == 200


def test_a_full_database_is_answered_503(sqlite_engine: Engine) -> None:
    with an_endpoint(sqlite_engine) as endpoint:
        endpoint.track()
        raw = endpoint.asgi.state.intake._connection.connection.cursor()
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
        raw.execute(f"PRAGMA max_page_count={pages}")
        statuses = [endpoint.track({**_big(), "event_id": f"e{n}"}).status_code for n in range(20)]
        assert 503 in statuses
        assert len(endpoint.events()) == 1 + statuses.count(200)


def test_a_read_only_database_is_answered_503_and_used_again_afterwards(engine: Engine) -> None:
    with an_endpoint(engine) as endpoint:
        endpoint.track()
        driver = endpoint.asgi.state.intake._connection.connection.dbapi_connection
        if engine.dialect.name == "sqlite":
            driver.execute("PRAGMA query_only = 1")
        else:
            driver.read_only = True
        answers = [endpoint.track() for _ in range(2)]
        assert [answer.status_code for answer in answers] == [503, 200]
        assert answers[0].headers["retry-after"] == "1"
        assert len(endpoint.events()) == 2


def test_a_full_backlog_is_answered_503_at_once(sqlite_engine: Engine) -> None:
    with an_endpoint(sqlite_engine) as endpoint, ThreadPoolExecutor(6) as pool:
        endpoint.track()
        endpoint.asgi.state.intake.backlog = 2
        with writing(sqlite_engine):
            asked = [pool.submit(endpoint.track)]
            time.sleep(0.2)  # it is in hand, and what comes now waits behind it
            asked += [pool.submit(endpoint.track) for _ in range(5)]
            # The lock is let go at once: who waits for it has a second and a half.
            eventually(lambda: sum(one.done() for one in asked) == 3, within=1)
            done = [one for one in asked if one.done()]
            refused = [one.result() for one in done]
        assert len(refused) == 3
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(503, "1")}
        assert {one.result().status_code for one in asked if one not in done} == {200}


def test_half_sent_bodies_do_not_fill_the_memory(sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    room = endpoint_http.Room(most=1_000_000)
    monkeypatch.setattr(endpoint_http, "room", room)
    head = b"POST /webhooks/orders/create HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"
    with an_endpoint(sqlite_engine) as endpoint, contextlib.ExitStack() as open_:
        port = int(endpoint.url.rsplit(":", 1)[1])
        senders = [open_.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(3)]
        for sender in senders[:2]:
            sender.sendall(head + b"x" * 450_000)
        eventually(lambda: room.taken == 900_000)
        senders[2].sendall(head + b"x" * 450_000)
        answer = senders[2].recv(1000)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in answer
        assert endpoint.track().status_code == 200
        for sender in senders:
            sender.close()
        eventually(lambda: room.taken == 0)


def _big() -> dict[str, object]:
    from tests.inbound.bodies import tracking

    return tracking(products=[{"id": f"product-{n}"} for n in range(400)], customData={})
