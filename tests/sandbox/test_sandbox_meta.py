"""The stand-in behaves as Meta does: told by our own client, over real HTTP."""

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
import requests

from core.clock import from_unix
from core.meta.failures import Failure
from core.meta.graph import Graph, GraphError
from core.sandbox.background import running
from core.sandbox.state import State
from core.secret import Secret

APP, APP_SECRET = "1234567890", Secret("the-app-secret")
HASH = hashlib.sha256(b"anna@shop.example").hexdigest()
DAY = 86_400


@pytest.fixture
def sandbox():
    """One for each test: a call that was given up may still be under way when its test ends."""
    with running(State(app_id=APP, app_secret=APP_SECRET)) as sandbox:
        yield sandbox


@pytest.fixture
def graph(sandbox):
    graph = Graph(base_url=sandbox.url, version="v24.0", app_id=APP, app_secret=APP_SECRET, read_timeout=2.0)
    yield graph
    graph.close()


def an_event(event_id="e1", **changes):
    event = {
        "event_name": "Lead",
        "event_time": int(time.time()),
        "event_id": event_id,
        "action_source": "website",
        "user_data": {"em": [HASH], "client_user_agent": "Mozilla/5.0"},
    }
    return json.dumps(event | changes).encode()


def refused(call, *arguments, **keywords):
    with pytest.raises(GraphError) as caught:
        call(*arguments, **keywords)
    return caught.value


def test_an_event_is_kept_with_its_id_pixel_and_token(sandbox, graph):
    token = sandbox.create_token(pixels=["77"])
    sent = graph.send("77", [an_event("a"), an_event("b")], token, ours=True)
    assert sent.events_received == 2
    kept = sandbox.events("77")
    assert [event["event_id"] for event in kept] == ["a", "b"]
    assert {event["token"] for event in kept} == {token.fingerprint}
    assert sandbox.events("78") == []
    assert [event["event_id"] for event in sandbox.events(since=1)] == ["b"]


def test_an_expired_token_is_refused_and_cannot_be_exchanged(sandbox, graph):
    token = sandbox.create_token(expires_in=3600)
    sandbox.expire(token)
    for error in (refused(graph.send, "77", [an_event()], token), refused(graph.exchange, token)):
        assert (error.failure, error.code, error.subcode, error.status) == (Failure.TOKEN_EXPIRED, 190, 463, 400)
    facts = graph.debug_token(token)
    assert (facts.is_valid, facts.subcode, facts.failure) == (False, 463, Failure.TOKEN_EXPIRED)


def test_time_passes_for_a_token(sandbox, graph):
    token = sandbox.create_token(expires_in=10 * DAY)
    sandbox.advance(9 * DAY)
    assert graph.debug_token(token).is_valid
    sandbox.advance(2 * DAY)
    assert not graph.debug_token(token).is_valid
    sandbox.set_clock(datetime.now(UTC))
    assert graph.debug_token(token).is_valid


def test_an_exchange_gives_a_new_string_and_leaves_the_old_one_alive(sandbox, graph):
    old = sandbox.create_token(expires_in=5 * DAY, user="42", pixels=["77"])
    new = graph.exchange(old)
    assert new.token != old
    assert new.expires_in == pytest.approx(60 * DAY, abs=5)
    facts = graph.debug_token(new.token)
    assert (facts.meta_user_id, facts.meta_app_id, facts.kind) == ("42", APP, "USER")
    assert graph.send("77", [an_event()], old).events_received == 1
    assert graph.send("77", [an_event()], new.token).events_received == 1
    assert [call["fingerprint"] for call in sandbox.calls("exchange")] == [old.fingerprint]


def test_an_exchange_may_keep_quiet_about_the_end(sandbox, graph):
    token = sandbox.create_token(mode="no_expires_in")
    assert graph.exchange(token).expires_in is None


