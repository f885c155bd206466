"""People & audit: who may do what, and who did what; each role sees it and only admins change it."""

from __future__ import annotations

import pytest
import streamlit as st
from sqlalchemy import Engine, update
from streamlit.testing.v1 import AppTest

from core import clock
from core.desk import audit_trail, commands, people
from core.desk.operators import Operator
from core.doors import console
from core.secret import Secret
from core.services import sign_in
from core.services.sign_in import LOCAL
from core.store.database import reading, writing
from core.store.schema import capi_audit, capi_job, capi_operator, capi_session
from tests.pages.conftest import Opens

PASSWORD = "correct horse battery"

pytestmark = pytest.mark.usefixtures("quick_passwords")


@pytest.fixture
def staff(store: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Ada, an admin, looks at the page; Bob is support."""
    for name, role in (("ada", "admin"), ("bob", "support")):
        people.add_operator(store, name, role=role, password=PASSWORD, by=LOCAL, now=clock.now())
    _looks(monkeypatch, "ada", "admin")
    return store


def _looks(monkeypatch: pytest.MonkeyPatch, name: str, role: str) -> None:
    monkeypatch.setattr(console, "operator", lambda: Operator(name, role))


def _rows(engine: Engine) -> dict[str, tuple[str, str]]:
    with reading(engine) as conn:
        return {row.name: (row.role, row.state) for row in people.operator_rows(conn, now=clock.now())}


def _chosen(opens: Opens, row: int) -> AppTest:
    at = opens("people")
    at.session_state[at.dataframe[0].key] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    return at.run()


def _press(at: AppTest, label: str) -> AppTest:
    next(button for button in at.button if button.label == label).click().run()
    assert not at.exception, at.exception
    return at


def test_an_empty_page_says_how_the_first_operator_is_made(store: Engine, opens: Opens) -> None:
    at = opens("people")
    assert "Nobody signs in here" in at.info[0].value
    assert at.code[0].value == "capi-console operator add NAME --role admin"
    assert "No line fits" in at.info[1].value


def test_the_page_shows_operators_and_the_trail(staff: Engine, opens: Opens) -> None:
    at = opens("people")
    operators, trail = (frame.value for frame in at.dataframe)
    assert operators["Name"].tolist() == ["ada", "bob"]
    assert operators["State"].tolist() == [["active"], ["active"]]
    assert trail["Object"].tolist() == ["operator bob (support)", "operator ada (admin)"]
    assert any("chain of 2 lines is unbroken" in caption.value for caption in at.caption)
    assert "scrypt" not in str(at)


def test_an_operator_is_added_and_the_password_stays_nowhere(staff: Engine, opens: Opens) -> None:
    at = opens("people")
    at.text_input(key="new.name").set_value("Eve")
    at.selectbox(key="new.role").set_value("support")
    at.text_input(key="new.password").set_value("short")
    _press(at, "Add")
    assert "too short" in " ".join(text.value for text in at.text)
    assert at.text_input(key="new.name").value == "Eve"
    at.text_input(key="new.password").set_value(PASSWORD)
    _press(at, "Add")
    assert _rows(staff)["eve"] == ("support", "active")
    assert not at.text_input(key="new.password").value
    assert PASSWORD not in str(at)


def test_an_operator_is_added_who_signs_in_elsewhere(
    staff: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not opens("people").checkbox
    for name, value in (("ISSUER", "https://login.example.com"), ("CLIENT_ID", "x"), ("CLIENT_SECRET", "hush-hush")):
        monkeypatch.setenv(f"CAPI_OIDC_{name}", value)
    st.cache_resource.clear()
    at = opens("people")
    at.text_input(key="new.name").set_value("ana@example.com")
    at.checkbox(key="new.elsewhere").check()
    _press(at, "Add")
    assert _rows(staff)["ana@example.com"] == ("viewer", "active")
    with reading(staff) as conn:
        assert [row.has_password for row in people.operator_rows(conn, now=clock.now())] == [True, False, True]
    assert "Viewer, without a password; last sign-in" in " ".join(line.value for line in _chosen(opens, 1).caption)
    assert not at.checkbox(key="new.elsewhere").value, "the next one is asked anew"
    at.text_input(key="new.name").set_value("zoe@example.com")
    at.text_input(key="new.password").set_value(PASSWORD)
    at.checkbox(key="new.elsewhere").check()
    _press(at, "Add")
    assert "zoe@example.com" not in _rows(staff), "a password is not dropped without a word"
    assert "choose one of the two" in " ".join(text.value for text in at.text)


def test_a_role_is_changed_with_a_reason(staff: Engine, opens: Opens) -> None:
    at = _chosen(opens, 1)
    at.selectbox(key="role.bob").set_value("viewer").run()
    _press(at, "Change the role")
    at.text_input(key="reason").set_value("on leave")
    at.button(key="yes").click().run()
    assert _rows(staff)["bob"] == ("viewer", "active")
    with reading(staff) as conn:
        last = conn.execute(capi_audit.select().order_by(capi_audit.c.id.desc())).first()
    assert last is not None
    assert (last.by, last.action, last.reason) == ("ada", "set_operator_role", "on leave")


def test_an_operator_is_disabled_and_let_in_again(staff: Engine, opens: Opens) -> None:
    at = _press(_chosen(opens, 1), "Disable")
    at.button(key="yes").click().run()
    assert _rows(staff)["bob"] == ("support", "disabled")
    at = _press(_chosen(opens, 1), "Let in again")
    at.button(key="yes").click().run()
    assert _rows(staff)["bob"] == ("support", "active")


def test_the_last_admin_cannot_be_disabled(staff: Engine, opens: Opens) -> None:
    at = _press(_chosen(opens, 0), "Disable")
    at.button(key="yes").click().run()
    assert "last admin" in " ".join(text.value for text in at.text)
    assert _rows(staff)["ada"] == ("admin", "active")


def test_another_password_is_set_and_ends_their_sessions(staff: Engine, opens: Opens) -> None:
    with writing(staff) as conn:
        conn.execute(capi_session.insert().values(hash="x", operator_id=2, started_at=clock.now(), seen_at=clock.now()))
    at = _chosen(opens, 1)
    at.text_input(key="new.password.bob").set_value("another long one")
    _press(at, "Set it")
    assert not at.text_input(key="new.password.bob").value
    with reading(staff) as conn:
        assert conn.execute(capi_session.select()).all() == []


def test_everybody_changes_their_own_password(staff: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    _looks(monkeypatch, "bob", "viewer")
    at = opens("people")
    at.text_input(key="own.now").set_value(PASSWORD)
    at.text_input(key="own.new").set_value("nobody else knows it")
    _press(at, "Change it")
    assert not at.text_input(key="own.now").value
    assert not at.text_input(key="own.new").value
    with reading(staff) as conn:
        assert audit_trail.audit_trail(conn)[0].action == "change_password"
    assert "nobody else knows it" not in str(at)


@pytest.mark.parametrize("role", ["viewer", "support"])
def test_who_is_no_admin_looks_and_reads_why(
    staff: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    _looks(monkeypatch, "bob", role)
    at = _chosen(opens, 0)
    closed = {button.label: button.disabled for button in at.button}
    assert all(closed[label] for label in ("Add", "Change the role", "Disable", "Set it"))
    assert f"Needs the role admin; yours is {role}." in [caption.value for caption in at.caption]
    assert len(at.dataframe[1].value) == 2


@pytest.mark.parametrize(("role", "closed"), [("viewer", True), ("support", True), ("admin", False)])
def test_who_is_signed_in_stands_beside_every_page(
    staff: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch, role: str, closed: bool
) -> None:
    _looks(monkeypatch, "bob", role)
    beside = opens("overview").sidebar
    assert [text.value for text in beside.text] == [f"bob, {role}"]
    assert any("closed to you" in caption.value for caption in beside.caption) is closed
    form = next(one.proto.body for one in beside.get("html"))
    assert 'method="post" action="/logout"' in form


def test_the_trail_is_filtered_from_the_address(staff: Engine, opens: Opens) -> None:
    commands.add_api_key(staff, title="cron", scope="refresh", by=Operator("ada", "admin"), now=clock.now())
    at = opens("people", who="ADA", action="add_api_key")
    assert at.dataframe[1].value["Object"].tolist() == ["cron (refresh)"]
    at = opens("people", about="operator b")
    assert at.dataframe[1].value["Object"].tolist() == ["operator bob (support)"]
    assert "No line fits" in opens("people", who="nobody of this name").info[0].value


def test_a_tampered_line_is_named_in_red(staff: Engine, opens: Opens) -> None:
    with writing(staff) as conn:
        conn.execute(update(capi_audit).where(capi_audit.c.id == 2).values(by="zoe"))
    st.cache_data.clear()
    at = opens("people")
    assert "Line 2 was changed afterwards" in at.error[0].value


def test_a_button_asks_who_is_there_when_it_is_pressed(
    world: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, role in (("ada", "admin"), ("bob", "support")):
        people.add_operator(world, name, role=role, password=PASSWORD, by=LOCAL, now=clock.now())
    cookie = sign_in.sign_in(world, "bob", Secret(PASSWORD), address="192.0.2.1", now=clock.now())
    monkeypatch.setattr(console, "_cookie", lambda: cookie)
    monkeypatch.setattr(console, "operator", lambda: console.SignedIn("bob", "support"))
    for change, words in (
        ({"role": "viewer"}, "needs the role support; bob is viewer"),
        ({"role": "support", "disabled_at": clock.now()}, "bob is not signed in any more"),
    ):
        at = opens("tokens")
        at.button(key="refresh_due").click().run()
        with writing(world) as conn:  # beside every way that ends his session, too
            conn.execute(update(capi_operator).where(capi_operator.c.name == "bob").values(**change))
        at.button(key="yes").click().run()
        assert words in " ".join(text.value for text in at.text)
        with reading(world) as conn:
            assert conn.execute(capi_job.select().where(capi_job.c.by == "bob")).all() == []
        with writing(world) as conn:
            back = {"role": "support", "disabled_at": None}
            conn.execute(update(capi_operator).where(capi_operator.c.name == "bob").values(**back))


def test_the_local_one_has_nothing_to_sign_out_of_and_a_stranger_sees_nothing(store: Engine, opens: Opens) -> None:
    at = opens("overview")
    assert not [text for text in at.sidebar.text if "local" in text.value]
    people.add_operator(store, "ada", role="admin", password=PASSWORD, by=LOCAL, now=clock.now())
    at = opens("people")
    assert [title.value for title in at.title] == ["You are signed out"]
    assert not at.dataframe
