"""Recovery on screen: incidents and alerts, the case and its link, one token in full, and what each role may do."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from streamlit.testing.v1 import AppTest

from core import clock
from core.desk.explain_tokens import CASES, FINDINGS, INCIDENTS
from core.doors import console_paste
from core.errors import Refused
from core.sandbox.client import Sandbox
from core.secret import Secret
from core.store.database import reading
from core.store.schema import capi_audit, capi_case
from core.store.schema_recovery import capi_incident
from tests.desk import trouble
from tests.desk.rows import MARK
from tests.pages.conftest import Opens
from tests.world import APP_ID, APP_SECRET

SECRET = APP_SECRET
PASTED = "EAApastedTokenThatNobodyMaySee"


@pytest.fixture(autouse=True)
def _our_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEBOOK_APP_ID", APP_ID)
    monkeypatch.setenv("FACEBOOK_APP_SECRET", SECRET)
    monkeypatch.setenv("CAPI_GRAPH_URL", "http://127.0.0.1:1")


def _choose(at: AppTest, table: int, row: int) -> AppTest:
    at.session_state[at.dataframe[table].key] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    at.run()
    assert not at.exception, at.exception
    return at


def _words(at: AppTest) -> str:
    """What is shown as Markdown: no foreign text may be in it."""
    kinds = (at.markdown, at.caption, at.subheader, at.header, at.info, at.warning, at.error, at.toast)
    return "\n".join(element.value for kind in kinds for element in kind)


def _plain(at: AppTest) -> str:
    return "\n".join(element.value for kind in (at.code, at.text) for element in kind)


def _case_at(engine: Engine, state: str, opens: Opens) -> AppTest:
    trouble.open_cases(engine, now=clock.now(), states=(state,))
    return _choose(opens("reconnect", show="all"), 0, 0)


def _row(engine: Engine) -> Any:
    with reading(engine) as conn:
        return conn.execute(select(capi_case)).one()


def _button(at: AppTest, key: str) -> Any:
    return at.button(key=key)


# ---- the first page


def test_an_incident_is_the_first_thing_one_sees(world: Engine, opens: Opens) -> None:
    trouble.incident(world, now=clock.now(), kind="app_config")
    at = opens()
    assert at.subheader[0].value.endswith(INCIDENTS["app_config"].what)
    assert "events wait and go out by themselves" in _words(at)
    assert INCIDENTS["app_config"].do in _words(at)
    assert "TrAcEoFiNcIdEnT" in _plain(at), "not in Markdown: it is Meta's"
    assert "TrAcEoFiNcIdEnT" not in _words(at)
    assert "Error validating client secret" in _plain(at)
    assert trouble.EVIL not in _words(at)


def test_every_kind_of_incident_has_a_banner(world: Engine, opens: Opens) -> None:
    kinds = re.findall(r"'(\w+)'", str(next(c for c in capi_incident.constraints if "kind" in str(c.name)).sqltext))
    for kind in kinds:
        trouble.incident(world, now=clock.now(), kind=kind)
    at = opens()
    assert len(kinds) == 3
    assert [head.value for head in at.subheader if "warning" in head.value].__len__() == 3


def test_alerts_stand_below_with_what_to_do_and_the_worst_first(world: Engine, opens: Opens) -> None:
    trouble.alerts(world, now=clock.now(), count=12)
    at = opens()
    table = next(frame.value for frame in at.dataframe if "Alert" in frame.value)
    assert len(table) == 5
    assert table["What to do"].str.len().min() > 10
    assert "And 7 more" in _words(at)
    assert trouble.EVIL not in _words(at)


def test_an_address_that_takes_no_alert_is_named(world: Engine, opens: Opens) -> None:
    trouble.failing_channel(world, now=clock.now())
    at = opens()
    table = next(frame.value for frame in at.dataframe if "Channel" in frame.value)
    assert tuple(table.iloc[0][["Channel", "Failed"]]) == ("mail to ops.example", 4)
    assert "alerts reach nobody" in _words(at)


def test_the_first_page_says_how_the_console_is_set_up(
    store: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Nobody is told of trouble" in _words(opens())
    monkeypatch.setenv("CAPI_ALERT_URLS", "json://ops.example/hook")
    monkeypatch.setenv("CAPI_PUBLIC_URL", "https://events.example")
    import streamlit as st

    st.cache_resource.clear()
    words = _words(opens())
    assert "Alerts go to 1 address." in words
    assert "Reconnect links lead to https://events.example" in words
    assert "ops.example" not in words
    assert "Tokens are stored" in words


# ---- cases


def test_no_case_says_what_would_open_one(store: Engine, opens: Opens) -> None:
    at = opens("reconnect")
    assert [title.value for title in at.title] == ["Reconnect"]
    assert "a case opens here by itself" in at.info[0].value
    assert not at.dataframe


def test_only_done_cases_say_so(world: Engine, opens: Opens) -> None:
    trouble.open_cases(world, now=clock.now(), states=("done",))
    at = opens("reconnect")
    assert "Every owner has connected again" in at.info[0].value
    at = _choose(opens("reconnect", show="all"), 0, 0)
    assert [metric.value for metric in at.metric] == ["1 d 22 h"]
    assert "make" not in {button.key for button in at.button}


@pytest.mark.parametrize(
    ("state", "step"),
    [
        ("made", "Send the reconnect link"),
        ("sent", "Link sent 2 days ago, reminder tomorrow"),
        ("opened", "The last login was not taken: see why in its case"),
        ("expired", "The link has ended: make a new one and send it"),
    ],
)
def test_a_case_says_whose_move_it_is(world: Engine, opens: Opens, state: str, step: str) -> None:
    at = _case_at(world, state, opens)
    assert list(at.dataframe[0].value["Next step"]) == [step]
    assert at.subheader[0].value == step
    assert "The session has been invalidated" in _plain(at)
    assert trouble.EVIL not in _words(at)


def test_the_token_list_says_the_same(world: Engine, opens: Opens) -> None:
    trouble.open_cases(world, now=clock.now(), states=("sent",))
    rows = opens("tokens", token="owner0@").dataframe[0].value
    assert set(rows["Next step"]) == {"Link sent 2 days ago, reminder tomorrow"}


def test_a_link_is_made_once_and_shown_with_its_message(world: Engine, opens: Opens) -> None:
    at = _case_at(world, "made", opens)
    _button(at, "make").click().run()
    row = _row(world)
    link = next(code.value for code in at.code if code.value.startswith("http"))
    assert (row.state, row.sent_by) == ("sent", "local")
    assert "/reconnect/" in link
    assert any(link in code.value and "Hello," in code.value for code in at.code)
    assert at.get("link_button")[0].proto.url.startswith("mailto:owner0%40")
    with reading(world) as conn:
        assert list(conn.scalars(select(capi_audit.c.action))) == ["make_link"]
    at.run()
    assert _row(world).nonce == row.nonce


def test_a_new_link_is_asked_about_because_it_ends_the_one_before(world: Engine, opens: Opens) -> None:
    at = _case_at(world, "sent", opens)
    before = _row(world).nonce
    _button(at, "make_new").click().run()
    assert "ends at once" in _words(at)
    assert _row(world).nonce == before
    _button(at, "yes").click().run()
    assert not at.exception
    assert _row(world).nonce != before
    assert any(code.value.startswith("http") for code in at.code)


def test_a_reminder_shows_the_same_link_and_plans_the_next(world: Engine, opens: Opens) -> None:
    at = _case_at(world, "sent", opens)
    before = _row(world)
    _button(at, "remind").click().run()
    after = _row(world)
    assert (after.nonce, after.reminders) == (before.nonce, 1)
    assert after.remind_at is None or after.remind_at > before.remind_at
    assert any("Reminder" in code.value for code in at.code)


def test_an_expired_link_is_replaced_without_a_question(world: Engine, opens: Opens) -> None:
    at = _case_at(world, "expired", opens)
    _button(at, "make").click().run()
    assert _row(world).state == "sent"


def test_another_meta_user_is_accepted_with_both_ids_and_a_reason(world: Engine, opens: Opens) -> None:
    at = _case_at(world, "opened", opens)
    assert CASES["other_user"].do in _words(at)
    assert "before: 1001; now: 2002" in _plain(at)
    _button(at, "accept").click().run()
    at.text_input(key="reason").set_value("new owner, they called")
    _button(at, "yes").click().run()
    assert _row(world).accepted_user == "2002"
    with reading(world) as conn:
        assert list(conn.scalars(select(capi_audit.c.reason))) == ["new owner, they called"]
    assert "accept" not in {button.key for button in at.button}


def test_without_an_app_secret_no_link_is_made_and_the_page_says_why(
    world: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FACEBOOK_APP_SECRET")
    at = _case_at(world, "made", opens)
    _button(at, "make").click().run()
    assert "FACEBOOK_APP_SECRET" in _plain(at)
    assert _row(world).state == "made"


def test_a_link_is_shown_only_to_who_made_it(world: Engine, opens: Opens) -> None:
    at = _case_at(world, "made", opens)
    _button(at, "make").click().run()
    other = _choose(opens("reconnect"), 0, 0)
    assert not any("/reconnect/" in code.value for code in other.code)


def test_cases_are_searched(world: Engine, opens: Opens) -> None:
    trouble.open_cases(world, now=clock.now())
    assert list(opens("reconnect", case="owner1@").dataframe[0].value["Owner"]) == ["owner1@birch.example"]
    assert "No case fits" in opens("reconnect", case="nobody").info[0].value


# ---- one token in full


def _token(opens: Opens, **widgets: object) -> AppTest:
    return _choose(opens("tokens", **widgets), 0, 0)


def test_one_token_in_full(world: Engine, opens: Opens) -> None:
    fingerprint = trouble.unreached(world, "app-00000", now=clock.now())
    trouble.open_cases(world, now=clock.now(), states=("sent",))
    at = _token(opens, token="owner0@")
    facts = _plain(at)
    for expected in (fingerprint, "owner0@amber.example", "USER", "ads_management, business_management", "1234567890"):
        assert expected in facts
    assert FINDINGS["pixel_unreachable"].what in _words(at)
    assert "TrAcEoFrEaCh" in facts
    assert "Reconnect case" in _words(at)
    holders = at.dataframe[1].value
    assert sorted(map(tuple, holders["Reached"])) == [("no",), ("not known",), ("not known",)]
    assert len(at.dataframe[2].value) == 1
    assert trouble.EVIL not in _words(at)
    assert MARK not in str(at)


def test_several_tokens_show_no_drawer(world: Engine, opens: Opens) -> None:
    at = opens("tokens")
    at.session_state[at.dataframe[0].key] = {"selection": {"rows": [0, 1], "columns": [], "cells": []}}
    at.run()
    assert len(at.dataframe) == 1
    assert "diagnose" not in {button.key for button in at.button}


def test_an_app_without_a_token_can_be_given_one(world: Engine, opens: Opens) -> None:
    with world.begin() as conn:
        conn.execute(text("""UPDATE "AppSettings" SET "metaAccessToken" = NULL WHERE "appId" = 'app-00000'"""))
        conn.execute(text("UPDATE capi_app SET fingerprint = NULL WHERE app_id = 'app-00000'"))
    at = _token(opens, token="amber-goods-0.")
    assert at.subheader[0].value == "This app has no token yet"
    assert _field(at)


def test_a_diagnosis_says_what_failed_and_what_to_do(world: Engine, opens: Opens) -> None:
    at = _token(opens, token="owner0@")
    _button(at, "diagnose").click().run()
    assert not at.exception
    checks = at.dataframe[-1].value
    results = {row.Check: row.Result[0] for row in checks.itertuples()}
    assert results["Meta app"] == "failed"
    assert results["Settings"] == "ok"
    assert "not checked" in results.values()
    assert re.search(r"\d+ of \d+ checks failed", _words(at))
    assert MARK not in str(at)
    assert SECRET not in str(at)


def test_a_test_event_comes_with_a_warning_and_goes_with_its_code(
    world: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("core.desk.diagnosis.diagnose", lambda *_, **more: asked.append(more) or [])
    at = _token(opens, token="owner0@")
    assert "does not drop" not in _words(at)
    at.text_input(key="test_code").set_value(" TEST123 ").run()
    assert "Meta does not drop test events: it counts them" in _words(at)
    assert asked == []
    _button(at, "diagnose").click().run()
    assert [(more["test_event_code"], more["app"][:4]) for more in asked] == [("TEST123", "app_")]


def test_a_refused_diagnosis_is_one_sentence(world: Engine, opens: Opens) -> None:
    at = _token(opens, token="owner0@", test_code="not a code!")
    _button(at, "diagnose").click().run()
    assert "not carried out" in _words(at)
    assert len(_plain(at)) > 10


def test_only_one_diagnosis_runs_at_a_time(world: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.doors import console_tokens

    monkeypatch.setattr("core.desk.diagnosis.diagnose", lambda *_, **__: pytest.fail("a second one ran"))
    at = _token(opens, token="owner0@")
    with console_tokens._ONE_AT_A_TIME:
        _button(at, "diagnose").click().run()
    assert "Another diagnosis runs just now" in _words(at)


# ---- a token that is pasted


def _field(at: AppTest) -> Any:
    return next(field for field in at.text_input if field.label == "Access token")


def _ticked(at: AppTest) -> Any:
    return next(box for box in at.checkbox if box.label.startswith("Another Meta user"))


def _give(at: AppTest, token: str) -> AppTest:
    _field(at).set_value(token)
    next(button for button in at.button if button.label == "Verify and store").click().run()
    assert not at.exception, at.exception
    return at


@pytest.fixture
def played(meta: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    monkeypatch.setenv("CAPI_GRAPH_URL", meta.url)
    return meta


def test_a_pasted_token_is_verified_stored_and_never_shown(world: Engine, opens: Opens, played: Sandbox) -> None:
    given = played.create_token(token=PASTED, user="100000000")
    at = _give(_token(opens, token="owner0@"), PASTED)
    assert f"Token {given.fingerprint} is stored for 3 apps" in " ".join(toast.value for toast in at.toast)
    with reading(world) as conn:
        held = conn.scalars(text("SELECT fingerprint FROM capi_app WHERE app_id <= 'app-00002'"))
        assert set(held) == {given.fingerprint}
        assert "set_token" in set(conn.scalars(select(capi_audit.c.action)))
    assert _field(at).value == ""
    assert PASTED not in str(at)
    assert PASTED not in repr(at.session_state)


def test_what_was_ticked_for_one_app_is_not_ticked_for_another(
    world: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = _choose(opens("tokens"), 0, 0)
    _ticked(at).check()
    next(field for field in at.text_input if field.label == "Reason").set_value("merchant A said so").run()
    at = _choose(at, 0, 5)
    assert not _ticked(at).value
    assert next(field for field in at.text_input if field.label == "Reason").value == ""


def test_a_token_is_stored_for_the_app_that_was_on_screen(
    world: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row leaves the list between the look and the press: here by a search typed in the same moment."""
    asked: list[str] = []

    def take(_service: object, public_id: str, *_: object, **__: object) -> None:
        asked.append(public_id)
        raise Refused("not today")

    monkeypatch.setattr(console_paste.commands, "set_token", take)
    at = _choose(opens("tokens", token="owner0@"), 0, 0)
    _field(at).set_value(PASTED)
    at.text_input(key="token").set_value("owner7@")
    next(button for button in at.button if button.label == "Verify and store").click().run()
    with reading(world) as conn:
        owner = conn.scalar(
            text('SELECT email FROM "User" JOIN "App" ON "App"."userId" = "User".id WHERE "appId" = :app').bindparams(
                app=asked[0]
            )
        )
    assert str(owner).startswith("owner0@")
    _choose(at, 0, 0)
    assert len(asked) == 1
    assert PASTED not in repr(at.session_state)


