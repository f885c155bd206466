import hashlib
import json
import threading
import time

import pytest
import requests

from core.meta.failures import Failure
from core.meta.graph import Graph, GraphError
from core.sandbox.background import running
from core.sandbox.faults import KINDS
from core.sandbox.state import State
from core.secret import Secret

HASH = hashlib.sha256(b"anna@shop.example").hexdigest()


@pytest.fixture
def sandbox():
    """One for each test: a call that was given up may still be under way when its test ends."""
    with running(State(kept_events=500)) as sandbox:
        yield sandbox


@pytest.fixture
def graph(sandbox):
    graph = Graph(
        base_url=sandbox.url,
        version="v24.0",
        app_id="1234567890",
        app_secret=Secret("sandbox-app-secret"),
        read_timeout=0.5,
    )
    yield graph
    graph.close()


def an_event(event_id="e1"):
    person = {"em": HASH, "client_user_agent": "M"}
    event = {"event_name": "Lead", "event_time": int(time.time()), "event_id": event_id, "user_data": person}
    return json.dumps(event | {"action_source": "website"}).encode()


def outcome(graph, token, size=1):
    try:
        return graph.send("77", [an_event(str(index)) for index in range(size)], token)
    except GraphError as error:
        return error


@pytest.mark.parametrize(
    ("kind", "failure", "status", "wait", "ambiguous", "accepted"),
    [
        ("rate_4_403", Failure.RATE_LIMITED, 403, 60, False, 0),
        ("rate_17", Failure.RATE_LIMITED, 400, 60, False, 0),
        ("rate_613", Failure.RATE_LIMITED, 400, 60, False, 0),
        ("rate_80004", Failure.RATE_LIMITED, 400, 60, False, 0),
        ("transient_1", Failure.TRANSIENT, 500, None, False, 0),
        ("transient_2", Failure.TRANSIENT, 503, None, False, 0),
        ("html_502", Failure.TRANSIENT, 502, None, False, 0),
        ("html_200", Failure.TRANSIENT, 200, None, True, 0),
        ("reset_after_accept", Failure.TRANSIENT, None, None, True, 2),
        ("truncated", Failure.TRANSIENT, 200, None, True, 2),
        ("short_ack", Failure.TRANSIENT, 200, None, False, 2),
    ],
)
def test_a_fault_looks_like_metas(sandbox, graph, kind, failure, status, wait, ambiguous, accepted):
    token = sandbox.create_token()
    sandbox.fault("events", kind, count=1)
    error = outcome(graph, token, 2)
    assert (error.failure, error.status, error.retry_after, error.ambiguous) == (failure, status, wait, ambiguous)
    assert len(sandbox.events()) == accepted
    assert outcome(graph, token).events_received == 1


def test_latency_outlasts_the_time_limit(sandbox, graph):
    token = sandbox.create_token()
    sandbox.fault("events", "latency", count=1, seconds=0.8)
    error = outcome(graph, token)
    assert (error.failure, error.ambiguous, str(error)) == (
        Failure.TRANSIENT,
        True,
        "No answer within the time limit",
    )


def test_any_error_can_be_asked_for(sandbox, graph):
    token = sandbox.create_token()
    sandbox.fault("events", "error", error={"code": 10, "message": "(#10) No", "status": 403}, count=1)
    error = outcome(graph, token)
    assert (error.failure, error.code, error.status, error.words) == (Failure.PERMISSION, 10, 403, "(#10) No")


def test_a_fault_can_be_meant_for_one_pixel_or_token(sandbox, graph):
    bad, good = sandbox.create_token(), sandbox.create_token()
    sandbox.fault("events", "transient_2", token=bad)
    sandbox.fault("events", "transient_1", pixel="99")
    assert outcome(graph, good).events_received == 1
    sandbox.fault("events", "transient_1")
    sandbox.clear_faults(general=True)
    assert outcome(graph, good).events_received == 1
    assert outcome(graph, bad).code == 2
    sandbox.clear_faults()
    assert outcome(graph, bad).events_received == 1


def test_faults_on_the_other_paths(sandbox, graph):
    token = sandbox.create_token()
    sandbox.fault("exchange", "transient_2", count=1)
    sandbox.fault("debug", "html_502", count=1)
    with pytest.raises(GraphError):
        graph.exchange(token)
    with pytest.raises(GraphError):
        graph.debug_token(token)
    assert graph.exchange(token).expires_in
    assert graph.debug_token(token).is_valid
    assert sandbox.count("exchange") == 2


def test_a_share_of_the_calls_can_fail(sandbox, graph):
    token = sandbox.create_token()
    sandbox.fault("events", "transient_1", rate=0.5)
    failed = sum(isinstance(outcome(graph, token), GraphError) for _ in range(60))
    assert 10 < failed < 50


@pytest.mark.parametrize(
    "order", [{"kind": "nonsense"}, {"kind": KINDS[0], "path": "x"}, {"kind": "error", "x": 1}, []]
)
def test_a_fault_that_is_not_one_is_named(sandbox, order):
    answer = requests.post(f"{sandbox.url}/_sandbox/faults", json=order, timeout=5)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_token_nobody_made_is_not_found(sandbox):
    assert requests.post(f"{sandbox.url}/_sandbox/tokens/fp_0/expire", timeout=5).status_code == 404


def test_memory_is_bounded_and_counts_are_exact(sandbox, graph):
    token = sandbox.create_token()
    for _ in range(7):
        assert outcome(graph, token, 100).events_received == 100
    assert len(sandbox.events()) == 500
    stats = sandbox.stats()
    assert (stats["events"], stats["pixels"], stats["calls"]) == (700, {"77": 700}, {"events": 7})


def test_several_thousand_events_a_second(sandbox):
    token = sandbox.create_token()
    started = time.monotonic()

    def work():
        graph = Graph(base_url=sandbox.url, version="v24.0", app_id=None, app_secret=None)
        for _ in range(5):
            graph.send("77", [an_event(str(index)) for index in range(500)], token)
        graph.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sandbox.stats()["events"] == 5000
    assert 5000 / (time.monotonic() - started) > 1000
