"""Operators on their page: added, given another role or password, kept out, let in; and what the audit chain says."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import streamlit as st

from core import clock
from core.desk import audit_trail, people
from core.desk.audit_trail import Verdict
from core.desk.operators import ROLES, Operator
from core.desk.people import OperatorRow
from core.doors import console
from core.doors import console_orders as orders
from core.doors import console_tables as tables
from core.doors import console_times as times
from core.errors import BadInput, CoreError
from core.services.passwords import SHORTEST

_COLOURS = {"active": "#2f9568", "locked": "#d9a017", "disabled": "#8a94a3"}


def operator_table(rows: int, *, alt: str) -> dict[str, Any]:
    c = st.column_config
    columns = {
        "Name": c.TextColumn(width=240),
        "Role": c.TextColumn(width=100),
        "State": tables.badges("State", _COLOURS, width=100, help="Locked: too many wrong passwords, for some minutes"),
        "Last sign-in": tables.at("Last sign-in", relative=True),
        "Since": tables.at("Since", year=True),
    }
    return tables.table(rows, alt, columns)


def trail_table(rows: int, *, alt: str) -> dict[str, Any]:
    c = st.column_config
    columns = {
        "When": tables.at("When"),
        "Who": c.TextColumn(width=150),
        "Action": c.TextColumn(width=150),
        "Object": c.TextColumn(width=240),
        "Rows": c.NumberColumn(format="localized", width=70, help="On how many"),
        "Reason": c.TextColumn(width=260),
        "Result": c.TextColumn(width=240, help="Of a job, how it stands"),
        "Line": c.NumberColumn(width=70, help="Its number in the chain"),
    }
    return tables.table(rows, alt, columns)


def add(operator: Operator) -> None:
    """A new operator. The password is typed here once and told to them by another way."""
    with st.expander("Add an operator", icon=":material/person_add:"), st.form("add", border=False):
        left, right = st.columns(2)
        left.text_input("Name", key="new.name", max_chars=64, placeholder="ann", autocomplete="off")
        right.selectbox("Role", ROLES, key="new.role")
        left.text_input(f"Password, {SHORTEST} characters or more", key="new.password", **_HIDDEN)
        if console.settings().oidc_issuer:
            right.checkbox(
                "No password: the name is the e-mail address of their account elsewhere", key="new.elsewhere"
            )
        may = operator.may("add_operator")
        st.form_submit_button("Add", type="primary", disabled=not may, on_click=_add, args=(operator,))
        words = "Viewers look; support refreshes, retries and sends reconnect links; admins do everything."
        st.caption(operator.why_not("add_operator") or words)


_HIDDEN: dict[str, Any] = {"type": "password", "max_chars": 1000, "autocomplete": "new-password"}


def _add(operator: Operator) -> None:
    state = st.session_state
    name, role, typed = str(state["new.name"] or ""), str(state["new.role"]), str(state["new.password"] or "")
    elsewhere, state["new.password"] = bool(state.get("new.elsewhere")), ""

    def order() -> None:
        if elsewhere and typed:
            raise BadInput("a password was typed and No password is ticked: choose one of the two; nobody was added")
        password = None if elsewhere else typed
        people.add_operator(console.engine(), name, role=role, password=password, by=operator, now=clock.now())

    if _given(order, f"{name.strip().lower()} may sign in as {role}"):
        state["new.name"] = ""
        if elsewhere:
            state["new.elsewhere"] = False


def own(operator: Operator) -> None:
    """One's own password, so that nobody else knows it."""
    with st.expander("Your own password", icon=":material/password:"), st.form("own", border=False):
        st.text_input("The password until now", key="own.now", **{**_HIDDEN, "autocomplete": "current-password"})
        st.text_input(f"The new one, {SHORTEST} characters or more", key="own.new", **_HIDDEN)
        st.form_submit_button("Change it", type="primary", on_click=_change, args=(operator,))
        st.caption("You sign in once more afterwards, here and wherever else you are signed in.")


def _change(operator: Operator) -> None:
    state = st.session_state
    given = {"current": str(state["own.now"] or ""), "password": str(state["own.new"] or "")}
    state["own.now"] = state["own.new"] = ""
    _given(
        lambda: people.change_password(console.engine(), by=operator, now=clock.now(), **given),
        "Your password is changed",
    )


def drawer(row: OperatorRow, operator: Operator) -> None:
    """What can be done about one operator."""
    with st.container(border=True, key="drawer"):
        st.subheader(row.name)
        times.caption(_state(row))
        if why := operator.why_not("set_operator_role"):
            st.caption(why)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            _role(row, operator)
            _letting_in(row, operator)
        _password(row, operator)