def test_an_exchange_may_change_nothing(sandbox, graph):
    same = sandbox.create_token(expires_in=5 * DAY, mode="same_token")
    assert graph.exchange(same).token == same
    stuck = sandbox.create_token(expires_in=5 * DAY, mode="same_expiry")
    answer = graph.exchange(stuck)
    assert answer.token != stuck
    assert answer.expires_in == pytest.approx(5 * DAY, abs=5)


def test_a_system_users_token_gets_sixty_days_when_asked(sandbox, graph):
    token = sandbox.create_token(type="SYSTEM_USER", expires_in=3 * DAY)
    assert graph.exchange(token, system_user=True).expires_in == pytest.approx(60 * DAY, abs=5)
    never = sandbox.create_token(type="SYSTEM_USER", never=True)
    facts = graph.debug_token(never)
    assert (facts.never_expires, facts.kind, facts.expires_at) == (True, "SYSTEM_USER", None)
    assert graph.exchange(never).expires_in is None


def test_a_wrong_app_secret_is_told_apart(sandbox):
    token = sandbox.create_token()
    wrong = Graph(base_url=sandbox.url, version="v24.0", app_id=APP, app_secret=Secret("wrong"))
    error = refused(wrong.exchange, token)
    assert (error.failure, error.code, error.words) == (Failure.APP_CONFIG, 1, "Error validating client secret.")
    assert refused(wrong.debug_token, token).failure is Failure.APP_CONFIG
    assert refused(wrong.send, "77", [an_event()], token, ours=True).failure is Failure.APP_CONFIG
    assert wrong.send("77", [an_event()], token).events_received == 1
    wrong.close()


def test_debug_tells_long_lived_tokens_by_their_issue(sandbox, graph):
    assert graph.debug_token(sandbox.create_token()).issued_at is not None
    assert graph.debug_token(sandbox.create_token(long_lived=False, expires_in=3600)).issued_at is None
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(days=7)
    assert graph.debug_token(sandbox.create_token(expires_at=moment)).expires_at == moment


@pytest.mark.parametrize(
    ("subcode", "failure"), [(460, Failure.TOKEN_DEAD), (458, Failure.TOKEN_DEAD), (452, Failure.TOKEN_SOFT)]
)
def test_a_killed_token_says_what_it_died_of(sandbox, graph, subcode, failure):
    token = sandbox.create_token()
    sandbox.kill(token, subcode)
    error = refused(graph.send, "77", [an_event()], token)
    assert (error.failure, error.subcode) == (failure, subcode)
    assert graph.debug_token(token).subcode == subcode


def test_an_unknown_token_cannot_be_parsed(sandbox, graph):
    stranger = Secret("EAAnobodyknowsthisone")
    error = refused(graph.send, "77", [an_event()], stranger)
    assert (error.failure, error.code, error.subcode) == (Failure.TOKEN_DEAD, 190, None)
    assert graph.debug_token(stranger).failure is Failure.TOKEN_DEAD
    assert sandbox.calls("events")[0]["fingerprint"] == stranger.fingerprint


def test_a_token_of_another_app_sends_but_is_not_inspected_or_proved(sandbox, graph):
    token = sandbox.create_token(app_id="999")
    assert graph.send("77", [an_event()], token).events_received == 1
    assert refused(graph.debug_token, token).failure is Failure.PERMISSION
    assert refused(graph.send, "77", [an_event()], token, ours=True).failure is Failure.APP_CONFIG


def test_a_token_reaches_only_its_pixels(sandbox, graph):
    token = sandbox.create_token(pixels=["77"])
    assert graph.probe_pixel("77", token, ours=True).id == "77"
    for error in (refused(graph.send, "78", [an_event()], token), refused(graph.probe_pixel, "78", token)):
        assert (error.failure, error.code, error.subcode) == (Failure.PERMISSION, 100, 33)
    reader = sandbox.create_token(scopes=["ads_read"])
    assert refused(graph.send, "77", [an_event()], reader).failure is Failure.PERMISSION


def old(days, **more):
    return an_event(event_time=int(time.time()) - days * DAY, **more)


