"""Trouble for practice: a token dies, Meta goes away, our secret is wrong. Beside a sandbox only."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from core import clock
from core.desk import queries
from core.desk.operators import Operator
from core.doors import console
from core.doors import console_sandbox as sandbox
from core.errors import Forbidden

# Who may mend tokens may break those of the sandbox.
_NEEDS = "refresh_tokens"


def practice(operator: Operator) -> None:
    """Two rows of buttons, and what is on just now."""
    may = operator.may(_NEEDS)
    known = sandbox.tokens()
    if known is None:
        return
    st.header("Practise")
    _deaths(known, operator)
    on = sandbox.troubles()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for number, trouble in enumerate(sandbox.TROUBLES):
            key = f"trouble.{number}"
            st.button(trouble, key=key, disabled=not may, on_click=_do, args=(operator, sandbox.order, trouble))
        st.button(
            "End all trouble",
            type="primary",
            key="end_trouble",
            disabled=not (may and on),
            on_click=_do,
            args=(operator, sandbox.calm),
        )
    st.caption(
        f"On just now: {', '.join(on)}." if on else "No trouble is on. See the Overview a minute after you order some."
    )


def _deaths(known: list[sandbox.Played], operator: Operator) -> None:
    names, may = _names(), operator.may(_NEEDS)
    alive = [one.fingerprint for one in known if _lives(one) and one.fingerprint in names]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Token of", alive, key="victim", format_func=names.__getitem__, width=360, placeholder="No token lives"
        )
        st.selectbox("How it dies", list(sandbox.DEATHS), key="death", width=340)
        st.button("Let it die", key="kill", disabled=not (may and alive), on_click=_kill, args=(operator,))
    st.caption("It is noticed with the next event of one of its apps, or when it is looked at: then see Token health.")


def _names() -> dict[str, str]:
    """Fingerprint → an app that holds the token, and its owner."""
    with console.looking() as conn:
        ahead = console.horizon()
        rows = queries.token_health(conn, now=clock.now(), soon=ahead["soon"], window=ahead["window"], limit=200)
    return {row.fingerprint: f"{row.shop or row.app_name}, {row.email}" for row in reversed(rows) if row.fingerprint}


def _lives(one: sandbox.Played) -> bool:
    return one.dead is None and (one.ends_at is None or one.ends_at > clock.now())


def _kill(operator: Operator) -> None:
    """What is chosen when the button is pressed, not when it was drawn."""
    _do(operator, sandbox.let_die, st.session_state["victim"], st.session_state["death"])


def _do(operator: Operator, order: Callable[..., bool], *what: str) -> None:
    """The role is asked for once more: it may have been taken away since the button was drawn."""
    try:
        operator.must(_NEEDS)
    except Forbidden as error:
        st.session_state["notice"] = ("refused", str(error))
        return
    if not order(*what):
        st.session_state["notice"] = ("refused", "the sandbox does not answer")
