"""Trouble ordered on the Sandbox page: a token dies, Meta goes away; and nowhere but beside a sandbox."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from sqlalchemy import Engine

from core import clock
from core.doors import console_sandbox
from core.meta.failures import Failure, classify
from core.sandbox.client import Sandbox
from core.secret import Secret
from tests.desk.rows import MARK, seed
from tests.pages.conftest import Opens


@pytest.fixture
def played(meta: Sandbox, store: Engine, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox that this console takes for Meta, and that knows the first two tokens of the made-up world."""
    monkeypatch.setenv("CAPI_GRAPH_URL", meta.url)
    seed(store, now=clock.now(), apps=9, events=0)
    for holder in (0, 1):
        meta.create_token(token=f"{MARK}{holder:05d}")
    meta.create_token()
    return meta


def _token(meta: Sandbox, holder: int) -> dict[str, Any]:
    name = Secret(f"{MARK}{holder:05d}").fingerprint
    return next(token for token in meta.tokens() if token["fingerprint"] == name)


def _refusal(meta: Sandbox, path: str) -> Failure:
    """What our own reading makes of an answer to a call on this path."""
    answer = requests.get(f"{meta.url}/v24.0/{path}", params={"access_token": "x", "input_token": "y"}, timeout=5)
    try:
        body: object = answer.json()
    except ValueError:
        body = None
    return classify(body, answer.status_code, endpoint=path).failure


@pytest.mark.parametrize("death", list(console_sandbox.DEATHS))
def test_a_token_dies_as_it_was_asked_to(played: Sandbox, opens: Opens, death: str) -> None:
    at = opens("sandbox")
    assert len(at.selectbox(key="victim").options) == 2
    at.selectbox(key="victim").select_index(1)
    at.selectbox(key="death").set_value(death)
    at.button(key="kill").click().run()
    assert not at.exception
    victim = next(holder for holder in (0, 1) if _over(_token(played, holder)))
    assert _token(played, victim)["dead"] == console_sandbox.DEATHS[death]
    assert not _over(_token(played, 1 - victim))
    assert len(at.selectbox(key="victim").options) == 1
    assert MARK not in str(at)


def _over(token: dict[str, Any]) -> bool:
    return bool(token["dead"] or token["expires_at"] < clock.now().timestamp())


@pytest.mark.parametrize(
    ("trouble", "path", "failure"),
    [
        ("Meta is away", "me", Failure.TRANSIENT),
        ("Meta is away", "oauth/access_token", Failure.TRANSIENT),
        ("Our app secret is wrong", "oauth/access_token", Failure.APP_CONFIG),
        ("Our app secret is wrong", "debug_token", Failure.APP_CONFIG),
        ("Our app secret is wrong", "900001", Failure.APP_CONFIG),
        ("Meta limits our app", "debug_token", Failure.RATE_LIMITED),
    ],
)
def test_trouble_for_everybody_until_it_is_ended(
    played: Sandbox, opens: Opens, trouble: str, path: str, failure: Failure
) -> None:
    at = opens("sandbox")
    assert at.button(key="end_trouble").disabled
    next(button for button in at.button if button.label == trouble).click().run()
    assert _refusal(played, path) is failure
    assert "On just now" in " ".join(caption.value for caption in at.caption)
    at.button(key="end_trouble").click().run()
    assert played.stats()["faults"] == []


def test_nothing_is_ever_ordered_of_meta_itself(store: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPI_GRAPH_URL", "https://graph.facebook.com")
    monkeypatch.setattr(requests.Session, "request", lambda *_, **__: pytest.fail("Meta was asked"))
    at = opens("sandbox")
    assert not at.button
    assert not console_sandbox.order("Meta is away")
    assert not console_sandbox.let_die("fp_1", "The password was changed (460)")
    assert console_sandbox.tokens() is None


def test_an_order_that_reaches_nobody_is_said(played: Sandbox, opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opens("sandbox")
    with monkeypatch.context() as patched:
        patched.setattr(requests.Session, "request", _nobody)
        at.button(key="kill").click().run()
    assert not at.exception
    assert "the sandbox does not answer" in [line.value for line in at.text]
    assert not _over(_token(played, 0))


def _nobody(*_: object, **__: object) -> None:
    raise requests.ConnectionError
