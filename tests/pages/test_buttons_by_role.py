"""Every button of every page, open on the screen and pressed by somebody of each role: pages hold nobody back.

So it is when a role was taken away after the page was drawn. That Streamlit itself drops what comes from a closed
button is its own affair.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Engine, Table, select
from streamlit.testing.v1 import AppTest

from core import clock
from core.desk import commands, people
from core.desk.operators import NEEDS, Operator
from core.doors.console import MENU
from core.sandbox.client import Sandbox
from core.secret import Secret
from core.services.sign_in import LOCAL
from core.store.database import reading
from core.store.platform_tables import platform
from core.store.schema import capi_api_key, capi_app, capi_audit, capi_operator, ours
from tests.desk import trouble
from tests.desk.rows import MARK
from tests.pages.conftest import Opens
from tests.reconnecting import everything
from tests.world import APP_ID, APP_SECRET

pytestmark = pytest.mark.usefixtures("quick_passwords")

# What admins alone may change: apps, their tokens, people, keys.
ADMINS = (*platform.sorted_tables, capi_app, capi_api_key, capi_operator)
EVERYBODYS = (*ours.sorted_tables, *platform.sorted_tables)


class Demoted(Operator):
    """Somebody to whom the page was shown as to an admin."""

    def may(self, order: str) -> bool:  # noqa: ARG002
        return True

    def must(self, order: str) -> None:
        Operator(self.name, self.role).must(order)


@dataclass(frozen=True, slots=True)
class Place:
    """A page, what is typed there, the row that is chosen in a table, and what an admin orders by pressing all."""

    page: str
    typed: dict[str, Any] = field(default_factory=dict)
    chosen: tuple[int, int] | None = None
    ordered: frozenset[str] = frozenset()


def _place(page: str, chosen: tuple[int, int] | None = None, ordered: str = "", **typed: Any) -> Place:
    return Place(page, typed, chosen, frozenset(ordered.split()))


PLACES = (
    _place("overview"),
    _place("find", q="evt-7"),
    _place("tokens", (0, 0), "refresh_tokens set_token", token="owner1@"),
    _place("refresh_history", (0, 0)),
    _place("failed_events", (1, 0), "retry_events", show="dead"),
    _place("reconnect", (0, 0), "make_link", case="owner0@"),
    _place("reconnect", (0, 0), "make_link accept_other_user", case="owner2@"),
    _place("jobs", (0, 0), "pause_job cancel_job"),
    _place("jobs", (0, 1), "resume_job cancel_job"),
    _place("apps", (0, 0), "add_app set_app", app="amber-goods-0."),
    _place("people", (0, 0), "add_operator set_operator_role set_operator_password disable_operator"),
    _place("people", (0, 1), "add_operator set_operator_role set_operator_password enable_operator"),
    _place("system", None, "test_alerts"),
    _place("sandbox"),
)
# No button: given at the shell, where whoever may run it is an admin; a diagnosis and one's own password leave no such
# line (tests/pages/test_recovery_pages.py, tests/pages/test_people_page.py).
ELSEWHERE = {"rotate_keys", "add_api_key", "revoke_api_key", "diagnose", "change_password"}
PASSWORD = "correct horse battery"
PASTED = "EAApastedIntoTheForm0123456789"
# What is typed wherever there is a field for it.
TYPED = {
    "reason": "because",
    "new.name": "newcomer",
    "new.email": "new@tea.example",
    "new.shop_domain": "tea.myshopify.com",
    "new.pixel": "600900",
    **dict.fromkeys(("new.password", "new.password.abe", "new.password.mia"), PASSWORD),
    "set_order_channels.app-00000": "pos",
}


@pytest.fixture
def busy(world: Engine, meta: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Something to do on every page."""
    now = clock.now()
    for name, value in {
        "CAPI_GRAPH_URL": meta.url,
        "FACEBOOK_APP_ID": APP_ID,
        "FACEBOOK_APP_SECRET": APP_SECRET,
        "CAPI_ALERT_URLS": "json://127.0.0.1:9/hook",
    }.items():
        monkeypatch.setenv(name, value)
    trouble.open_cases(world, now=now)
    for name, role in (("zoe", "admin"), ("abe", "support"), ("mia", "support")):
        people.add_operator(world, name, role=role, password=PASSWORD, by=LOCAL, now=now)
    people.disable_operator(world, "mia", by=LOCAL, now=now)
    holders = [Secret(f"{MARK}{holder:05d}").fingerprint for holder in range(6)]
    commands.pause_job(world, commands.order_refresh(world, holders[:3], by=LOCAL, now=now), by=LOCAL, now=now)
    commands.order_refresh(world, holders[3:], by=LOCAL, now=now)
    meta.create_token(token=f"{MARK}00000")
    meta.create_token(token=PASTED, user="100000001")
    return world


