import hashlib
import hmac
import json
import threading
from datetime import UTC, datetime

import pytest
import requests
import responses
from responses import matchers

from core.errors import SettingsError
from core.meta.failures import Failure
from core.meta.graph import MAX_BYTES, MAX_EVENTS, Graph, GraphError
from core.secret import Secret

BASE = "https://graph.example"
EVENTS, EXCHANGE, DEBUG = f"{BASE}/v24.0/77/events", f"{BASE}/v24.0/oauth/access_token", f"{BASE}/v24.0/debug_token"
TOKEN = Secret("tok-a")
EVENT = b'{"event_name":"Lead"}'


@pytest.fixture
def graph():
    graph = Graph(base_url=BASE, version="v24.0", app_id="123", app_secret=Secret("s3"))
    yield graph
    graph.close()


@pytest.fixture
def meta():
    with responses.RequestsMock() as mock:
        yield mock


def refused(call, *arguments, **keywords):
    with pytest.raises(GraphError) as caught:
        call(*arguments, **keywords)
    return caught.value


def test_send_joins_the_stored_bytes_and_keeps_the_token_in_the_header(graph, meta):
    meta.post(EVENTS, json={"events_received": 2, "messages": ["a", "b"], "fbtrace_id": "T1"})
    sent = graph.send("77", [EVENT, b'{"event_name":"\xc3\xa9"}'], TOKEN)
    request = meta.calls[0].request
    assert json.loads(request.body) == {
        "data": [{"event_name": "Lead"}, {"event_name": "é"}],
        "partner_agent": "capi-console",
    }
    assert request.headers["Authorization"] == "Bearer tok-a"
    assert request.headers["Content-Type"] == "application/json"
    assert "tok-a" not in request.url
    assert (sent.events_received, sent.words, sent.trace_id, sent.status) == (2, "a; b", "T1", 200)
    assert sent.used_up is None


def test_the_proof_goes_out_only_for_tokens_of_our_app(graph, meta):
    meta.post(EVENTS, json={"events_received": 1})
    graph.send("77", [EVENT], TOKEN)
    graph.send("77", [EVENT], TOKEN, ours=True, test_event_code="TEST1")
    plain, proved = (json.loads(call.request.body) for call in meta.calls)
    assert "appsecret_proof" not in plain
    assert "test_event_code" not in plain
    assert proved["appsecret_proof"] == hmac.new(b"s3", b"tok-a", hashlib.sha256).hexdigest()
    assert proved["test_event_code"] == "TEST1"


@pytest.mark.parametrize("answer", [{"events_received": 1}, {}, {"events_received": "2"}, {"events_received": True}])
def test_a_batch_counts_only_when_all_of_it_was_received(graph, meta, answer):
    meta.post(EVENTS, json=answer)
    error = refused(graph.send, "77", [EVENT, EVENT], TOKEN)
    assert (error.failure, error.name) == (Failure.TRANSIENT, "short ack")
    assert "of 2 events" in error.words


def test_a_refusal_carries_what_a_person_needs(graph, meta):
    meta.post(
        EVENTS,
        status=400,
        json={
            "error": {
                "message": "Error validating access token: Session has expired.",
                "code": 190,
                "error_subcode": 463,
                "fbtrace_id": "ABC",
            }
        },
    )
    error = refused(graph.send, "77", [EVENT], TOKEN)
    assert str(error) == "Error validating access token: Session has expired. (190/463, trace ABC)"
    assert (error.failure, error.code, error.subcode, error.status) == (Failure.TOKEN_EXPIRED, 190, 463, 400)
    assert (error.trace_id, error.ambiguous, error.blame, error.name) == ("ABC", False, None, "token expired")
    assert json.loads(error.answer)["error"]["code"] == 190


