"""The page that shows what the stand-in for Meta has heard, and that it keeps away from Meta itself."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
import streamlit as st
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from core.doors import console_sandbox
from core.sandbox.background import running
from core.sandbox.client import Sandbox
from core.sandbox.state import State
from core.secret import Secret
from tests.pages.conftest import Opens

META = "https://graph.facebook.com"


@pytest.fixture
def played(meta: Sandbox, store: Engine, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox that this console takes for Meta."""
    monkeypatch.setenv("CAPI_GRAPH_URL", meta.url)
    return meta


def _send(meta: Sandbox, token: Secret, *event_ids: str, pixel: str = "900001", name: str = "PageView") -> None:
    person = {"client_user_agent": "Mozilla/5.0", "em": ["a" * 64]}
    event = {"event_name": name, "event_time": int(time.time()), "action_source": "website", "user_data": person}
    answer = requests.post(
        f"{meta.url}/v24.0/{pixel}/events",
        json={"data": [event | {"event_id": event_id} for event_id in event_ids]},
        headers={"Authorization": f"Bearer {token.reveal()}"},
        timeout=5,
    )
    assert answer.ok or answer.status_code == 400


def _counts(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in at.metric}


def _said(at: AppTest) -> str:
    return " ".join(element.value for element in (*at.info, *at.warning))


def test_accepted_events_are_shown_newest_first(played: Sandbox, opens: Opens) -> None:
    token = played.create_token()
    _send(played, token, "first", "second")
    _send(played, token, "third", name="AddToCart")
    at = opens("sandbox")
    rows = at.dataframe[0].value
    assert list(rows["Event id"]) == ["third", "second", "first"]
    assert tuple(rows.iloc[0][["Pixel", "Event", "Token"]]) == ("900001", "AddToCart", token.fingerprint)
    assert abs(rows["At"].iloc[0].timestamp() - time.time()) < 60
    assert _counts(at)["Accepted events"] == "3"
    assert token.reveal() not in str(at)


def test_calls_are_counted_by_kind_with_what_was_refused(played: Sandbox, opens: Opens) -> None:
    token = played.create_token()
    _send(played, token, "taken")
    played.kill(token)
    _send(played, token, "refused")
    requests.get(f"{played.url}/v24.0/debug_token", params={"input_token": "a", "access_token": "b"}, timeout=5)
    at = opens("sandbox")
    counts = _counts(at)
    assert [counts[title] for title in ("Calls with events", "Exchange calls", "Debug calls")] == ["2", "0", "1"]
    refused = {metric.label: metric.proto.delta_description for metric in at.metric}
    assert (refused["Calls with events"], refused["Exchange calls"]) == ("1 refused", "")


def test_only_the_same_event_of_the_same_pixel_is_a_duplicate(played: Sandbox, opens: Opens) -> None:
    token = played.create_token()
    _send(played, token, "once", "twice", "twice", "")
    _send(played, token, "once", "", pixel="900002")
    _send(played, token, "once", name="AddToCart")
    assert _counts(opens("sandbox"))["Duplicates"] == "1"


def test_a_second_look_adds_what_is_new(played: Sandbox, opens: Opens) -> None:
    token = played.create_token()
    _send(played, token, "before")
    at = opens("sandbox")
    _send(played, token, "before", "after")
    at.run()
    assert list(at.dataframe[0].value["Event id"]) == ["after", "before", "before"]
    assert (_counts(at)["Accepted events"], _counts(at)["Duplicates"]) == ("3", "1")


@pytest.mark.parametrize("since_then", [(), ("c",), ("c", "d", "e")])
def test_a_sandbox_that_began_anew_is_heard_from_its_beginning(
    played: Sandbox, opens: Opens, since_then: tuple[str, ...]
) -> None:
    _send(played, played.create_token(), "a", "b")
    at = opens("sandbox")
    played.reset()
    if since_then:
        _send(played, played.create_token(), *since_then)
    at.run()
    shown = [*at.dataframe[0].value["Event id"]] if at.dataframe else []
    assert shown == [*reversed(since_then)]
    assert _counts(at)["Accepted events"] == str(len(since_then))


def test_the_table_and_the_memory_are_bounded(played: Sandbox, opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_sandbox, "COUNTED_EVENTS", 250)
    token = played.create_token()
    _send(played, token, "old", "old", *map(str, range(100)))
    assert _counts(opens("sandbox"))["Duplicates"] == "1"
    _send(played, token, *map(str, range(100, 349)))
    at = opens("sandbox")
    assert len(at.dataframe[0].value) == console_sandbox.SHOWN_EVENTS
    assert (_counts(at)["Accepted events"], _counts(at)["Duplicates"]) == ("351", "0")


def test_before_the_first_event_the_page_says_so(played: Sandbox, opens: Opens) -> None:
    assert "No event was accepted yet" in _said(opens("sandbox"))


def test_a_sandbox_that_is_away_is_one_sentence(store: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(State()) as gone:
        monkeypatch.setenv("CAPI_GRAPH_URL", gone.url)
    at = opens("sandbox")
    assert "The sandbox does not answer" in _said(at)
    assert not at.metric
    with running(State(), port=int(gone.url.rpartition(":")[2])):
        assert at.run().metric


def test_somebody_else_at_its_address_is_as_good_as_nobody(
    played: Sandbox, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPI_GRAPH_URL", f"{played.url}/elsewhere")
    assert "The sandbox does not answer" in _said(opens("sandbox"))


@pytest.mark.parametrize(
    ("graph_url", "visibility"),
    [(META, "hidden"), ("http://127.0.0.1:1", "visible"), ("http://localhost:1", "visible"), (None, "hidden")],
)
def test_the_menu_shows_it_only_beside_a_sandbox(
    store: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch, graph_url: str | None, visibility: str
) -> None:
    monkeypatch.setenv("CAPI_GRAPH_URL", graph_url) if graph_url else None
    menus: list[Any] = []
    navigation = st.navigation
    monkeypatch.setattr(st, "navigation", lambda pages: menus.append(pages) or navigation(pages))
    opens()
    assert [(page.title, page._visibility) for page in menus[0]["Sandbox"]] == [("Sandbox", visibility)]
    others = [page for section, pages in menus[0].items() if section != "Sandbox" for page in pages]
    assert {page._visibility for page in others} == {"visible"}


def test_its_address_beside_meta_says_that_there_is_none(
    store: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPI_GRAPH_URL", META)
    monkeypatch.setattr(console_sandbox, "heard", lambda: pytest.fail("Meta was asked"))
    at = opens("sandbox")
    assert [title.value for title in at.title] == ["Sandbox"]
    assert "No sandbox is in use" in _said(at)
    assert not at.metric


def test_a_wrong_setting_is_named_here_too(opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPI_GRAPH_URL", "https://graph.example")
    assert "CAPI_GRAPH_URL" in opens("sandbox").code[0].value
