"""What is ordered on a page, and one thing in full, in words."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import Engine, select, text
from streamlit.testing.v1 import AppTest

from core.desk.explain import FAILURES, OUTCOMES, explain
from core.desk.operators import Operator
from core.store.database import reading
from core.store.schema import capi_audit, capi_job, capi_job_item
from tests.pages.conftest import Opens


def _choose(at: AppTest, table: int, rows: list[int]) -> AppTest:
    selection = {"selection": {"rows": rows, "columns": [], "cells": []}}
    at.session_state[at.dataframe[table].key] = selection
    return at.run()


def _job(engine: Engine) -> tuple[str, int, str | None] | None:
    with reading(engine) as conn:
        j = capi_job.c
        row = conn.execute(select(j.kind, j.total, j.reason).order_by(j.id.desc())).first()
    return tuple(row) if row else None


def test_selected_tokens_become_one_job(world: Engine, opens: Opens) -> None:
    at = _choose(opens("tokens"), 0, [0, 1, 5])
    at.button(key="refresh").click().run()
    assert "3 apps are selected" in " ".join(m.value for m in at.markdown)
    at.text_input(key="reason").set_value("end of month")
    at.button(key="yes").click().run()
    assert not at.exception
    assert _job(world) == ("refresh_tokens", 2, "end of month")
    assert len(at.get("progress")) == 1
    with reading(world) as conn:
        assert conn.execute(select(capi_audit.c.by, capi_audit.c.action)).one() == ("local", "refresh_tokens")


def test_selected_apps_are_the_ones_shown(world: Engine, opens: Opens) -> None:
    at = _choose(opens("tokens", q="owner3@"), 0, [0])
    token = at.dataframe[0].value.iloc[0]["Token"]
    at.button(key="refresh").click().run()
    at.button(key="yes").click().run()
    with reading(world) as conn:
        assert list(conn.scalars(select(capi_job_item.c.subject))) == [token]


def test_a_selection_follows_its_row_when_another_arrives(world: Engine, opens: Opens) -> None:
    at = _choose(opens("failed_events", show="dead"), 1, [2])
    before = at.dataframe[1].value.iloc[2]["Event id"]
    with world.begin() as conn:
        newest = "SELECT id FROM capi_event WHERE state = 'delivered' ORDER BY id DESC LIMIT 1"
        conn.execute(text(f"UPDATE capi_event SET state = 'dead', deadline_at = '2099-01-01' WHERE id = ({newest})"))
    at.run()
    chosen = at.session_state["events.chosen"]
    with reading(world) as conn:
        found = conn.scalar(text(f"SELECT event_id FROM capi_event WHERE id = {chosen[0]}"))
    assert found == before
    assert at.dataframe[1].value.iloc[3]["Event id"] == before


def test_refresh_all_due(world: Engine, opens: Opens) -> None:
    at = opens("tokens")
    at.button(key="refresh_due").click().run()
    at.button(key="yes").click().run()
    job = _job(world)
    assert job is not None
    assert job[0] == "refresh_tokens"
    assert job[1] > 3


def test_selected_events_are_retried(world: Engine, opens: Opens) -> None:
    at = _choose(opens("failed_events", show="dead"), 1, [0, 1, 2])
    at.button(key="retry").click().run()
    assert "3 of 3 selected events go out again" in " ".join(m.value for m in at.markdown)
    at.button(key="yes").click().run()
    assert _job(world) == ("retry_events", 3, None)
    assert at.session_state["events.chosen"] == []


def test_a_hopeless_retry_is_refused_on_the_page(world: Engine, opens: Opens) -> None:
    at = _choose(opens("failed_events", show="waiting"), 1, [0])
    at.button(key="retry").click().run()
    assert at.button(key="yes").disabled
    assert "waits for its token" in " ".join(line.value for line in at.markdown)
    assert _job(world)[0:2] == ("refresh_tokens", 40)  # type: ignore[index]


def test_one_event_in_detail(world: Engine, opens: Opens) -> None:
    at = _choose(opens("failed_events", show="dead"), 1, [0])
    shown = "\n".join(code.value for code in at.code)
    when = next(html.proto.body for html in at.get("html") if "Lost at" in html.proto.body)
    reached = r'<time datetime="[^"]+" title="[^"]+ UTC" tabindex="0">'
    assert re.search(rf"<th scope=row>Lost at</th><td>{reached}\d\d \w{{3}} \d\d:\d\d<", when)
    assert "evil.example" in shown
    assert "evil.example" not in "\n".join(m.value for m in at.markdown)
    assert "203.0.113.7" not in str(at)


def test_one_refresh_in_detail(world: Engine, opens: Opens) -> None:
    at = _choose(opens("refresh_history", outcome=["needs_reconnect"]), 0, [0])
    assert "evil.example" in at.code[0].value
    assert "190/460, password changed" in at.code[0].value
    assert "evil.example" not in "\n".join(m.value for m in at.markdown)


@pytest.mark.parametrize("outcome", list(OUTCOMES))
def test_every_outcome_is_explained_beside_metas_words(world: Engine, opens: Opens, outcome: str) -> None:
    with world.begin() as conn:
        conn.execute(text("UPDATE capi_refresh SET outcome = :outcome").bindparams(outcome=outcome))
    at = _choose(opens("refresh_history", outcome=[outcome]), 0, [0])
    assert OUTCOMES[outcome].what in at.subheader[0].value
    assert OUTCOMES[outcome].do in "\n".join(c.value for c in at.caption)
    assert "Trace id    AbCdEf" in at.code[0].value


@pytest.mark.parametrize("failure", [*FAILURES, "no_token", "past_deadline"])
def test_every_failure_is_explained_beside_metas_words(world: Engine, opens: Opens, failure: str) -> None:
    with world.begin() as conn:
        conn.execute(text("UPDATE capi_event SET failure = :f WHERE state = 'dead'").bindparams(f=str(failure)))
    at = _choose(opens("failed_events", show="dead"), 1, [0])
    said = explain(failure)
    assert at.subheader[-1].value == said.what
    assert f"{said.whose}: {said.do}." in [c.value for c in at.caption]
    assert "Trace id    TrAcE" in at.code[1].value


def test_a_job_is_cancelled(world: Engine, opens: Opens) -> None:
    at = opens("tokens")
    at.button(key="refresh_due").click().run()
    at.button(key="yes").click().run()
    at = _choose(opens("jobs"), 0, [0])
    next(b for b in at.button if b.label == "Cancel this job").click().run()
    at.button(key="yes").click().run()
    with reading(world) as conn:
        states = list(conn.scalars(select(capi_job.c.state).order_by(capi_job.c.id)))
    assert states == ["done", "cancelled"]


def test_a_role_taken_away_meanwhile_is_refused(world: Engine, opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opens("tokens")
    at.button(key="refresh_due").click().run()
    monkeypatch.setattr(Operator, "may", lambda *_: False)
    at.button(key="yes").click().run()
    assert "needs the role" in " ".join(t.value for t in at.text)
    assert _job(world)[1] == 40  # type: ignore[index]


def test_a_database_that_is_not_migrated_says_what_to_run(
    postgres: str, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres)
    assert "capi-console migrate" in opens().code[0].value