def test_meta_blames_one_event_by_its_index(graph, meta):
    message = 'Server Side Api Parameter Error: Unexpected key "x" on param "$[\'data\'][12]"'
    meta.post(EVENTS, status=400, json={"error": {"message": message, "code": 100}})
    error = refused(graph.send, "77", [EVENT] * 20, TOKEN)
    assert (error.failure, error.blame) == (Failure.INVALID_EVENT, 12)


def test_a_rate_limit_says_when_to_come_back(graph, meta):
    usage = {"77": [{"type": "ads_management", "call_count": 100, "estimated_time_to_regain_access": 2}]}
    meta.post(
        EVENTS,
        status=403,
        json={"error": {"message": "(#4) limit", "code": 4, "is_transient": True}},
        headers={"X-Business-Use-Case-Usage": json.dumps(usage)},
    )
    error = refused(graph.send, "77", [EVENT], TOKEN)
    assert (error.failure, error.retry_after) == (Failure.RATE_LIMITED, 120)


@pytest.mark.parametrize("status", [200, 502])
def test_a_web_page_instead_of_an_answer_is_transient(graph, meta, status):
    meta.post(EVENTS, status=status, body="<html>Sorry</html>")
    error = refused(graph.send, "77", [EVENT], TOKEN)
    assert (error.failure, error.answer) == (Failure.TRANSIENT, "<html>Sorry</html>")
    assert error.ambiguous is (status == 200)
    assert str(error) == f"The answer was not JSON (HTTP {status})"


def test_a_redirect_is_not_followed(graph, meta):
    meta.post(EVENTS, status=302, headers={"Location": "https://elsewhere.example/"}, body="moved")
    assert refused(graph.send, "77", [EVENT], TOKEN).failure is Failure.TRANSIENT
    assert len(meta.calls) == 1


@pytest.mark.parametrize(
    ("trouble", "ambiguous"),
    [
        (requests.ConnectTimeout("x"), False),
        (requests.ReadTimeout("x"), True),
        (requests.exceptions.SSLError("x"), False),
        (requests.ConnectionError("Connection aborted."), True),
        (requests.exceptions.ChunkedEncodingError("x"), True),
    ],
)
def test_a_broken_line_is_ambiguous_once_the_body_may_have_arrived(graph, meta, trouble, ambiguous):
    meta.post(EVENTS, body=trouble)
    error = refused(graph.send, "77", [EVENT], TOKEN)
    assert (error.failure, error.status, error.ambiguous) == (Failure.TRANSIENT, None, ambiguous)


def test_nobody_listening_is_not_ambiguous():
    graph = Graph(base_url="http://127.0.0.1:9", version="v24.0", app_id=None, app_secret=None)
    error = refused(graph.send, "77", [EVENT], TOKEN)
    assert (str(error), error.ambiguous) == ("Meta could not be reached: try again", False)


@pytest.mark.parametrize("payloads", [[], [EVENT] * (MAX_EVENTS + 1), [b"x" * (MAX_BYTES + 1)]])
def test_too_much_for_one_request_is_a_mistake_of_the_caller(graph, payloads):
    with pytest.raises(ValueError, match="a request holds"):
        graph.send("77", payloads, TOKEN)


@pytest.mark.parametrize("pixel", ["", "../me", "1/2", "7?x=1", "7\n"])
def test_a_pixel_id_cannot_lead_the_call_elsewhere(graph, pixel):
    assert refused(graph.send, pixel, [EVENT], TOKEN).failure is Failure.PERMISSION


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "tök"])
def test_a_token_no_header_can_carry_is_damaged(graph, value):
    assert refused(graph.send, "77", [EVENT], Secret(value)).failure is Failure.TOKEN_DEAD


@pytest.mark.parametrize(
    ("answer", "seconds"), [({"expires_in": 5183944}, 5183944), ({}, None), ({"expires_in": 0}, None)]
)
def test_exchange_gives_a_new_token(graph, meta, answer, seconds):
    meta.get(EXCHANGE, json={"access_token": "tok-b", "token_type": "bearer", **answer})
    exchanged = graph.exchange(TOKEN)
    assert exchanged.token == Secret("tok-b")
    assert exchanged.expires_in == seconds


