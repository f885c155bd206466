"""The scan: what opens an alert, what makes one worse, what closes it. Time is moved by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, insert, select, update

from core.services import alerts
from core.services.policy import Policy
from core.store import alerts as keeper
from core.store import history, workers
from core.store.conditions import Holder
from core.store.database import reading, writing
from core.store.platform_tables import app, app_settings
from core.store.schema import capi_alert, capi_incident, capi_notice, capi_outbox, capi_token
from tests.services.alerting import DAY, HOUR, MINUTE, POLICY, break_tokens, many_apps, mend_tokens, wait_events

SECOND = timedelta(seconds=1)


def scan(engine: Engine, now: datetime, policy: Policy = POLICY, **more: Any) -> alerts.Change:
    return alerts.scan(engine, policy, now=now, **more)


def open_now(engine: Engine) -> list[tuple[str, str, int]]:
    with reading(engine) as conn:
        return [(row.kind, row.subject, row.stage) for row in keeper.open_alerts(conn)]


def notices(engine: Engine) -> list[str]:
    with reading(engine) as conn:
        return list(conn.scalars(select(capi_notice.c.what).order_by(capi_notice.c.id)))


def a_refresh(engine: Engine, fingerprint: str, outcome: str, *, now: datetime, failures: int) -> None:
    with writing(engine) as conn:
        conn.execute(update(capi_token).where(capi_token.c.fingerprint == fingerprint).values(failures=failures))
        history.add_refresh(
            conn,
            started_at=now,
            duration_ms=5,
            trigger="scheduled",
            by="w",
            user_id="u0",
            fingerprint=fingerprint,
            outcome=outcome,
            apps_updated=0,
            words="no",
        )


def an_incident(engine: Engine, *, now: datetime, kind: str = "meta_away") -> None:
    row = {"kind": kind, "opened_at": now, "seen_at": now, "probe_at": now, "words": "Service unavailable", "code": 2}
    with writing(engine) as conn:
        conn.execute(insert(capi_incident).values(**row))


def end_incident(engine: Engine, *, now: datetime, waited: int = 7) -> None:
    with writing(engine) as conn:
        conn.execute(update(capi_incident).values(closed_at=now, waited=waited))


def test_a_token_that_needs_its_owner_opens_one_alert_and_recovery_closes_it_within_one_scan(
    engine: Engine, now: datetime
) -> None:
    (token,) = many_apps(engine, 1, now=now)
    break_tokens(engine, [token], now=now)
    assert scan(engine, now) == alerts.Change(1, 0, 0)
    assert scan(engine, now + 15 * SECOND) == alerts.Change(0, 0, 0)
    assert open_now(engine) == [("needs_reconnect", token, 0)]
    mend_tokens(engine, [token])
    assert scan(engine, now + 30 * SECOND) == alerts.Change(0, 0, 1)
    assert notices(engine) == ["opened", "closed"]


def test_a_lost_token_that_nobody_holds_any_more_closes_its_alert(sqlite_engine: Engine, now: datetime) -> None:
    names = many_apps(sqlite_engine, 1, now=now)
    break_tokens(sqlite_engine, names, now=now)
    scan(sqlite_engine, now)
    with writing(sqlite_engine) as conn:  # the platform deleted the app
        conn.execute(delete(app_settings))
        conn.execute(delete(app))
    assert scan(sqlite_engine, now) == alerts.Change(0, 0, 1)


def test_the_title_names_shop_and_merchant_for_as_long_as_the_alert_is_kept(engine: Engine, now: datetime) -> None:
    many_apps(engine, 1, now=now)
    break_tokens(engine, ["fp_0000000000000000"], now=now)
    scan(engine, now)
    with reading(engine) as conn:
        assert conn.scalar(select(capi_alert.c.title)) == "Shop 0 (shop0.example), owner0@example.com"


def test_a_name_cannot_look_like_lines_of_the_message() -> None:
    who = Holder("Tea\r\nENDED: 1\x1b[0m", "tea.example", "a@example.com", 3, ("1", "2", "3"))
    assert alerts.title(who, "x") == "Tea ENDED: 1 0m (tea.example) and 2 more shops, a@example.com"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("[the console](https://evil.example) @everyone", "the console (evil.example) everyone"),
        ("<https://evil.example/login|console> <!channel> <@U123>", "evil.example/login console !channel U123"),
        ("Løghthttps://tps://evil.example", "Løevil.example"),
        ("`x` *bold* ~town-square #general", "x bold town-square # general"),
        ("\u202eTea\u200b@here @@all", "Tea here all"),
        ("ann@everyone.example a@b@tea.example", "ann everyone.example a b tea.example"),
        ("O'Connor & Søn, No. 5 (Århus)", "O'Connor & Søn, No. 5 (Århus)"),
        ("Pixel Bakery <3", "Pixel Bakery 3"),
        ("Anna.b+shop_2@tea.example", "Anna.b+shop_2@tea.example"),
        ("søren@blåbær.example", "søren@blåbær.example"),
    ],
)
def test_a_name_becomes_neither_a_link_nor_a_mention_and_stays_readable(name: str, plain: str) -> None:
    assert alerts.plain(name) == plain
    assert alerts.title(Holder(name, None, "anna@tea.example", 1, ("1",)), "x") == f"{plain}, anna@tea.example"


@pytest.mark.parametrize(
    ("outcome", "failures", "told"), [("refused", 1, 1), ("unreachable", 2, 0), ("unreachable", 3, 1)]
)
def test_a_refusal_is_told_at_once_and_meta_out_of_reach_after_three_tries(
    engine: Engine, now: datetime, outcome: str, failures: int, told: int
) -> None:
    (token,) = many_apps(engine, 1, now=now)
    a_refresh(engine, token, outcome, now=now, failures=failures)
    assert scan(engine, now).opened == told
    mend_tokens(engine, [token])
    assert scan(engine, now).closed == told


def test_an_incident_is_one_alert_and_not_one_for_each_token(engine: Engine, now: datetime) -> None:
    for token in many_apps(engine, 20, now=now):
        a_refresh(engine, token, "unreachable", now=now - MINUTE, failures=4)
    an_incident(engine, now=now)
    assert scan(engine, now).opened == 1
    assert [kind for kind, _, _ in open_now(engine)] == ["incident"]
    end_incident(engine, now=now + 10 * MINUTE)
    assert scan(engine, now + 11 * MINUTE) == alerts.Change(0, 0, 1), "their next try has its time"


def test_a_token_that_was_not_extended_is_told_of_at_14_7_3_and_1_days(engine: Engine, now: datetime) -> None:
    many_apps(engine, 1, now=now, ends_in=20 * DAY)
    found = {}
    for left in (20, 14.5, 14, 13.5, 7.5, 7, 6.5, 3.5, 3, 2.5, 1.5, 1, 0.5, 0, -0.5):
        change = scan(engine, now + (20 - left) * DAY)
        found[left] = (change.opened, change.restaged, open_now(engine))
    told = {left: stages[-1][2] for left, (opened, worse, stages) in found.items() if opened or worse}
    assert told == {14.0: 14, 7.0: 7, 3.0: 3, 1.0: 1, 0.0: 0}
    assert notices(engine) == ["opened", "worse", "worse", "worse", "worse"]


def test_the_end_may_be_stored_as_number_or_text(sqlite_engine: Engine, now: datetime) -> None:
    """SQLite keeps what was written: milliseconds from Prisma, text from SQL typed by hand."""
    many_apps(sqlite_engine, 3, now=now)
    ends = now + 5 * DAY
    stored: tuple[object, ...] = (int(ends.timestamp() * 1000), ends.strftime("%Y-%m-%dT%H:%M:%S"), f"{ends:%Y-%m-%d}")
    with writing(sqlite_engine) as conn:
        for n, value in enumerate(stored):
            conn.exec_driver_sql(
                'UPDATE "AppSettings" SET "metaTokenExpiresAt" = ? WHERE "appId" = ?', (value, f"a{n}")
            )
    assert scan(sqlite_engine, now).opened == 3


@pytest.mark.parametrize("why", ["extended", "never", "just seen", "short window"])
def test_a_token_that_is_looked_after_is_not_told_of(engine: Engine, now: datetime, why: str) -> None:
    many_apps(engine, 1, now=now, ends_in=60 * DAY if why == "extended" else 10 * DAY)
    changes = {"never": {"never_expires": True}, "just seen": {"first_seen_at": now - HOUR}}.get(why)
    with writing(engine) as conn:
        if changes:
            conn.execute(update(capi_token).values(**changes))
    policy = Policy(window=5 * DAY) if why == "short window" else POLICY
    assert scan(engine, now, policy).opened == 0


def test_events_near_their_deadline_are_told_of_at_24_and_6_hours(engine: Engine, now: datetime) -> None:
    many_apps(engine, 2, now=now)
    wait_events(engine, 0, 3, now=now, left=30 * HOUR)
    wait_events(engine, 1, 1, now=now, left=4 * DAY, first_id=10)
    assert scan(engine, now).opened == 0
    assert scan(engine, now + 7 * HOUR).opened == 1
    assert open_now(engine) == [("deadline", "a0", 24)]
    assert scan(engine, now + 25 * HOUR).restaged == 1
    assert open_now(engine) == [("deadline", "a0", 6)]
    with writing(engine) as conn:
        conn.execute(delete(capi_outbox).where(capi_outbox.c.app_id == "a0"))
    assert scan(engine, now + 26 * HOUR).closed == 1
    assert notices(engine) == ["opened", "worse", "closed"]


def test_an_event_that_came_in_late_and_is_on_its_way_is_no_alert(engine: Engine, now: datetime) -> None:
    many_apps(engine, 1, now=now)
    wait_events(engine, 0, 1, now=now, left=5 * HOUR, state="due")
    with writing(engine) as conn:
        just_now = int((now - MINUTE).timestamp() * 1000) << 22
        conn.execute(update(capi_outbox).values(id=just_now))
    assert scan(engine, now).opened == 0
    assert scan(engine, now + 10 * MINUTE).opened == 1, "it was not delivered after all"


def test_a_worker_that_falls_silent_is_noticed_by_the_others(engine: Engine, now: datetime) -> None:
    for name in ("one", "two", "three"):
        beat(engine, name, now - HOUR, now)
    with writing(engine) as conn:
        workers.stop(conn, "three", now=now)
    beat(engine, "two", now - HOUR, now + 31 * SECOND)
    assert scan(engine, now + 31 * SECOND).opened == 1, "three said good-bye"
    assert open_now(engine) == [("worker_silent", "one", 0)]
    beat(engine, "one", now - HOUR, now + 40 * SECOND)
    assert scan(engine, now + 41 * SECOND).closed == 1


def test_a_silent_worker_is_forgiven_when_another_was_started_in_its_place(engine: Engine, now: datetime) -> None:
    beat(engine, "one", now - HOUR, now)
    beat(engine, "two", now - HOUR, now)
    later = now + MINUTE
    beat(engine, "stays", now - HOUR, later)
    assert scan(engine, later).opened == 2
    beat(engine, "new", later, later)
    assert scan(engine, later).closed == 1, "one stands in for one"


def test_a_night_without_any_worker_is_told_of_afterwards_and_once(engine: Engine, now: datetime) -> None:
    beat(engine, "last night's", now - 9 * HOUR, now - 8 * HOUR)
    beat(engine, "this morning's", now, now)
    assert scan(engine, now) == alerts.Change(1, 0, 0)
    beat(engine, "this morning's", now, now + 15 * SECOND)
    assert scan(engine, now + 15 * SECOND) == alerts.Change(0, 0, 1)
    beat(engine, "this morning's", now, now + 30 * SECOND)
    assert scan(engine, now + 30 * SECOND) == alerts.Change(0, 0, 0)
    with reading(engine) as conn:
        assert conn.scalar(select(capi_alert.c.opened_at)) == now - 8 * HOUR, "since it fell silent"


def beat(engine: Engine, worker: str, started: datetime, now: datetime) -> None:
    with writing(engine) as conn:
        workers.beat(conn, worker, started_at=started, version="1", now=now)


def test_the_ledger_and_the_outbox_must_tell_the_same(engine: Engine, now: datetime) -> None:
    many_apps(engine, 2, now=now)
    wait_events(engine, 0, 3, now=now, left=3 * DAY)
    wait_events(engine, 1, 3, now=now, left=3 * DAY, first_id=10)
    assert scan(engine, now, kinds=["ledger"]).opened == 0
    with writing(engine) as conn:
        conn.execute(delete(capi_outbox).where(capi_outbox.c.app_id == "a1"))
    assert scan(engine, now, kinds=["ledger"]).opened == 1
    assert open_now(engine) == [("ledger", "a1", 0)]
    assert scan(engine, now).closed == 0, "the quick scan leaves it alone"


def test_old_alerts_are_forgotten_and_open_ones_are_not(engine: Engine, now: datetime) -> None:
    first, second, newest = many_apps(engine, 3, now=now)
    break_tokens(engine, [first, second], now=now)
    scan(engine, now)
    mend_tokens(engine, [first])
    scan(engine, now + MINUTE)
    break_tokens(engine, [newest], now=now + HOUR)
    scan(engine, now + HOUR)
    alerts.forget_old(engine, now=now + 91 * DAY)
    with reading(engine) as conn:
        assert set(conn.scalars(select(capi_alert.c.subject))) == {second, newest}


def test_the_quick_scan_reads_no_event_and_finds_deadlines_by_an_index(sqlite_engine: Engine, now: datetime) -> None:
    """It comes every 15 seconds: its cost must not grow with what was delivered."""
    said: list[tuple[str, Any]] = []

    @event.listens_for(sqlite_engine, "before_cursor_execute")
    def hear(conn: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
        said.append((statement, parameters))

    scan(sqlite_engine, now)
    event.remove(sqlite_engine, "before_cursor_execute", hear)
    assert not [statement for statement, _ in said if "capi_event" in statement]
    outbox = [one for one in said if "capi_outbox" in one[0]]
    assert len(outbox) == 1
    with reading(sqlite_engine) as conn:
        (plan, *_) = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {outbox[0][0]}", outbox[0][1]).all()
    assert "SEARCH capi_outbox USING INDEX ix_capi_outbox_deadline" in plan[3]


def test_every_kind_has_words_a_heading_and_lines() -> None:
    from core.desk.alert_lines import _LINES
    from core.desk.alert_message import HEADINGS, SUBJECTS
    from core.desk.explain_tokens import ALERTS

    kinds = set(alerts.KINDS)
    assert set(ALERTS) == set(HEADINGS) == set(SUBJECTS) == set(_LINES) == kinds
    assert all(words.what and words.whose and words.do for words in ALERTS.values())