def _state(row: OperatorRow) -> str:
    if row.disabled_at is not None:
        return f"Disabled since {times.when(row.disabled_at)}."
    if row.locked_until is not None:
        return f"Too many wrong passwords: none is taken until {times.when(row.locked_until)}."
    how = "" if row.has_password else ", without a password"
    return f"{row.role.capitalize()}{how}; last sign-in {times.when(row.signed_in_at)}."


def _role(row: OperatorRow, operator: Operator) -> None:
    may = operator.may("set_operator_role")
    role = st.selectbox("Role", ROLES, ROLES.index(row.role), key=f"role.{row.name}", width=160, disabled=not may)
    if st.button("Change the role", key="change.role", disabled=not may or role == row.role):
        orders.confirm(
            f"Make them {role}?",
            ["They sign in once more, and jobs of theirs that still run go on only if the new role may order them."],
            lambda why: people.set_operator_role(
                console.engine(), row.name, role=role, by=operator, reason=why, now=clock.now()
            ),
            done=f"{row.name} is {role} now",
            plain=row.name,
            yes="Yes, change it",
        )


def _letting_in(row: OperatorRow, operator: Operator) -> None:
    stands = row.disabled_at is None
    if row.state != "active" and st.button("Let in again", key="enable", disabled=not operator.may("enable_operator")):
        orders.confirm(
            "Let them in again?",
            ["Wrong passwords are forgotten; the password stays the same."],
            lambda why: people.enable_operator(console.engine(), row.name, by=operator, reason=why, now=clock.now()),
            done=f"{row.name} may sign in again",
            plain=row.name,
            yes="Yes, let them in",
        )
    if stands and st.button("Disable", key="disable", disabled=not operator.may("disable_operator")):
        orders.confirm(
            "Let them in no more?",
            ["They are signed out everywhere at once, and jobs of theirs that still run are cancelled."],
            lambda why: people.disable_operator(console.engine(), row.name, by=operator, reason=why, now=clock.now()),
            done=f"{row.name} is disabled, and signed out everywhere",
            plain=row.name,
            yes="Yes, disable them",
        )


def _password(row: OperatorRow, operator: Operator) -> None:
    may = operator.may("set_operator_password")
    with st.expander("Another password", icon=":material/password:"), st.form(f"password.{row.name}", border=False):
        label = f"New password, {SHORTEST} characters or more"
        st.text_input(label, key=f"new.password.{row.name}", disabled=not may, **_HIDDEN)
        st.form_submit_button("Set it", disabled=not may, on_click=_reset, args=(row.name, operator))
        st.caption("They are signed out everywhere, and tell nobody: not even you need to know it afterwards.")


def _reset(name: str, operator: Operator) -> None:
    key = f"new.password.{name}"
    password, st.session_state[key] = str(st.session_state[key] or ""), ""
    _given(
        lambda: people.set_operator_password(console.engine(), name, password=password, by=operator, now=clock.now()),
        f"{name} has another password, and is signed out everywhere",
    )


def _given(order: Callable[[], None], done: str) -> bool:
    try:
        order()
    except CoreError as error:
        st.session_state["notice"] = ("refused", str(error))
        return False
    st.session_state["notice"] = ("ordered", done)
    return True


def verdict() -> None:
    """What the chain says of the whole trail."""
    with console.looking() as conn:
        newest = audit_trail.newest(conn)
    said = _verdict(console.settings().database_url, newest)
    if said.broken is not None:
        st.error(
            f"Line {said.broken:,} was changed afterwards, or the line before it was taken away. What stands from "
            "there on cannot be relied upon: compare it with a copy of the database.",
            icon=":material/link_off:",
        )
    elif said.lines:
        times.caption(f"The chain of {said.lines:,} lines is unbroken since {times.when(said.since)}.")


@st.cache_data(ttl=60, max_entries=4, show_spinner="Reading the whole trail …")
def _verdict(database_url: str, newest: int) -> Verdict:  # noqa: ARG001
    """Read again when a line was added, and each minute."""
    with console.looking() as conn:
        return audit_trail.verdict(conn)


def action_choice(known: Collection[str], said: Callable[[str], str]) -> str | None:
    """One action out of those that stand in the trail, kept in the address."""
    every = sorted(known)
    return st.selectbox(
        "Action", every, None, key="action", bind="query-params", format_func=said, placeholder="Any", width=200
    )