@pytest.mark.parametrize(
    ("bad", "subcode", "blame"),
    [
        (old(8), 2804003, None),
        (old(63, action_source="physical_store"), 2804003, None),
        (an_event(event_name="Purchase", custom_data={"currency": "EUR"}), 2804009, None),
        (an_event(user_data={"em": "anna@shop.example"}), 2804016, None),
        (an_event(user_data={"ct": HASH, "client_user_agent": "M"}), 2804050, None),
        (an_event(surprise=1), None, 1),
        (an_event(event_time=int(time.time() * 1000)), None, 1),
    ],
)
def test_one_bad_event_has_the_whole_batch_refused(sandbox, graph, bad, subcode, blame):
    token = sandbox.create_token()
    error = refused(graph.send, "77", [an_event(), bad, an_event()], token)
    assert (error.failure, error.code, error.subcode, error.blame) == (Failure.INVALID_EVENT, 100, subcode, blame)
    assert sandbox.events() == []
    assert sandbox.count("events") == 1


def test_a_shop_with_a_door_has_sixty_two_days(sandbox, graph):
    token = sandbox.create_token()
    assert graph.send("77", [old(61, action_source="physical_store")], token).events_received == 1


def test_more_than_a_thousand_events_are_refused(sandbox):
    token = sandbox.create_token().reveal()
    batch = [json.loads(an_event())] * 1001
    answer = requests.post(f"{sandbox.url}/v24.0/77/events", json={"data": batch, "access_token": token}, timeout=5)
    assert answer.status_code == 400
    assert sandbox.stats()["events"] == 0


@pytest.mark.parametrize("way", ["form", "multipart", "query", "body"])
def test_every_encoding_and_place_of_the_token_is_taken(sandbox, way):
    value = sandbox.create_token().reveal()
    url, strings = f"{sandbox.url}/v24.0/77/events", json.dumps([an_event().decode()])
    if way == "form":
        answer = requests.post(url, data={"data": strings, "access_token": value}, timeout=5)
    elif way == "multipart":
        answer = requests.post(url, files={"data": (None, strings), "access_token": (None, value)}, timeout=5)
    elif way == "query":
        answer = requests.post(url, params={"access_token": value}, json={"data": [json.loads(an_event())]}, timeout=5)
    else:
        answer = requests.post(url, json={"data": [json.loads(an_event())], "access_token": value}, timeout=5)
    assert (answer.status_code, answer.json()["events_received"]) == (200, 1)


def test_a_timed_proof_holds_five_minutes(sandbox):
    token, now = sandbox.create_token(), int(time.time())

    def call(moment):
        proof = hmac.new(b"the-app-secret", f"{token.reveal()}|{moment}".encode(), "sha256").hexdigest()
        body = {"data": [json.loads(an_event())], "appsecret_proof": proof, "appsecret_time": str(moment)}
        headers = {"Authorization": f"Bearer {token.reveal()}"}
        return requests.post(f"{sandbox.url}/v24.0/77/events", json=body, headers=headers, timeout=5).status_code

    assert [call(now), call(now - 400)] == [200, 400]


def test_where_a_proof_is_required_it_is_missed(sandbox):
    with running(State(app_id=APP, app_secret=APP_SECRET, require_proof=True)) as strict:
        graph = Graph(base_url=strict.url, version="v24.0", app_id=APP, app_secret=APP_SECRET)
        token = strict.create_token()
        assert refused(graph.send, "77", [an_event()], token).failure is Failure.APP_CONFIG
        assert graph.send("77", [an_event()], token, ours=True).events_received == 1
        graph.close()
    assert sandbox.count("events") == 0


def test_debug_dates_are_moments(sandbox, graph):
    token = sandbox.create_token(expires_in=DAY)
    facts = graph.debug_token(token)
    assert abs(facts.expires_at - from_unix(time.time() + DAY)) < timedelta(seconds=5)
    assert facts.data_access_expires_at > facts.expires_at