@pytest.mark.parametrize("system_user", [True, False])
def test_exchange_asks_for_sixty_days_for_a_system_user(graph, meta, system_user):
    query = {
        "grant_type": "fb_exchange_token",
        "client_id": "123",
        "client_secret": "s3",
        "fb_exchange_token": "tok-a",
    } | ({"set_token_expires_in_60_days": "true"} if system_user else {})
    meta.get(EXCHANGE, json={"access_token": "tok-b"}, match=[matchers.query_param_matcher(query)])
    assert graph.exchange(TOKEN, system_user=system_user).token.fingerprint == Secret("tok-b").fingerprint


def test_an_exchange_without_a_token_in_it_is_refused(graph, meta):
    meta.get(EXCHANGE, json={"token_type": "bearer"})
    assert refused(graph.exchange, TOKEN).words == "The answer holds no token"


def test_debug_token_of_a_living_token(graph, meta):
    data = {
        "app_id": "123",
        "type": "USER",
        "user_id": "9",
        "is_valid": True,
        "expires_at": 1800000000,
        "data_access_expires_at": 1800000500,
        "issued_at": 1700000000,
        "scopes": ["ads_management", "ads_read"],
    }
    meta.get(DEBUG, json={"data": data})
    facts = graph.debug_token(TOKEN)
    assert (facts.is_valid, facts.kind, facts.meta_app_id, facts.meta_user_id) == (True, "USER", "123", "9")
    assert facts.scopes == ("ads_management", "ads_read")
    assert facts.expires_at == datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
    assert (facts.never_expires, facts.failure) == (False, None)
    assert facts.issued_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_debug_token_of_a_token_without_an_end(graph, meta):
    meta.get(DEBUG, json={"data": {"is_valid": True, "type": "SYSTEM_USER", "expires_at": 0}})
    facts = graph.debug_token(TOKEN)
    assert (facts.never_expires, facts.expires_at, facts.issued_at) == (True, None, None)


def test_debug_token_of_a_dead_token_says_why(graph, meta):
    error = {"code": 190, "message": "The user changed the password", "subcode": 460}
    meta.get(DEBUG, json={"data": {"is_valid": False, "error": error, "scopes": []}})
    facts = graph.debug_token(TOKEN)
    assert (facts.is_valid, facts.failure, facts.code, facts.subcode) == (False, Failure.TOKEN_DEAD, 190, 460)
    assert facts.words == "The user changed the password"
    assert facts.never_expires is False


def test_a_token_of_another_app_cannot_be_inspected(graph, meta):
    message = "(#100) The App_id in the input_token did not match the Viewing App"
    meta.get(DEBUG, status=400, json={"error": {"message": message, "code": 100}})
    assert refused(graph.debug_token, TOKEN).failure is Failure.PERMISSION


def test_probe_pixel(graph, meta):
    meta.get(f"{BASE}/v24.0/77", json={"id": "77", "name": "Shop"})
    assert graph.probe_pixel("77", TOKEN).name == "Shop"


@pytest.mark.parametrize("call", ["exchange", "debug_token"])
@pytest.mark.parametrize(
    ("app_id", "secret", "variable"),
    [(None, Secret("s"), "FACEBOOK_APP_ID"), ("1", None, "FACEBOOK_APP_SECRET")],
)
def test_without_app_credentials_the_variable_is_named(call, app_id, secret, variable):
    graph = Graph(base_url=BASE, version="v24.0", app_id=app_id, app_secret=secret)
    with pytest.raises(SettingsError, match=variable):
        getattr(graph, call)(TOKEN)


def test_each_thread_has_its_own_session(graph, meta):
    meta.post(EVENTS, json={"events_received": 1})
    seen = []

    def work():
        graph.send("77", [EVENT], TOKEN)
        graph.send("77", [EVENT], TOKEN)
        seen.append(graph._wire._session())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, seen))) == 3
