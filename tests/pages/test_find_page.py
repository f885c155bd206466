"""Find as a page: empty, one hit, several, none; and what jobs and alerts show beside it."""

from __future__ import annotations

import re
from html import unescape

import pytest
from sqlalchemy import Engine, select, text
from streamlit.testing.v1 import AppTest

from core import clock
from core.store.database import reading, writing
from core.store.schema import capi_audit, capi_job
from tests.desk import trouble
from tests.desk.rows import MARK
from tests.pages.conftest import Opens
from tests.services.alerting import a_receiver


def _html(at: AppTest) -> str:
    """What stands in the page's own HTML, as it is read."""
    return unescape(
        "\n".join(re.sub(r"<style>.*?</style>", "", one.proto.body, flags=re.DOTALL) for one in at.get("html"))
    )


def _codes(at: AppTest) -> str:
    return "\n".join(code.value for code in at.code)


def _markdown(at: AppTest) -> str:
    kinds = (at.markdown, at.caption, at.subheader, at.header, at.info, at.warning, at.error)
    return "\n".join(element.value for kind in kinds for element in kind)


def _choose(at: AppTest, table: int, row: int) -> AppTest:
    at.session_state[at.dataframe[table].key] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    at.run()
    assert not at.exception, at.exception
    return at


def test_the_empty_box_says_what_can_be_typed(store: Engine, opens: Opens) -> None:
    at = opens("find")
    assert [title.value for title in at.title] == ["Find"]
    assert "Type or paste what you have in hand" in at.info[0].value
    for what in ("An order", "fbtrace_id", "tea.myshopify.com", "app_"):
        assert what in _codes(at)


def test_one_hit_is_its_whole_story(world: Engine, opens: Opens) -> None:
    with writing(world) as conn:
        row = conn.execute(text("SELECT event_id FROM capi_event WHERE failure = 'token_dead' LIMIT 1")).one()
        odd = "UPDATE capi_event SET event_name = '<img src=x>![x](http://evil.example/y.png)' WHERE event_id = :id"
        conn.execute(text(odd).bindparams(id=row.event_id))
    at = opens("find", q=row.event_id)
    shown = _html(at)
    assert "<img src=x>![x](http" in shown, "escaped, and read as it was written"
    assert not any("<img" in one.proto.body for one in at.get("html"))
    assert "It was parked: The access token is gone for good" in shown
    assert re.search(r'title="\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"', shown)
    assert re.search(rf"Event id +{row.event_id}\n", _codes(at))
    assert "Copy for the merchant" in _markdown(at)
    assert "It is not lost" in _codes(at)
    assert "evil.example" not in _markdown(at)
    assert not at.dataframe
    assert MARK not in str(at)


def test_several_hits_are_chosen_from(world: Engine, opens: Opens) -> None:
    with writing(world) as conn:
        conn.execute(text("UPDATE capi_event SET order_id = '#7' WHERE order_id IN ('#1004', '#1010', '#1020')"))
    at = opens("find", q="7")
    assert "3 things are called so" in _markdown(at)
    assert "<table" not in _html(at)
    table = at.dataframe[0].value
    assert list(table["Found by"]) == ["Order"] * 3
    at = _choose(at, 0, 1)
    assert "<table" in _html(at)
    assert f"{table.iloc[1]['What'].split(',')[0]}" in _html(at)


def test_no_hit_says_what_was_searched_and_what_to_check(world: Engine, opens: Opens) -> None:
    typed = "#99999 ![x](http://evil.example/x.png)"
    at = opens("find", q=typed)
    assert typed in _codes(at)
    words = _markdown(at)
    for part in (
        "order numbers and ids",
        "trace ids",
        "capi-console receipts",
        "events are kept for 90 days",
        "silent",
    ):
        assert part in words
    assert "evil.example" not in words


