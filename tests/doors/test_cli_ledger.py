"""The account at the shell, on the console's pages, and in the words of alerts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, delete, select, update
from typer.testing import CliRunner, Result

from core import clock
from core.desk import accounts as shown
from core.desk.alert_message import compose
from core.desk.explain import explain
from core.doors import alerting
from core.doors.cli import app as cli
from core.meta.events import encode
from core.services import accounts, alerts
from core.services.policy import Policy
from core.settings import Settings
from core.store import acceptance, ledger
from core.store.acceptance import NewEvent
from core.store.channels import Story
from core.store.database import reading, writing
from core.store.schema import capi_alert, capi_event, capi_outbox
from tests.desk.test_find import planned
from tests.processes import environment
from tests.services.alerting import DAY, many_apps

Run = Callable[..., Result]


@pytest.fixture
def run(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*args: str) -> Result:
        for name, value in environment(sqlite_url, "http://127.0.0.1:1").items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(cli, ["ledger", *args])

    return run


@pytest.fixture
def yesterday() -> datetime:
    return ledger.day_of(clock.now()) - DAY + timedelta(hours=9)


def purchases(engine: Engine, count: int, at: datetime, *, app: int = 0, prefix: str = "p") -> None:
    """Orders of that day that wait for a token."""
    one = NewEvent(f"a{app}", str(app), "Purchase", "", "orders/create", at, at + 7 * DAY, encode({}))
    new = [replace(one, event_id=f"{prefix}{n}", order_id=f"#{prefix}{n}") for n in range(count)]
    with writing(engine) as conn:
        acceptance.accept(conn, new, now=at)


def counted(engine: Engine) -> None:
    accounts.keep(engine, Policy(), now=clock.now())


def test_the_shell_shows_days_of_all_and_of_one_app(sqlite_engine: Engine, run: Run, yesterday: datetime) -> None:
    many_apps(sqlite_engine, 2, now=yesterday)
    assert run().stdout == "nothing was counted yet: a worker does it every five minutes\n"
    purchases(sqlite_engine, 3, yesterday)
    purchases(sqlite_engine, 2, yesterday, app=1)
    counted(sqlite_engine)
    every = run("--json", "--days", "2")
    assert every.exit_code == 0
    (row,) = json.loads(every.stdout)
    assert (row["app"], row["received"], row["waiting"], row["orders"], row["off"]) == ("all", 5, 5, 5, 0)
    (row,) = json.loads(run("--json", "--app", "public1").stdout)
    assert (row["day"], row["app"], row["received"]) == (f"{yesterday:%Y-%m-%d}", "Shop 1", 2)
    assert json.loads(run("--json", "--days", "1").stdout) == []


def test_it_ends_with_one_and_names_app_and_day_when_something_is_gone(
    sqlite_engine: Engine, run: Run, yesterday: datetime
) -> None:
    many_apps(sqlite_engine, 2, now=yesterday)
    purchases(sqlite_engine, 3, yesterday)
    purchases(sqlite_engine, 2, yesterday, app=1)
    with writing(sqlite_engine) as conn:
        gone = conn.scalar(select(capi_event.c.id).where(capi_event.c.app_id == "a1").limit(1))
        conn.execute(delete(capi_outbox).where(capi_outbox.c.id == gone))
        conn.execute(delete(capi_event).where(capi_event.c.id == gone))
    counted(sqlite_engine)
    done = run()
    assert done.exit_code == 1
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == ["all", "Shop"]
    assert done.stdout.count(f"{yesterday:%Y-%m-%d}") == 2


def test_each_day_says_why_its_own_orders_are_missing_in_one_look(engine: Engine, yesterday: datetime) -> None:
    many_apps(engine, 1, now=yesterday)
    purchases(engine, 3, yesterday)
    purchases(engine, 2, yesterday - 3 * DAY, prefix="old")
    e = capi_event.c
    with writing(engine) as conn:
        conn.execute(update(capi_event).where(e.event_id == "p0").values(state="delivered"))
        conn.execute(update(capi_event).where(e.event_id == "p1").values(state="dead", failure="invalid_event"))
        conn.execute(update(capi_event).where(e.event_id == "old0").values(state="dead", failure="invalid_event"))
        conn.execute(update(capi_event).where(e.event_id == "old1").values(state="dead", failure="invalid_event"))
    counted(engine)
    with planned(engine) as plans, reading(engine) as conn:
        days = shown.order_days(conn, "a0", now=clock.now())
    refused = explain("invalid_event").what
    assert [(one.day, one.counts.missing, one.why) for one in days] == [
        (ledger.day_of(yesterday), 2, f"1 will never go: {refused}; 1 wait: on their way"),
        (ledger.day_of(yesterday) - 3 * DAY, 2, f"2 will never go: {refused}"),
    ]
    assert len([plan for plan in plans if "capi_event" in plan]) == 1


def test_alerts_say_the_day_the_figures_and_why(engine: Engine, yesterday: datetime) -> None:
    many_apps(engine, 1, now=yesterday)
    purchases(engine, 12, yesterday)
    with writing(engine) as conn:
        gone = conn.scalar(select(capi_event.c.id).order_by(capi_event.c.id).limit(1))
        conn.execute(delete(capi_outbox).where(capi_outbox.c.id == gone))
        conn.execute(delete(capi_event).where(capi_event.c.id == gone))
    counted(engine)
    now = ledger.day_of(clock.now()) + timedelta(hours=7)
    alerts.scan(engine, Policy(), now=now, kinds=alerts.SLOW)
    with reading(engine) as conn:
        message = compose(conn, _stories(conn), now)
    assert message is not None
    day = f"{yesterday:%Y-%m-%d}"
    subject = message.subject.removeprefix("capi-console: ")
    assert subject.split("; ") == ["the ledger is out of balance for 1 shop", "orders of 1 shop are missing at Meta"]
    assert f"{day}: 1 event came in and stands in no account" in message.body
    assert f"{day}: Meta has 0 of 11 orders" in message.body
    assert "likely cause: 11 wait: on their way" in message.body


@pytest.mark.parametrize(
    ("set_", "leads_to"),
    [
        ({}, "http://127.0.0.1:8501/"),
        ({"CAPI_CONSOLE_URL": "https://console.example.com"}, "https://console.example.com/"),
    ],
)
def test_links_in_alerts_lead_to_where_people_reach_the_console(
    sqlite_engine: Engine, now: datetime, set_: dict[str, str], leads_to: str
) -> None:
    words = alerting.wording(Settings(_env_file=None, **set_))  # type: ignore[call-arg]
    with reading(sqlite_engine) as conn:
        message = words(conn, [Story(1, "worker_silent", "worker@one", 0, "worker@one", now, None, "new")], now)
    assert message is not None
    assert f"\n{leads_to}" in message.body


def _stories(conn: Connection) -> list[Story]:
    rows = conn.execute(select(capi_alert).order_by(capi_alert.c.id)).all()
    return [
        Story(row.id, row.kind, row.subject, row.stage, row.title, row.opened_at, row.closed_at, "new") for row in rows
    ]
