"""Apps are connected, set up and paused on their page; System shows the set-up without a secret."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select
from streamlit.testing.v1 import AppTest

from core.desk.operators import Operator
from core.doors import console
from core.store import apps
from core.store.apps import App
from core.store.database import reading, writing
from core.store.schema import capi_audit
from tests.pages.conftest import Opens


def _first(engine: Engine) -> App:
    with reading(engine) as conn:
        return min(apps.every(conn), key=lambda one: (one.name, one.id))


def _opened(opens: Opens, **widgets: object) -> AppTest:
    at = opens("apps", **widgets)
    at.session_state[at.dataframe[0].key] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    return at.run()


def _submit(at: AppTest, label: str) -> AppTest:
    next(button for button in at.button if button.label == label).click().run()
    assert not at.exception, at.exception
    return at


def _audit(engine: Engine) -> list[tuple[str, str, str | None]]:
    a = capi_audit.c
    with reading(engine) as conn:
        return [tuple(row) for row in conn.execute(select(a.by, a.action, a.reason).order_by(a.id))]


def test_an_app_is_connected_and_stands_in_the_list_alone(store: Engine, opens: Opens) -> None:
    at = opens("apps")
    typed = {"name": " Tea House ", "email": "anna@tea.example", "shop_domain": "Tea.myshopify.com", "pixel": "778899"}
    for name, text in typed.items():
        at.text_input(key=f"new.{name}").set_value(text)
    _submit(at, "Connect")
    app = _first(store)
    assert (app.name, app.email, app.shop_domain, app.pixel_id) == (
        "Tea House",
        "anna@tea.example",
        "tea.myshopify.com",
        "778899",
    )
    assert at.dataframe[0].value["appId"].tolist() == [app.public_id]
    assert at.dataframe[0].value["State"].tolist() == [["no token"]]
    assert at.text_input(key="app").value == app.public_id
    assert not at.text_input(key="new.name").value
    assert _audit(store) == [("local", "add_app", None)]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": " "}, "the name is missing"),
        ({"email": "anna"}, "the e-mail is missing"),
        ({"pixel": "12a"}, "the pixel is no number"),
        ({"shop_domain": "https://tea.example/"}, "is no domain"),
    ],
)
def test_what_is_missing_is_said_and_what_was_typed_stays(
    store: Engine, opens: Opens, changed: dict[str, str], words: str
) -> None:
    at = opens("apps")
    good = {"name": "Tea House", "email": "anna@tea.example", "shop_domain": "tea.example", "pixel": "77"}
    for name, text in (good | changed).items():
        at.text_input(key=f"new.{name}").set_value(text)
    _submit(at, "Connect")
    assert words in " ".join(text.value for text in at.text)
    assert at.text_input(key="new.email").value == (good | changed)["email"]
    assert _audit(store) == []


def test_only_what_was_changed_is_saved(world: Engine, opens: Opens) -> None:
    app = _first(world)
    at = _opened(opens)
    with writing(world) as conn:  # meanwhile somebody else sets another option
        apps.configure(conn, app.id, consent_policy="require")
    at.text_input(key=f"set_allowed_origins.{app.id}").set_value("www.tea.example, tea.example")
    at.selectbox(key=f"set_purchase_topic.{app.id}").set_value("orders/paid")
    at.text_input(key=f"set_reason.{app.id}").set_value("asked by the shop")
    _submit(at, "Save")
    now = _first(world)
    assert now.allowed_origins == ("www.tea.example", "tea.example")
    assert (now.purchase_topic, now.consent_policy) == ("orders/paid", "require")
    assert _audit(world)[-1] == ("local", "set_app", "asked by the shop")


def test_an_option_that_is_wrong_is_named(world: Engine, opens: Opens) -> None:
    app = _first(world)
    at = _opened(opens)
    at.text_input(key=f"set_allowed_origins.{app.id}").set_value("https://tea.example/x")
    _submit(at, "Save")
    assert "allowed origins" in " ".join(text.value for text in at.text)
    assert _first(world) == app


def test_an_app_is_paused_with_a_reason_and_resumed(world: Engine, opens: Opens) -> None:
    at = _opened(opens)
    at.button(key="pause").click().run()
    at.text_input(key="reason").set_value("the shop is on holiday")
    at.button(key="yes").click().run()
    assert _first(world).paused
    at = _opened(opens, show="paused")
    assert at.dataframe[0].value["State"].tolist() == [["paused"]]
    assert "the shop is on holiday" in at.code[0].value
    at.button(key="pause").click().run()
    at.button(key="yes").click().run()
    assert not _first(world).paused


def test_what_was_typed_for_one_app_is_not_in_anothers_form(world: Engine, opens: Opens) -> None:
    at = _opened(opens)
    first = _first(world)
    at.text_input(key=f"set_forwarded_names.{first.id}").set_value("Spun")
    at.session_state[at.dataframe[0].key] = {"selection": {"rows": [1], "columns": [], "cells": []}}
    at.run()
    boxes = [box for box in at.text_input if box.label == "Events of its own"]
    assert [box.value for box in boxes] == [""]


@pytest.mark.parametrize("role", ["viewer", "support"])
def test_who_is_no_admin_changes_nothing(
    world: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.setattr(console, "operator", lambda: Operator("vera", role))
    at = _opened(opens)
    closed = {button.label: button.disabled for button in at.button}
    assert closed["Connect"]
    assert closed["Pause"]
    assert closed["Save"]
    assert closed["Verify and store"]


def test_an_app_that_nothing_can_be_sent_for_is_found(world: Engine, opens: Opens) -> None:
    at = opens("apps", show="no token", app="nobody has this name")
    assert "No app fits" in at.info[0].value
    assert not at.dataframe


def test_the_system_page_names_every_setting_and_no_secret(
    store: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEBOOK_APP_SECRET", "the-app-secret-nobody-sees")
    monkeypatch.setenv("CAPI_ALERT_URLS", "mailto://anna:hush@mail.example")
    at = opens("system")
    frames = [frame.value for frame in at.dataframe]
    settings = next(frame for frame in frames if "Setting" in frame)
    rows = settings.set_index("Setting")
    assert rows.loc["FACEBOOK_APP_SECRET", "Value"].startswith("set (fp_")
    assert rows.loc["FACEBOOK_APP_SECRET", "From"] == "environment"
    shown = str(at) + "".join(frame.to_csv() for frame in frames)
    assert "nobody-sees" not in shown
    assert "hush" not in shown
    assert "No worker was ever started" in at.info[0].value
    assert "as this program expects" in " ".join(caption.value for caption in at.caption)