@pytest.mark.parametrize("typed", ["owner3@dune.example", "x" * 10_000, "\x00", "%"])
def test_odd_input_is_answered_in_words(world: Engine, opens: Opens, typed: str) -> None:
    at = opens("find", q=typed)
    assert at.info or at.warning
    assert not at.dataframe


def test_an_e_mail_address_does_not_stay_in_the_box(world: Engine, opens: Opens) -> None:
    at = opens("find")
    at.text_input(key="q").set_value("owner3@dune.example").run()
    assert "People are not searched here" in at.info[0].value
    assert at.text_input(key="q").value == ""


def test_a_shop_is_found_with_its_token_and_its_story(world: Engine, opens: Opens) -> None:
    with reading(world) as conn:
        shop = conn.execute(text("SELECT shop_domain FROM capi_app WHERE app_id = 'app-00003'")).scalar_one()
    at = opens("find", q=shop)
    assert "Meta accepted" in _html(at) or "Meta refused" in _html(at)
    assert "App id" in _codes(at)


# ---- jobs stand still and go on


def _an_open_job(world: Engine, opens: Opens) -> AppTest:
    at = opens("tokens")
    at.button(key="refresh_due").click().run()
    at.button(key="yes").click().run()
    return _choose(opens("jobs"), 0, 0)


def _paused(world: Engine) -> bool:
    with reading(world) as conn:
        return conn.scalar(select(capi_job.c.paused_at).order_by(capi_job.c.id.desc()).limit(1)) is not None


def test_a_job_is_paused_and_goes_on(world: Engine, opens: Opens) -> None:
    at = _an_open_job(world, opens)
    at.button(key="pause").click().run()
    assert "are done;" in _markdown(at)
    at.text_input(key="reason").set_value("the shop called")
    at.button(key="yes").click().run()
    assert _paused(world)
    assert any("paused" in one.proto.text for one in at.get("progress"))
    at = _choose(opens("jobs"), 0, 0)
    assert list(at.dataframe[0].value["State"].iloc[0]) == ["paused"]
    at.button(key="resume").click().run()
    assert not _paused(world)
    with reading(world) as conn:
        said = list(conn.execute(select(capi_audit.c.action, capi_audit.c.reason)))
    assert said[1:] == [("pause_job", "the shop called"), ("resume_job", None)]


# ---- who was told of trouble


def test_system_shows_alerts_incidents_and_who_was_told(world: Engine, opens: Opens) -> None:
    now = clock.now()
    trouble.alerts(world, now=now)
    trouble.incident(world, now=now)
    trouble.failing_channel(world, now=now)
    at = opens("system")
    tables = [frame.value for frame in at.dataframe]
    (told,) = [one for one in tables if "Told" in one]
    assert list(told["Told"]) == ["nobody yet"] * 3
    assert any("Refusals" in one for one in tables)
    assert at.button(key="test_alert").disabled, "no address is set"
    assert trouble.EVIL not in _markdown(at)


def test_a_test_alert_is_sent_and_audited(world: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_receiver() as hook:
        monkeypatch.setenv("CAPI_ALERT_URLS", hook.address)
        monkeypatch.setenv("CAPI_ALLOW_PRIVATE_URLS", "true")
        at = opens("system")
        at.button(key="test_alert").click().run()
        assert not at.exception
        assert len(hook.bodies) == 1
        assert "1 of 1 addresses took the test message" in "\n".join(one.value for one in at.success)
        hook.status = 500
        at.button(key="test_alert").click().run()
        assert "0 of 1 addresses" in at.warning[0].value
        assert "s3cret" not in str(at)
    with reading(world) as conn:
        assert list(conn.scalars(select(capi_audit.c.action))) == ["test_alerts"] * 2


def test_an_empty_system_says_that_there_was_no_alert(store: Engine, opens: Opens) -> None:
    words = _markdown(opens("system"))
    assert "There was no alert" in words
    assert "Nothing was wrong for all shops at once" in words
