"""A reconnect case in full: whose move it is, the link to send, the message that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal
from urllib.parse import quote

import streamlit as st
from sqlalchemy import Engine

from core import clock
from core.desk import cases, frames
from core.desk.explain import explain
from core.desk.explain_tokens import CASES
from core.desk.operators import Operator
from core.desk.steps import case_step
from core.doors import console
from core.doors import console_orders as orders
from core.doors import console_times as times
from core.errors import CoreError
from core.services.reconnect import plain
from core.settings import Settings


def drawer(case: cases.CaseRow, operator: Operator) -> None:
    """Below the table: facts on the left, what can be done on the right."""
    now = clock.now()
    with st.container(border=True, key="drawer"):
        ended = case.done_at is not None
        st.subheader("Connected again" if ended else case_step(case, now))
        said = CASES[case.state]
        st.caption(f"{explain(case.failure).what}. {said.what}. {said.whose}: {said.do}.")
        left, right = st.columns(2, gap="large")
        with left:
            st.code("\n".join(_facts(case)), language=None, wrap_lines=True)
            times.table(_times(case))
            if case.words:
                st.caption("Meta's words")
                st.code(case.words, language=None, wrap_lines=True)
        with right:
            if ended:
                _ended(case)
            else:
                _refused(case, operator)
                _link(case, operator)


def _facts(case: cases.CaseRow) -> list[str]:
    return [
        f"Owner       {case.email or '–'}",
        f"User id     {case.user_id}",
        *_shops(case),
        f"Token       {case.fingerprint}",
        f"Why         {frames.said(case.failure)}",
        f"Waiting     {case.waiting:,} events",
    ]


def _times(case: cases.CaseRow) -> list[tuple[str, datetime | None, str]]:
    rows = [
        ("First lost", case.first_lost_at, ""),
        ("Case made", case.made_at, ""),
        ("Link sent", case.sent_at, f" by {case.sent_by}" if case.sent_by else ""),
        ("Link ends", case.link_ends_at, ""),
        ("Reminder", case.remind_at, f"; sent so far: {case.reminders}"),
        ("Link used", case.opened_at, ""),
    ]
    return [*rows, ("Done", case.done_at, "")] if case.done_at else rows


def _shops(case: cases.CaseRow, most: int = 5) -> list[str]:
    named = [*case.shops[:most], *([f"and {len(case.shops) - most} more"] if len(case.shops) > most else [])]
    heads = [f"Apps, {case.apps:,}".ljust(12), *[" " * 12] * len(named)]
    return [head + plain(name) for head, name in zip(heads, named or ["–"], strict=False)]


def _ended(case: cases.CaseRow) -> None:
    if case.done_at is not None:
        st.metric("It took", console.span(case.done_at - case.made_at), border=True)
        st.caption("From the case's opening to the new token. What waited for it went out by itself.")


def _link(case: cases.CaseRow, operator: Operator) -> None:
    """A link is made, or shown once more for a reminder, or made anew: then the one before ends."""
    may = operator.may("make_link")
    lives = case.state in ("sent", "opened") and case.link_ends_at is not None and case.link_ends_at > clock.now()
    made = st.session_state.get("invitations", {}).get(case.id) if may else None
    if lives:
        _again(case, operator, may)
    else:
        label = "Make the link" if case.sent_at is None else "Make a new link"
        st.button(
            label, type="primary", key="make", disabled=not may, on_click=_take, args=(cases.make_link, case, operator)
        )
        st.caption(
            "One link for all apps of this owner: it works once, for seven days. Making it counts as sending it."
        )
    if made is None or made.ends_at != case.link_ends_at:
        return
    times.caption(f"The link, until {times.when(made.ends_at)}")
    st.code(made.link, language=None, wrap_lines=True)
    st.caption("A message that can be sent as it is")
    st.code(f"{made.subject}\n\n{made.message}", language=None, wrap_lines=True)
    if case.email:
        address = f"mailto:{quote(case.email)}?subject={quote(made.subject)}&body={quote(made.message)}"
        st.link_button("Open it in your mail program", address, icon=":material/mail:")


def _again(case: cases.CaseRow, operator: Operator, may: bool) -> None:
    with st.container(horizontal=True):
        due: Literal["primary", "secondary"] = "primary" if case.remind_due else "secondary"
        remind = (cases.remind, case, operator)
        st.button("Remind with the same link", type=due, key="remind", disabled=not may, on_click=_take, args=remind)
        if st.button("Make a new link", key="make_new", disabled=not may):
            orders.confirm(
                "Make a new link?",
                ["The link before it ends at once, also where the merchant has it already."],
                lambda _why: _keep(case.id, cases.make_link(*_where(), case.id, by=operator, now=clock.now())),
                done="The new link is below its case",
                yes="Yes, make it",
                asks_why=False,
            )
    st.caption("A reminder shows the link and a message once more, and counts as sent.")


def _refused(case: cases.CaseRow, operator: Operator) -> None:
    """Why the last login was not taken, and the one thing an operator can decide about it."""
    if case.refused is None:
        return
    said = CASES.get(case.refused)
    what = said.what if said else frames.said(case.refused)
    st.warning(f"The last login was not taken: {what}", icon=":material/block:")
    times.caption(f"At {times.when(case.refused_at)}." + (f" {said.whose}: {said.do}." if said else ""))
    if case.refused_words:
        st.code(case.refused_words, language=None, wrap_lines=True)
    if case.refused != "other_user":
        return
    user = case.refused_user
    if user is None:
        st.caption("Meta did not tell whose login it was: nobody can be accepted.")
    elif case.other_user_ok:
        st.caption("This Meta user is accepted for this case: have the merchant open the link once more.")
    elif st.button("Accept this other Meta user", key="accept", disabled=not operator.may("accept_other_user")):
        orders.confirm(
            "May this Meta user connect?",
            [
                "The login came from another Meta user than the one who connected before.",
                "Accept it only if the merchant says that this person may act for the shop. It holds for no one else.",
            ],
            lambda why: cases.accept_other_user(
                console.engine(), case.id, user=user, by=operator, now=clock.now(), reason=why
            ),
            done="This Meta user may connect now, with the same link",
            yes="Yes, accept",
            plain=f"Meta user {user}\n{case.refused_words or ''}".rstrip(),
        )


def _take(order: Callable[..., cases.Invitation], case: cases.CaseRow, operator: Operator) -> None:
    """In the button's callback, so that it happens once however often the script runs, and for a case as it was shown,
    so that a second click of a hasty hand orders nothing."""
    try:
        _keep(case.id, order(*_where(), case.id, by=operator, now=clock.now(), shown=case))
    except CoreError as error:
        st.session_state["notice"] = ("refused", str(error))


def _where() -> tuple[Engine, Settings]:
    return console.engine(), console.settings()


def _keep(case_id: int, invitation: cases.Invitation) -> None:
    st.session_state["invitations"] = st.session_state.get("invitations", {}) | {case_id: invitation}
