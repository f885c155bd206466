"""The stand-in's login dialog and the code it gives, told by our own client."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from core.meta.graph import Graph, GraphError
from core.sandbox.background import running
from core.sandbox.client import Sandbox
from core.sandbox.state import State
from core.secret import Secret

APP, APP_SECRET = "1234567890", Secret("the-app-secret")
BACK = "https://shops.example/auth/facebook/callback"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """One for each test: a call that was given up may still be under way when its test ends."""
    with running(State(app_id=APP, app_secret=APP_SECRET)) as sandbox:
        yield sandbox


@pytest.fixture
def graph(sandbox: Sandbox) -> Iterator[Graph]:
    graph = Graph(base_url=sandbox.url, version="v24.0", app_id=APP, app_secret=APP_SECRET)
    yield graph
    graph.close()


def dialog(sandbox: Sandbox, **more: str) -> requests.Response:
    asked = {"client_id": APP, "redirect_uri": BACK, "state": "s1", "scope": "ads_management,business_management"}
    address = f"{sandbox.url}/v24.0/dialog/oauth"
    return requests.get(address, params=asked | more, allow_redirects=False, timeout=10)


def a_code(sandbox: Sandbox, **preset: object) -> Secret:
    sandbox.login(**preset)  # type: ignore[arg-type]
    return Secret(answer_of(dialog(sandbox))["code"])


def answer_of(response: requests.Response) -> dict[str, str]:
    assert response.status_code == 302
    assert response.headers["location"].startswith(BACK + "?")
    return {name: value[0] for name, value in parse_qs(urlsplit(response.headers["location"]).query).items()}


def test_a_code_gives_a_short_lived_token_and_that_a_long_lived_one(sandbox: Sandbox, graph: Graph) -> None:
    code = a_code(sandbox, user="42", pixels=["900"])
    short = graph.exchange_code(code, redirect_uri=BACK)
    facts = graph.debug_token(short.token)
    assert facts.is_valid
    assert (facts.meta_user_id, facts.meta_app_id, facts.issued_at) == ("42", APP, None)
    assert set(facts.scopes) == {"ads_management", "business_management", "public_profile"}
    assert short.expires_in is not None
    assert 3600 <= short.expires_in <= 7200
    long = graph.exchange(short.token)
    assert long.expires_in is not None
    assert timedelta(seconds=long.expires_in) > timedelta(days=59)
    assert graph.debug_token(long.token).issued_at is not None
    assert graph.probe_pixel("900", long.token, ours=True).id == "900"
    with pytest.raises(GraphError):
        graph.probe_pixel("901", long.token, ours=True)


def refused(graph: Graph, code: Secret, redirect_uri: str = BACK) -> tuple[int | None, int | None]:
    with pytest.raises(GraphError) as caught:
        graph.exchange_code(code, redirect_uri=redirect_uri)
    assert not code.inside(str(caught.value) + caught.value.answer + caught.value.words)
    return caught.value.code, caught.value.subcode


def test_a_code_works_once_in_time_and_for_its_own_address(sandbox: Sandbox, graph: Graph) -> None:
    assert refused(graph, a_code(sandbox), BACK + "/") == (100, 36008)
    code = a_code(sandbox)
    graph.exchange_code(code, redirect_uri=BACK)
    assert refused(graph, code) == (100, 36009)
    late = a_code(sandbox)
    sandbox.advance(601)
    assert refused(graph, late) == (100, 36007)
    assert refused(graph, Secret("nonsense"))[0] == 100


def test_who_asks_for_the_token_must_know_the_app_secret(sandbox: Sandbox) -> None:
    wrong = Graph(base_url=sandbox.url, version="v24.0", app_id=APP, app_secret=Secret("other"))
    assert refused(wrong, a_code(sandbox)) == (1, None)
    wrong.close()


def test_cancel_and_errors_come_back_as_meta_sends_them(sandbox: Sandbox) -> None:
    sandbox.login(error="access_denied")
    denied = answer_of(dialog(sandbox))
    assert (denied["error"], denied["error_reason"], denied["state"]) == ("access_denied", "user_denied", "s1")
    sandbox.login(error="server_error")
    assert answer_of(dialog(sandbox)) == {"error": "server_error", "state": "s1"}


def test_a_person_decides_on_the_page(sandbox: Sandbox, graph: Graph) -> None:
    sandbox.create_token(user="6")
    sandbox.kill(sandbox.create_token(user="7", name="<Ada>"))
    page = dialog(sandbox)
    assert page.status_code == 200
    assert 'value="7" checked> &lt;Ada&gt; (user 7)' in page.text
    form = {"user": "7", "other": "", "scope": "ads_management", "answer": "continue"}
    answered = requests.post(page.url, data=form, allow_redirects=False, timeout=10)
    facts = graph.debug_token(graph.exchange_code(Secret(answer_of(answered)["code"]), redirect_uri=BACK).token)
    assert (facts.meta_user_id, facts.scopes) == ("7", ("ads_management", "public_profile"))
    other = requests.post(page.url, data=form | {"other": " 8 "}, allow_redirects=False, timeout=10)
    facts = graph.debug_token(graph.exchange_code(Secret(answer_of(other)["code"]), redirect_uri=BACK).token)
    assert facts.meta_user_id == "8"
    left = requests.post(page.url, data=form | {"answer": "cancel"}, allow_redirects=False, timeout=10)
    assert answer_of(left)["error"] == "access_denied"


@pytest.mark.parametrize(
    "wrong",
    [{"client_id": "1"}, {"redirect_uri": "javascript:alert(1)"}, {"response_type": "token"}, {"redirect_uri": ""}],
)
def test_a_dialog_that_was_opened_wrongly_sends_nobody_anywhere(sandbox: Sandbox, wrong: dict[str, str]) -> None:
    sandbox.login()
    assert dialog(sandbox, **wrong).status_code == 400


def test_what_was_asked_is_shown_as_text(sandbox: Sandbox) -> None:
    assert "<img" not in dialog(sandbox, scope='"><img src=x>').text