def test_a_token_that_meta_refuses_is_not_stored_and_the_page_says_why(
    world: Engine, opens: Opens, played: Sandbox
) -> None:
    played.kill(played.create_token(token=PASTED), 460)
    at = _give(_token(opens, token="owner0@"), PASTED)
    assert "nothing was stored" in _plain(at)
    assert Secret(PASTED).fingerprint not in str(at.dataframe[0].value)
    assert PASTED not in str(at)


@pytest.mark.parametrize("typed", ["", "two words", "x" * 5_000, "EAA\tx"])
def test_what_is_no_token_is_refused_before_meta_is_asked(
    world: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.setattr(console_paste.commands, "set_token", lambda *_, **__: pytest.fail("it was taken"))
    assert "not a token" in _plain(_give(_token(opens, token="owner0@"), typed))


def test_what_one_should_know_of_a_stored_token_is_said(
    world: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Refused(f"this token belongs to another {trouble.EVIL}")

    monkeypatch.setattr(console_paste.commands, "set_token", refuse)
    at = _give(_token(opens, token="owner0@"), PASTED)
    assert trouble.EVIL in _plain(at)
    assert trouble.EVIL not in _words(at)


def test_many_cases_show_no_token_and_a_bounded_page(world: Engine, opens: Opens) -> None:
    now = clock.now()
    trouble.open_cases(world, now=now)
    with world.begin() as conn:
        row = {"user_id": "user-00005", "state": "done", "failure": "token_dead", "made_at": now - timedelta(days=2)}
        more = [{**row, "fingerprint": f"fp_{n:016x}", "done_at": now} for n in range(250)]
        conn.execute(capi_case.insert(), more)
    at = opens("reconnect", show="all")
    assert len(at.dataframe[0].value) == 200
    assert "The first 200" in _words(at)
    assert MARK not in str(at)
