"""Every widget of widgets.py is used: what it says there happens."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from sqlalchemy import Engine, Table, func, select

from core import clock
from core.desk import people
from core.doors import console_rows
from core.sandbox.background import running
from core.sandbox.state import State
from core.secret import Secret
from core.store import apps
from core.store.database import reading
from core.store.schema import capi_audit, capi_case, capi_job, capi_job_item, capi_operator
from tests.desk.rows import DAY
from tests.pages.conftest import SignsIn
from tests.pages.crowded import NO_PIXEL, PASSWORD, PAUSED, SAME_ORDER
from tests.pages.scenes import ELSEWHERE
from tests.pages.screen import Files, Screen
from tests.pages.widgets import WIDGETS
from tests.world import APP_ID, APP_SECRET

HERE = Path(__file__).parent
pytestmark = pytest.mark.usefixtures("ada", "quick_passwords")


@pytest.fixture
def ada(crowded: Engine, sign_in: SignsIn) -> None:
    """An admin looks at the pages."""
    sign_in(crowded, "ada")


# ---- what narrows a table, by hand and from the page's address


@dataclass(frozen=True, slots=True)
class Filter:
    """`value` as it is chosen, `asked` as it stands in the address; `fits`: what each row shows then, by column."""

    page: str
    widget: str
    value: Any
    asked: str
    fits: Callable[[pd.DataFrame], pd.Series]


def has(column: str, *words: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda rows: rows[column].map(lambda cell: any(word in str(cell).lower() for word in words))


def since_a_day_ago(column: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda rows: pd.to_datetime(rows[column], utc=True) >= clock.now() - DAY - timedelta(minutes=5)


def yesterday(column: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda rows: pd.to_datetime(rows[column], utc=True).dt.date == (clock.now() - DAY).date()


FILTERS = (
    Filter("tokens", "token", "owner3@", "owner3@", has("User", "owner3@")),
    Filter("tokens", "left", "14 to 30 days", "14 to 30 days", lambda rows: rows["Days left"].between(14, 30)),
    Filter("tokens", "health", ["EXPIRED"], "EXPIRED", has("Health", "expired")),
    Filter("refresh_history", "search", "owner3@", "owner3@", has("User", "owner3@")),
    Filter("refresh_history", "period", "24 hours", "24 hours", since_a_day_ago("At")),
    Filter("refresh_history", "outcome", ["adopted"], "Adopted", has("Outcome", "adopted")),
    Filter("failed_events", "event", "harbor", "harbor", has("Shop", "harbor")),
    Filter("failed_events", "cause", "permission", "Not permitted", has("Cause", "not permitted")),
    Filter("failed_events", "received", "Yesterday", "Yesterday", yesterday("Received")),
    Filter("failed_events", "show", "dead", "dead", has("State", "dead")),
    Filter("reconnect", "case", "owner1@", "owner1@", has("Owner", "owner1@")),
    Filter("apps", "app", "owner3@", "owner3@", has("Owner", "owner3@")),
    Filter("apps", "show", "no pixel", "no pixel", has("State", "no pixel")),
    Filter("people", "who", "local", "local", has("Who", "local")),
    Filter("people", "action", "disable_operator", "Disable operator", has("Action", "disable operator")),
    Filter("people", "about", "operator lou", "operator lou", has("Object", "operator lou")),
    Filter("people", "period", "24 hours", "24 hours", since_a_day_ago("When")),
)


@pytest.mark.parametrize("case", FILTERS, ids=lambda case: f"{case.page}-{case.widget}")
def test_a_filter_leaves_what_fits_and_is_kept_in_the_address(case: Filter) -> None:
    screen = Screen(case.page, asks={"period": "400 days"} if case.widget == "search" else None)
    every = screen.rows()
    chosen = screen.choose(case.widget, case.value).rows()
    assert 0 < len(chosen) < len(every)
    assert case.fits(chosen).all()
    assert not case.fits(every).all()
    again = Screen(case.page, asks={case.widget: case.asked})
    assert again.value(case.widget) == case.value
    assert case.fits(again.rows()).all()
    assert len(again.rows()) == len(chosen)


# ---- everything else


Use = Callable[[Engine, Files], Screen]
USES: dict[str, tuple[str, tuple[str, ...], Use]] = {}


def uses(page: str, *widgets: str) -> Callable[[Use], Use]:
    """Says which widgets of the page are used in what follows; that they were is checked afterwards."""

    def keep(use: Use) -> Use:
        name = f"{page}-{use.__name__.strip('_')}"
        assert name not in USES
        USES[name] = page, widgets, use
        return use

    return keep


def last_line(engine: Engine) -> tuple[str, str, str, int, str | None]:
    """(who, action, object, rows, reason) of the newest line of the audit trail."""
    a = capi_audit.c
    with reading(engine) as conn:
        row = conn.execute(select(a.by, a.action, a.subject, a.count, a.reason).order_by(a.id.desc())).first()
    assert row is not None
    return row.by, row.action, row.subject, row.count, row.reason


def newest(engine: Engine, table: Table) -> Any:
    with reading(engine) as conn:
        return conn.execute(select(table).order_by(table.c.id.desc())).first()


def subjects(engine: Engine) -> set[str]:
    """What the newest job is over."""
    i = capi_job_item.c
    with reading(engine) as conn:
        last = select(func.max(capi_job.c.id)).scalar_subquery()
        return set(conn.scalars(select(i.subject).where(i.job_id == last)))


def ordered(screen: Screen, button: str, *, why: str = "asked by phone") -> Screen:
    """Press a button that asks once more, and say yes."""
    screen.press(button)
    return screen.fill(reason=why).press("yes")


@uses("find", "q", "found")
def _a_thing_is_looked_up(crowded: Engine, files: Files) -> Screen:
    screen = Screen("find").choose("q", SAME_ORDER)
    assert "3 things are called so" in screen.words()
    assert Screen("find", asks={"q": SAME_ORDER}).value("q") == SAME_ORDER
    what = screen.rows("found").iloc[1]["What"]
    assert not screen.at.code
    screen.tick("found", 1)
    assert what.split(",")[0] in screen.plain()
    return screen


@uses("tokens", "sort")
def _sorted(crowded: Engine, files: Files) -> Screen:
    first = Screen("tokens").rows("tokens")
    screen = Screen("tokens").choose("sort", "shop")
    shops = list(screen.rows("tokens")["Shop"])
    assert shops != list(first["Shop"])
    assert shops == [*sorted(filter(None, shops)), ""], "who has none comes last"
    assert list(Screen("tokens", asks={"sort": "Shop"}).rows("tokens")["Shop"]) == shops
    return screen


@uses("tokens", "bars")
def _weighed(crowded: Engine, files: Files) -> Screen:
    screen = Screen("tokens")
    before = screen.charts()
    screen.choose("bars", "events a day")
    assert screen.charts() != before
    assert Screen("tokens", asks={"bars": "events a day"}).charts() == screen.charts()
    return screen


@uses("tokens", "tokens", "refresh", "yes", "reason")
def _ticked_tokens_are_refreshed(crowded: Engine, files: Files) -> Screen:
    screen = Screen("tokens").tick("tokens", 0)
    rows = screen.rows("tokens")
    assert rows.iloc[0]["Token"] in screen.plain(), "one alone is told in full"
    places = [
        0,
        next(place for place in range(len(rows)) if rows.iloc[place]["Token"] not in ("", rows.iloc[0]["Token"])),
    ]
    screen.tick("tokens", *places)
    assert "diagnose" not in screen.widgets()
    ordered(screen, "refresh", why="end of month")
    assert subjects(crowded) == set(rows.iloc[places]["Token"])
    job = newest(crowded, capi_job)
    assert (job.kind, job.state, job.by, job.reason) == ("refresh_tokens", "queued", "ada", "end of month")
    assert last_line(crowded) == ("ada", "refresh_tokens", f"job {job.id}", 2, "end of month")
    assert "Refresh selected (0)" in [button.label for button in screen.at.button], "nothing is ticked any more"
    return screen


@uses("tokens", "refresh_due", "yes")
def _all_that_are_due_are_refreshed(crowded: Engine, files: Files) -> Screen:
    screen = Screen("tokens").press("refresh_due")
    count = int(screen.at.button(key="refresh_due").label.split("(")[1].rstrip(")"))
    screen.press("yes")
    assert len(subjects(crowded)) == count > 1
    assert last_line(crowded)[:4] == ("ada", "refresh_tokens", f"job {newest(crowded, capi_job).id}", count)
    return screen


@uses("tokens", "test_code", "diagnose")
def _diagnosed(crowded: Engine, files: Files) -> Screen:
    screen = Screen("tokens").tick("tokens", 0).fill(test_code="TEST1").press("diagnose")
    assert "With a code one made-up event is sent" in screen.words()
    assert {"Check", "Result"} <= set(screen.rows().columns)
    assert last_line(crowded)[1] == "diagnose"
    return screen


PASTED = "EAApastedTokenThatNobodyMaySee"
FORM = ("paste_token.*", "paste_reason.*", "paste_alone.*", "paste_other.*", "paste_give.*")


def pasted(engine: Engine, page: str, table: str) -> Screen:
    """A token of another Meta user is given to one app alone, though its owner has others that hold the same."""
    with running(State(app_id=APP_ID, app_secret=Secret(APP_SECRET))) as meta, pytest.MonkeyPatch.context() as patched:
        patched.setenv("CAPI_GRAPH_URL", meta.url)
        st.cache_resource.clear()
        given = meta.create_token(token=PASTED, user="200000000").fingerprint
        screen = Screen(page, ticked={table: ["app-00000"]})
        screen.fill(paste_token=PASTED, paste_alone=True).press("paste_give")
        assert "nothing was stored" in screen.plain(), "another Meta user's is not taken unless that is ticked"
        screen.fill(paste_token=PASTED, paste_other=True, paste_reason="new owner").press("paste_give")
    with reading(engine) as conn:
        holders = [app.id for app in apps.every(conn) if app.fingerprint == given]
    assert holders == ["app-00000"]
    assert last_line(engine)[1::3] == ("set_token", "new owner")
    assert PASTED not in screen.everything()
    return screen


@uses("tokens", *FORM)
def _a_token_is_pasted_beside_a_token(crowded: Engine, files: Files) -> Screen:
    return pasted(crowded, "tokens", "tokens")


@uses("apps", *FORM)
def _a_token_is_pasted_beside_an_app(crowded: Engine, files: Files) -> Screen:
    return pasted(crowded, "apps", "apps")


@uses("refresh_history", "bars_by")
def _refreshes_are_told_apart_otherwise(crowded: Engine, files: Files) -> Screen:
    screen = Screen("refresh_history")
    before = screen.charts()
    assert screen.choose("bars_by", "trigger").charts() != before
    assert Screen("refresh_history", asks={"bars_by": "trigger"}).charts() == screen.charts()
    return screen


@uses("refresh_history", "refreshes")
def _one_refresh_in_full(crowded: Engine, files: Files) -> Screen:
    screen = Screen("refresh_history")
    assert not screen.at.code
    screen.tick("refreshes", 2)
    assert screen.rows("refreshes").iloc[2]["Trace id"] in screen.plain()
    return screen


@uses("failed_events", "events", "retry", "yes", "reason")
def _ticked_events_are_sent_again(crowded: Engine, files: Files) -> Screen:
    screen = Screen("failed_events", asks={"show": "dead", "cause": "Not permitted"}).tick("events", 0)
    assert screen.rows("events").iloc[0]["Event id"] in screen.plain()
    ordered(screen, "retry", why="pixel is back")
    job = newest(crowded, capi_job)
    assert (job.kind, job.total, job.by, job.reason) == ("retry_events", 1, "ada", "pixel is back")
    assert last_line(crowded) == ("ada", "retry_events", f"job {job.id}", 1, "pixel is back")
    return screen


@uses("failed_events", "retry_all", "reason", "yes")
def _all_that_fit_are_sent_again(crowded: Engine, files: Files) -> Screen:
    screen = Screen("failed_events", asks={"show": "dead", "cause": "Not permitted"})
    every = len(screen.rows("events"))
    screen.press("retry_all").press("yes")
    assert newest(crowded, capi_job).kind == "refresh_tokens", "not without a reason"
    ordered(screen, "retry_all", why="pixel is back")
    assert len(subjects(crowded)) == every
    assert last_line(crowded)[1:] == ("retry_events", f"job {newest(crowded, capi_job).id}", every, "pixel is back")
    return screen


def case_in(state: str) -> Screen:
    """The page with the case in this state ticked."""
    screen = Screen("reconnect", asks={"show": "all"})
    states = [str(cell) for cell in screen.rows("cases")["State"]]
    return screen.tick("cases", next(place for place, cell in enumerate(states) if state in cell))


def case_of(engine: Engine, case: int) -> Any:
    with reading(engine) as conn:
        return conn.execute(select(capi_case).where(capi_case.c.id == case)).one()


@uses("reconnect", "show")
def _ended_cases_are_seen_too(crowded: Engine, files: Files) -> Screen:
    screen = Screen("reconnect")
    before = len(screen.rows("cases"))
    assert len(screen.choose("show", "all").rows("cases")) == before + 1
    assert len(Screen("reconnect", asks={"show": "all"}).rows("cases")) == before + 1
    return screen


@uses("reconnect", "cases", "make")
def _a_link_is_made(crowded: Engine, files: Files) -> Screen:
    screen = case_in("made")
    assert screen.rows("cases")["Owner"].iloc[0] or screen.at.subheader
    screen.press("make")
    assert "http" in screen.plain()
    assert last_line(crowded)[:2] == ("ada", "make_link")
    return screen


@uses("reconnect", "remind")
def _a_link_is_shown_once_more(crowded: Engine, files: Files) -> Screen:
    screen = case_in("sent").press("remind")
    assert "Reminder" in screen.plain()
    assert last_line(crowded)[:2] == ("ada", "remind")
    return screen


@uses("reconnect", "make_new", "yes")
def _another_link_ends_the_one_before(crowded: Engine, files: Files) -> Screen:
    with reading(crowded) as conn:
        before = conn.execute(select(capi_case).where(capi_case.c.state == "sent")).one()
    screen = case_in("sent").press("make_new").press("yes")
    assert case_of(crowded, before.id).nonce != before.nonce
    assert last_line(crowded)[:2] == ("ada", "make_link")
    return screen


@uses("reconnect", "accept", "reason", "yes")
def _another_meta_user_may_connect(crowded: Engine, files: Files) -> Screen:
    screen = ordered(case_in("opened"), "accept", why="new owner")
    with reading(crowded) as conn:
        assert conn.scalar(select(capi_case.c.accepted_user).where(capi_case.c.state == "opened")) == "2002"
    assert last_line(crowded)[1::3] == ("accept_other_user", "new owner")
    return screen


def job_in(state: str) -> tuple[Screen, int]:
    """The page with the job in this state ticked, and its number."""
    screen = Screen("jobs")
    states = [str(cell) for cell in screen.rows("jobs")["State"]]
    place = next(place for place, cell in enumerate(states) if state in cell)
    return screen.tick("jobs", place), int(screen.rows("jobs").iloc[place]["Job"])


def job(engine: Engine, number: int) -> Any:
    with reading(engine) as conn:
        return conn.execute(select(capi_job).where(capi_job.c.id == number)).one()


@uses("jobs", "jobs", "pause", "reason", "yes", "resume")
def _a_job_stands_still_and_goes_on(crowded: Engine, files: Files) -> Screen:
    screen, number = job_in("running")
    assert f"Job {number}: refresh tokens" in screen.words()
    ordered(screen, "pause", why="the shop called")
    assert job(crowded, number).paused_at is not None
    assert last_line(crowded) == ("ada", "pause_job", f"job {number}", 2, "the shop called")
    screen.press("resume")
    assert job(crowded, number).paused_at is None
    assert last_line(crowded)[:3] == ("ada", "resume_job", f"job {number}")
    return screen


@uses("jobs", "Cancel this job", "yes")
def _a_job_is_cancelled(crowded: Engine, files: Files) -> Screen:
    screen, number = job_in("queued")
    screen.press("Cancel this job").press("yes")
    assert job(crowded, number).state == "cancelled"
    assert last_line(crowded)[:4] == ("ada", "cancel_job", f"job {number}", 3)
    return screen


@uses("apps", "new.name", "new.email", "new.shop_domain", "new.pixel", "Connect")
def _an_app_is_connected(crowded: Engine, files: Files) -> Screen:
    typed = {"new.name": "Tea", "new.email": "ann@tea.example", "new.shop_domain": "tea.example", "new.pixel": "77"}
    screen = Screen("apps").fill(**typed).press("Connect")
    with reading(crowded) as conn:
        app = next(one for one in apps.every(conn) if one.name == "Tea")
    assert (app.email, app.shop_domain, app.pixel_id) == ("ann@tea.example", "tea.example", "77")
    assert last_line(crowded)[:2] == ("ada", "add_app")
    assert list(screen.rows("apps")["appId"]) == [app.public_id]
    return screen


@uses("apps", "apps", "pause", "reason", "yes")
def _an_app_is_paused(crowded: Engine, files: Files) -> Screen:
    screen = ordered(Screen("apps", asks={"app": "amber"}).tick("apps", 0), "pause", why="holiday")
    with reading(crowded) as conn:
        paused = [one for one in apps.every(conn) if one.paused and one.id != PAUSED]
    assert len(paused) == 1
    assert paused[0].name in screen.plain()
    assert last_line(crowded)[1::3] == ("set_app", "holiday")
    return screen


SET = {
    "shop_domain": "tea.example",
    "allowed_origins": "www.tea.example",
    "forwarded_names": "Spun",
    "order_channels": "pos",
    "content_id": "sku",
    "purchase_topic": "orders/paid",
    "value_of": "subtotal",
    "consent_policy": "require",
    "allow_null_origin": False,
}


@uses("apps", *(f"set_{name}.*" for name in SET), "set_reason.*", "Save")
def _an_app_is_set_up(crowded: Engine, files: Files) -> Screen:
    screen = Screen("apps", asks={"show": "no pixel"}).tick("apps", 0)
    screen.fill(**{f"set_{name}": value for name, value in SET.items()}, set_reason="asked by the shop").press("Save")
    with reading(crowded) as conn:
        app = apps.get(conn, NO_PIXEL)
    found = {name: getattr(app, name) for name in SET}
    assert found == {name: (value,) if isinstance(found[name], tuple) else value for name, value in SET.items()}
    assert last_line(crowded)[:2] == ("ada", "set_app")
    assert last_line(crowded)[4] == "asked by the shop"
    return screen


@uses("people", "new.name", "new.role", "new.password", "Add")
def _an_operator_is_added(crowded: Engine, files: Files) -> Screen:
    screen = Screen("people").fill(new__name="fay", new__role="support", new__password=PASSWORD).press("Add")
    row = newest(crowded, capi_operator)
    assert (row.name, row.role) == ("fay", "support")
    assert last_line(crowded)[:3] == ("ada", "add_operator", "operator fay (support)")
    assert PASSWORD not in screen.everything()
    return screen


@uses("people", "new.elsewhere")
def _an_operator_without_a_password(crowded: Engine, files: Files) -> Screen:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in ELSEWHERE.items():
            patched.setenv(name, value)
        screen = Screen("people").fill(new__name="fay@tea.example", new__role="viewer", new__elsewhere=True)
        screen.press("Add")
    assert newest(crowded, capi_operator).name == "fay@tea.example"
    assert last_line(crowded)[:3] == ("ada", "add_operator", "operator fay@tea.example (viewer)")
    return screen


def operator(name: str) -> Screen:
    """The page with this operator ticked."""
    screen = Screen("people")
    return screen.tick("operators", list(screen.rows("operators")["Name"]).index(name))


def state_of(engine: Engine, name: str) -> tuple[str, str]:
    with reading(engine) as conn:
        row = next(row for row in people.operator_rows(conn, now=clock.now()) if row.name == name)
    return row.role, row.state


@uses("people", "operators", "role.*", "change.role", "reason", "yes")
def _an_operator_gets_another_role(crowded: Engine, files: Files) -> Screen:
    screen = ordered(operator("bob").choose("role", "viewer"), "change.role", why="on leave")
    assert state_of(crowded, "bob") == ("viewer", "active")
    assert last_line(crowded) == ("ada", "set_operator_role", "operator bob (viewer)", 1, "on leave")
    return screen


@uses("people", "disable", "yes")
def _an_operator_is_kept_out(crowded: Engine, files: Files) -> Screen:
    screen = operator("bob").press("disable").press("yes")
    assert state_of(crowded, "bob") == ("support", "disabled")
    assert last_line(crowded)[:2] == ("ada", "disable_operator")
    return screen


@uses("people", "enable", "yes")
def _an_operator_is_let_in_again(crowded: Engine, files: Files) -> Screen:
    for name, was in (("eve", "disabled"), ("lou", "locked")):
        assert state_of(crowded, name)[1] == was
        screen = operator(name).press("enable").press("yes")
        assert state_of(crowded, name)[1] == "active"
        assert last_line(crowded)[:3] == ("ada", "enable_operator", f"operator {name}")
    return screen


def seal_of(engine: Engine, name: str) -> str:
    with reading(engine) as conn:
        return str(conn.scalar(select(capi_operator.c.password).where(capi_operator.c.name == name)))


@uses("people", "new.password.*", "Set it")
def _an_operator_gets_another_password(crowded: Engine, files: Files) -> Screen:
    before = seal_of(crowded, "bob")
    screen = operator("bob").fill(**{"new.password.*": "another long one"}).press("Set it")
    assert seal_of(crowded, "bob") != before
    assert last_line(crowded)[:3] == ("ada", "set_operator_password", "operator bob")
    return screen


@uses("people", "own.now", "own.new", "Change it")
def _ones_own_password(crowded: Engine, files: Files) -> Screen:
    before = seal_of(crowded, "ada")
    screen = Screen("people").fill(own__now=PASSWORD, own__new="nobody else knows it")
    screen.at.button(key="FormSubmitter:own-Change it").click()
    screen.used.add("Change it")
    screen.at.run()
    assert [title.value for title in screen.at.title] == ["You are signed out"]
    assert seal_of(crowded, "ada") != before
    assert last_line(crowded)[:2] == ("ada", "change_password")
    return screen


@uses("jobs", "Result (CSV)")
def _what_a_job_came_to(crowded: Engine, files: Files) -> Screen:
    screen, number = job_in("paused")
    name, lines = files.taken(screen, "Result (CSV)")
    assert name.startswith(f"job-{number}")
    assert len(lines) - 1 == 3
    return screen


@pytest.fixture
def _our_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEBOOK_APP_ID", APP_ID)
    monkeypatch.setenv("FACEBOOK_APP_SECRET", APP_SECRET)
    monkeypatch.setenv("CAPI_GRAPH_URL", "http://127.0.0.1:1")


@pytest.mark.usefixtures("_our_app")
@pytest.mark.parametrize("name", USES)
def test_a_widget_does_what_its_line_says(crowded: Engine, files: Files, name: str) -> None:
    _, widgets, use = USES[name]
    assert use(crowded, files).used >= set(widgets)


# ---- files, and pages of a table

# page → its button, how its file is called, its table ("": the last that is drawn), what its address asks
FILES = {
    "tokens": ("Expiry report (CSV)", "expiry-report", "tokens", {"health": "EXPIRED"}),
    "refresh_history": ("Refresh history (CSV)", "refresh-history", "refreshes", {"outcome": "Adopted"}),
    "failed_events": ("Failed events (CSV)", "failed-events", "events", {"cause": "Not permitted", "show": "dead"}),
    "people": ("Audit trail (CSV)", "audit", "", {"who": "local"}),
}
# page → its table, and a column that tells its rows apart
PAGED = {"tokens": ("tokens", "Pixel"), "apps": ("apps", "appId")}
# page → the name of its buttons, its table, and such a column
TURNED = {
    "refresh_history": ("refreshes", "refreshes", "Trace id"),
    "failed_events": ("events", "events", "Event id"),
    "jobs": ("jobs", "jobs", "Job"),
    "people": ("trail", "", "Line"),
}


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    return Files(monkeypatch)


@pytest.mark.parametrize("page", FILES)
def test_a_file_holds_what_is_listed(files: Files, page: str) -> None:
    button, called, table, asks = FILES[page]
    screen = Screen(page, asks=asks)
    name, lines = files.taken(screen, button)
    assert name.startswith(called)
    assert len(lines) - 1 == len(screen.rows(table)) > 0


@pytest.mark.parametrize("page", PAGED)
def test_another_page_of_a_table(monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    monkeypatch.setattr(console_rows, "PAGE_ROWS", 3)
    table, column = PAGED[page]
    screen = Screen(page)
    first = list(screen.rows(table)[column])
    second = list(screen.choose("page", 2).rows(table)[column])
    assert len(first) == len(second) == 3
    assert not set(first) & set(second)
    assert list(Screen(page, asks={"page": "2"}).rows(table)[column]) == second


@pytest.mark.parametrize("page", TURNED)
def test_on_to_older_rows_and_back(monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    monkeypatch.setattr(console_rows, "PAGE_ROWS", 3)
    name, table, column = TURNED[page]
    screen = Screen(page)
    first = list(screen.rows(table)[column])
    second = list(screen.press(f"{name}.on").rows(table)[column])
    assert len(first) == 3
    assert second
    assert not set(first) & set(second)
    assert list(screen.press(f"{name}.back").rows(table)[column]) == first


def test_look_again_draws_the_page_once_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("CAPI_CONSOLE_PORT", "wrong")
        screen = Screen("tokens")
        assert screen.at.error
    screen.press("Look again")
    assert not screen.at.error
    assert len(screen.rows("tokens"))


def test_every_line_is_used_here_or_by_the_test_it_names() -> None:
    used = {(case.page, case.widget) for case in FILTERS}
    used |= {(page, widget) for page, widgets, _ in USES.values() for widget in widgets}
    used |= {(page, button) for page, (button, *_) in FILES.items()} | {(page, "page") for page in PAGED}
    used |= {(page, f"{name}.{way}") for page, (name, *_) in TURNED.items() for way in ("on", "back")}
    lines = {(page, name): line for page, named in WIDGETS.items() for name, line in named.items()}
    assert used == {key for key, line in lines.items() if not line.by}
    for named in {line.by for line in lines.values() if line.by}:
        file, _, test = named.partition("::")
        found = ast.walk(ast.parse((HERE / file).read_text(encoding="utf-8")))
        assert test in {node.name for node in found if isinstance(node, ast.FunctionDef)}, named
