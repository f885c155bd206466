"""Reconnect cases: legal moves only, and nobody moves a case twice."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, insert, select

from core.errors import Conflict
from core.store import cases, history
from core.store.database import reading, writing
from core.store.schema import capi_case

DAY = timedelta(days=1)
LOGIN = "a" * 64


def a_case(conn: Connection, state: str, now: datetime) -> int:
    row: dict[str, Any] = {"user_id": "u1", "fingerprint": f"fp_{state}", "state": state, "failure": "token_dead"}
    row |= {"made_at": now, "done_at": now if state == "done" else None}
    if state != "made":
        row |= {"nonce": "n1", "sent_at": now, "link_ends_at": now if state == "expired" else now + 7 * DAY}
    return int(conn.scalar(insert(capi_case).values(**row).returning(capi_case.c.id)) or 0)


VERBS = {
    "send": lambda conn, case, now: cases.send(
        conn, case, nonce="n2", ends_at=now + 7 * DAY, remind_at=now + 3 * DAY, by="ada", now=now
    ),
    "open": lambda conn, case, now: cases.begin(conn, case, nonce="n1", login_hash=LOGIN, ends_at=now + DAY, now=now),
}


@pytest.mark.parametrize("state", cases.STATES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_case_moves_where_the_table_allows_it(engine: Engine, now: datetime, verb: str, state: str) -> None:
    origins, leads_to = cases.MOVES[verb]
    with writing(engine) as conn:
        case = a_case(conn, state, now)
    if state in origins:
        with writing(engine) as conn:
            VERBS[verb](conn, case, now)
    else:
        with pytest.raises(Conflict), writing(engine) as conn:
            VERBS[verb](conn, case, now)
    assert stored(engine, case).state == (leads_to if state in origins else state)


@pytest.mark.parametrize("state", cases.STATES)
def test_mending_ends_a_case_in_any_state_once(engine: Engine, now: datetime, state: str) -> None:
    with writing(engine) as conn:
        case = a_case(conn, state, now)
        cases.close(conn, f"fp_{state}", now=now + DAY)
    row = stored(engine, case)
    assert (row.state, row.done_at, row.remind_at) == ("done", now if state == "done" else now + DAY, None)


def test_links_that_are_over_expire_and_the_case_stays_open(engine: Engine, now: datetime) -> None:
    with writing(engine) as conn:
        known = {state: a_case(conn, state, now) for state in cases.STATES}
        assert cases.expire(conn, now=now + 6 * DAY) == 0
        assert cases.expire(conn, now=now + 7 * DAY) == 2
        assert cases.expire(conn, now=now + 8 * DAY) == 0
    found = {state: stored(engine, case).state for state, case in known.items()}
    assert found == {"made": "made", "sent": "expired", "opened": "expired", "expired": "expired", "done": "done"}
    assert stored(engine, known["sent"]).done_at is None
    with writing(engine) as conn:
        assert not cases.open_(conn, "fp_sent", user_id="u1", failure="token_dead", words="", now=now)


def test_a_login_is_taken_once_in_time_and_with_its_own_state(engine: Engine, now: datetime) -> None:
    with writing(engine) as conn:
        case = a_case(conn, "sent", now)
        cases.begin(conn, case, nonce="n1", login_hash=LOGIN, ends_at=now + DAY, now=now)
        assert not cases.take_login(conn, case, login_hash="b" * 64, now=now)
        assert not cases.take_login(conn, case, login_hash=LOGIN, now=now + DAY)
        assert cases.take_login(conn, case, login_hash=LOGIN, now=now)
        assert not cases.take_login(conn, case, login_hash=LOGIN, now=now)


@pytest.mark.parametrize("ends_it", ["send", "close", "expire"])
def test_a_login_does_not_outlive_its_link(engine: Engine, now: datetime, ends_it: str) -> None:
    with writing(engine) as conn:
        case = a_case(conn, "sent", now)
        cases.begin(conn, case, nonce="n1", login_hash=LOGIN, ends_at=now + 9 * DAY, now=now)
        if ends_it == "send":
            VERBS["send"](conn, case, now)
        elif ends_it == "close":
            cases.close(conn, "fp_sent", now=now)
        else:
            assert not cases.take_login(conn, case, login_hash=LOGIN, now=now + 7 * DAY)
            cases.expire(conn, now=now + 7 * DAY)
        assert not cases.take_login(conn, case, login_hash=LOGIN, now=now)
    assert stored(engine, case).login_hash is None


def test_a_button_counts_for_the_newest_link_only(engine: Engine, now: datetime) -> None:
    with writing(engine) as conn:
        case = a_case(conn, "sent", now)
        VERBS["send"](conn, case, now)
    with pytest.raises(Conflict), writing(engine) as conn:
        cases.begin(conn, case, nonce="n1", login_hash=LOGIN, ends_at=now + DAY, now=now)
    with pytest.raises(Conflict), writing(engine) as conn:
        cases.begin(conn, case, nonce="n2", login_hash=LOGIN, ends_at=now + DAY, now=now + 7 * DAY)


def test_the_first_press_is_remembered(engine: Engine, now: datetime) -> None:
    with writing(engine) as conn:
        case = a_case(conn, "sent", now)
        for later in (timedelta(0), DAY):
            cases.begin(conn, case, nonce="n1", login_hash=LOGIN, ends_at=now + DAY, now=now + later)
    assert stored(engine, case).opened_at == now


def test_a_case_that_is_done_takes_no_complaint_and_no_other_user(engine: Engine, now: datetime) -> None:
    with writing(engine) as conn:
        case = a_case(conn, "done", now)
        cases.refuse(conn, case, word="other_user", words=None, user="8002", now=now)
    assert (stored(engine, case).refused, stored(engine, case).refused_user) == (None, None)
    with pytest.raises(Conflict), writing(engine) as conn:
        cases.accept_other(conn, case, "8002")
    with pytest.raises(Conflict), writing(engine) as conn:
        cases.reminded(conn, case, next_at=None)


def test_only_the_user_who_was_refused_last_can_be_accepted(engine: Engine, now: datetime) -> None:
    with writing(engine) as conn:
        case = a_case(conn, "opened", now)
    with pytest.raises(Conflict), writing(engine) as conn:
        cases.accept_other(conn, case, "8002")
    for refused in ("8002", "9009"):
        with writing(engine) as conn:
            cases.refuse(conn, case, word="other_user", words=None, user=refused, now=now)
    with pytest.raises(Conflict), writing(engine) as conn:
        cases.accept_other(conn, case, "8002")
    assert stored(engine, case).accepted_user is None
    with writing(engine) as conn:
        cases.accept_other(conn, case, "9009")
        cases.refuse(conn, case, word="cancelled", words=None, now=now)
    assert (stored(engine, case).accepted_user, stored(engine, case).refused_user) == ("9009", None)


def stored(engine: Engine, case: int) -> Any:
    with reading(engine) as conn:
        return conn.execute(select(capi_case).where(capi_case.c.id == case)).one()


REFUSED = {"failure": "token_expired", "words": "refused again"}


@pytest.mark.parametrize(
    ("state", "again"), [("made", "made"), ("sent", "sent"), ("opened", "opened"), ("expired", "expired")]
)
def test_a_case_closed_within_a_day_opens_again_with_its_link(
    sqlite_engine: Engine, now: datetime, state: str, again: str
) -> None:
    with writing(sqlite_engine) as conn:
        case = a_case(conn, state, now)
        if state == "opened":
            cases.begin(conn, case, nonce="n1", login_hash=LOGIN, ends_at=now + DAY, now=now)
        before = cases.get(conn, case)
        cases.close(conn, f"fp_{state}", now=now)
        assert cases.open_(conn, f"fp_{state}", user_id="u1", **REFUSED, now=now + DAY / 2)
        assert not cases.open_(conn, f"fp_{state}", user_id="u1", **REFUSED, now=now + DAY / 2)
    row = stored(sqlite_engine, case)
    assert before is not None
    assert (row.state, row.nonce, row.failure) == (again, before.nonce, "token_expired")


def test_a_case_that_is_done_for_longer_or_by_a_login_stays_done(sqlite_engine: Engine, now: datetime) -> None:
    with writing(sqlite_engine) as conn:
        cases_before = [a_case(conn, "sent", now), a_case(conn, "opened", now)]
        for state in ("sent", "opened"):
            cases.close(conn, f"fp_{state}", now=now)
        login = {"trigger": "reconnect", "by": "m", "user_id": "u1", "apps_updated": 1, "outcome": "reconnected"}
        history.add_refresh(conn, started_at=now, duration_ms=1, fingerprint="fp_opened", **login)
        assert cases.open_(conn, "fp_sent", user_id="u1", **REFUSED, now=now + DAY)
        assert cases.open_(conn, "fp_opened", user_id="u1", **REFUSED, now=now + DAY / 2)
    assert [stored(sqlite_engine, case).state for case in cases_before] == ["done", "done"]