def _goes_to(place: Place, opens: Opens) -> AppTest:
    at = opens(place.page, **place.typed)
    if place.chosen is not None:
        table, row = place.chosen
        at.session_state[at.dataframe[table].key] = {"selection": {"rows": [row], "columns": [], "cells": []}}
        at.run()
    assert not at.exception, at.exception
    for box in (one for one in at.selectbox if str(one.key).startswith("role.")):
        box.set_value("viewer").run()
    for box in at.text_input:
        if typed := PASTED if box.label == "Access token" else TYPED.get(str(box.key)):
            box.set_value(typed)
    return at


def _presses_all(place: Place, opens: Opens, meta: Sandbox) -> bool:
    """Each button that is there at first, each on a page of its own, and yes to whatever is asked. Whether the sandbox
    was moved."""
    calm, moved = _trouble_of(meta), False
    for number in range(len(_goes_to(place, opens).button)):
        at = _goes_to(place, opens)
        if number >= len(at.button) or at.button[number].disabled:
            continue
        at.button[number].click().run()
        if any(one.key == "yes" for one in at.button):
            for box in at.text_input:
                if box.key == "reason":
                    box.set_value(TYPED["reason"])
            at.button(key="yes").click().run()
        assert not at.exception, at.exception
        moved = moved or _trouble_of(meta) != calm
    return moved


def _rows(engine: Engine, tables: tuple[Table, ...]) -> dict[str, list[Any]]:
    return everything(engine, lambda: list(tables))


def _audited(engine: Engine) -> list[str]:
    with reading(engine) as conn:
        return list(conn.scalars(select(capi_audit.c.action).order_by(capi_audit.c.id)))


def _trouble_of(meta: Sandbox) -> tuple[list[Any], list[Any]]:
    return meta.stats()["faults"], [token["expires_at"] for token in meta.tokens()]


def test_every_page_is_gone_to_and_every_order_given() -> None:
    assert {entry.file.removesuffix(".py") for group in MENU.values() for entry in group} == {p.page for p in PLACES}
    assert set().union(*(place.ordered for place in PLACES)) == set(NEEDS) - ELSEWHERE


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place.page}{place.typed or place.chosen}")
@pytest.mark.parametrize("role", ["viewer", "support", "admin"])
def test_a_press_orders_what_the_role_may_order_and_nothing_else(
    busy: Engine, meta: Sandbox, opens: Opens, monkeypatch: pytest.MonkeyPatch, role: str, place: Place
) -> None:
    monkeypatch.setattr("core.doors.console.operator", lambda: Demoted("vi", role))
    before, theirs, told = _rows(busy, EVERYBODYS), _rows(busy, ADMINS), _audited(busy)
    moved = _presses_all(place, opens, meta)
    ordered = set(_audited(busy)[len(told) :])
    assert moved is (place.page == "sandbox" and role != "viewer")
    if role == "viewer":
        assert _rows(busy, EVERYBODYS) == before
    elif role == "support":
        assert all(NEEDS[order] == "support" for order in ordered)
        assert _rows(busy, ADMINS) == theirs
    else:
        assert ordered == place.ordered
