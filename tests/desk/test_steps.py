"""What a person should do about a token, and one token in full, on both databases."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, event

from core.desk import queries
from core.desk.explain import explain, meaning
from core.desk.explain_tokens import FINDINGS
from core.desk.steps import CaseState, case_step, days, next_step, open_cases
from core.errors import NotFound
from core.services import findings
from core.services.policy import Policy
from core.store.database import reading
from core.store.health import Health
from tests.desk import trouble
from tests.desk.rows import seed

SOON, WINDOW = timedelta(days=7), timedelta(days=30)
HOUR = timedelta(hours=1)


@pytest.fixture
def world(engine: Engine, now: datetime) -> Engine:
    seed(engine, now=now, apps=36, events=200)
    return engine


def _case(now: datetime, state: str, **hours: float) -> CaseState:
    moments = {name: now + HOUR * many for name, many in hours.items()}
    empty = dict.fromkeys(("sent_at", "link_ends_at", "remind_at", "refused", "refused_at"))
    return CaseState(id=1, state=state, **{**empty, **moments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "hours", "words"),
    [
        ("made", {}, "Send the reconnect link"),
        ("sent", {"sent_at": -1, "link_ends_at": 167, "remind_at": 71}, "Link sent today, reminder in 3 days"),
        ("sent", {"sent_at": -48, "link_ends_at": 120, "remind_at": 24}, "Link sent 2 days ago, reminder tomorrow"),
        ("sent", {"sent_at": -96, "link_ends_at": 72, "remind_at": -1}, "Link sent 4 days ago, a reminder is due"),
        ("sent", {"sent_at": -24, "link_ends_at": 12}, "Link sent yesterday, no reminder is planned"),
        ("sent", {"sent_at": -169, "link_ends_at": -1}, "The link has ended: make a new one and send it"),
        ("expired", {"sent_at": -200}, "The link has ended: make a new one and send it"),
        (
            "opened",
            {"sent_at": -24, "link_ends_at": 144, "remind_at": 48},
            "Link sent yesterday and opened, login not finished; reminder in 2 days",
        ),
    ],
)
def test_a_case_in_one_sentence(now: datetime, state: str, hours: dict[str, float], words: str) -> None:
    assert case_step(_case(now, state, **hours), now) == words


def test_a_refused_login_counts_only_for_the_link_it_came_by(now: datetime) -> None:
    case = _case(now, "opened", sent_at=-24, link_ends_at=144, refused_at=-2)
    refused = CaseState(**{**{n: getattr(case, n) for n in CaseState.__slots__}, "refused": "cancelled"})
    assert "not taken" in case_step(refused, now)
    resent = CaseState(**{**{n: getattr(refused, n) for n in CaseState.__slots__}, "sent_at": now, "state": "sent"})
    assert case_step(resent, now).startswith("Link sent today")


@pytest.mark.parametrize(
    ("hours", "words"),
    [(0, "today"), (11, "today"), (13, "tomorrow"), (-13, "yesterday"), (60, "in 2 days"), (-60, "2 days ago")],
)
def test_days_are_counted_to_the_nearest(now: datetime, hours: int, words: str) -> None:
    assert days(now + HOUR * hours, now) == words


def test_a_finding_speaks_only_where_nothing_is_more_urgent(now: datetime) -> None:
    do = FINDINGS["missing_scope"].do
    assert next_step(Health.VALID, None, finding="missing_scope", now=now) == do
    assert next_step(Health.NEEDS_RECONNECT, None, finding="missing_scope", now=now) == "Send the reconnect link"
    assert next_step(Health.VALID, None, broken="token_dead", finding="missing_scope") == explain("token_dead").do
    assert next_step(Health.EXPIRING_SOON, None, finding="missing_scope") == "Refresh now, before it ends"


@pytest.mark.parametrize("word", findings.WORDS)
def test_every_finding_is_a_next_step(word: str) -> None:
    assert next_step(Health.VALID, None, finding=word) == FINDINGS[word].do


def test_the_list_knows_cases_and_findings(world: Engine, now: datetime) -> None:
    trouble.open_cases(world, now=now, states=("sent",))
    trouble.unreached(world, "app-00004", now=now)
    with reading(world) as conn:
        rows = {row.app_id: row for row in queries.token_health(conn, now=now, soon=SOON, window=WINDOW)}
    assert rows["app-00002"].next_step == "Link sent 2 days ago, reminder tomorrow"
    assert rows["app-00003"].finding == "pixel_unreachable"
    assert rows["app-00003"].next_step == FINDINGS["pixel_unreachable"].do
    assert rows["app-00006"].finding is None


def test_the_list_asks_the_database_as_often_for_many_as_for_few(world: Engine, now: datetime) -> None:
    asked: list[str] = []
    event.listen(world, "before_cursor_execute", lambda *args: asked.append(args[2]))
    counts = []
    for limit in (3, 36):
        asked.clear()
        with reading(world) as conn:
            assert len(queries.token_health(conn, now=now, soon=SOON, window=WINDOW, limit=limit)) == limit
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_one_token_in_full(world: Engine, now: datetime) -> None:
    fingerprint = trouble.unreached(world, "app-00021", now=now)
    trouble.open_cases(world, now=now)
    with reading(world) as conn:
        seen = queries.token_detail(conn, fingerprint, policy=Policy(), now=now)
    assert [holder.app_id for holder in seen.holders] == ["app-00021", "app-00022", "app-00023"]
    assert [holder.reached for holder in seen.holders] == [False, None, None]
    assert seen.waiting == sum(holder.waiting for holder in seen.holders) > 0
    assert [row.outcome for row in seen.refreshes] == ["needs_reconnect"]
    assert [one.word for one in seen.findings] == ["pixel_unreachable"]
    assert (seen.email, seen.case) == ("owner7@harbor.example", None)


def test_a_token_nobody_looks_after_is_not_found(world: Engine, now: datetime) -> None:
    with reading(world) as conn, pytest.raises(NotFound):
        queries.token_detail(conn, "fp_none", policy=Policy(), now=now)


def test_done_cases_are_not_open_ones(world: Engine, now: datetime) -> None:
    ids = trouble.open_cases(world, now=now)
    with reading(world) as conn:
        names = [row.fingerprint for row in queries.token_health(conn, now=now, soon=SOON, window=WINDOW)]
        found = open_cases(conn, [name for name in set(names) if name])
    assert {case.id for case in found.values()} == {ids[state] for state in ("made", "sent", "opened", "expired")}


@pytest.mark.parametrize(
    ("code", "subcode", "words", "means"),
    [
        (190, 460, None, "password changed"),
        (190, 458, "x", "app removed by the user"),
        (100, 33, None, "pixel not found or not allowed"),
        (100, None, "Invalid appsecret_proof provided", "app secret proof refused"),
        (None, None, "anything", None),
    ],
)
def test_metas_numbers_in_a_few_words(
    code: int | None, subcode: int | None, words: str | None, means: str | None
) -> None:
    assert meaning(code, subcode, words) == means
