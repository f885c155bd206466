"""The form for a token that somebody has: it goes in and never comes out again."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import streamlit as st

from core import clock
from core.desk import commands
from core.desk.operators import Operator
from core.doors import console, wiring
from core.errors import BadInput, CoreError
from core.secret import Secret

_LONGEST = 4_096


class Named(Protocol):
    """An app as a page knows it."""

    @property
    def app_id(self) -> str: ...
    @property
    def public_id(self) -> str: ...


def form(row: Named, operator: Operator) -> None:
    """Verified with Meta before it is stored: kind, permissions, Meta user, and that it reaches the pixel."""
    may = operator.may("set_token")
    keys = _keys(row)
    with st.expander("Put another token in its place", icon=":material/password:"), st.form(keys.form, border=False):
        st.text_input("Access token", key=keys.token, type="password", autocomplete="off", disabled=not may)
        st.text_input("Reason", key=keys.reason, placeholder="Stands in the audit trail", max_chars=200)
        st.checkbox("For this app only, not for the owner's others that hold the same token", key=keys.alone)
        st.checkbox("Another Meta user than before may take over", key=keys.other)
        st.form_submit_button(
            "Verify and store",
            key=keys.give,
            type="primary",
            disabled=not may,
            on_click=_take,
            args=(row, operator),
            icon=":material/verified:",
        )
        st.caption("Meta is asked about it first; what it refuses is not stored. Nobody can read it here again.")


@dataclass(frozen=True, slots=True)
class _Keys:
    """The form's widgets, named for one app: what was typed or ticked for it never stands in another's form."""

    form: str
    token: str
    reason: str
    alone: str
    other: str
    give: str


def _keys(row: Named) -> _Keys:
    return _Keys(*(f"paste_{field.name}.{row.app_id}" for field in fields(_Keys)))


def _take(row: Named, operator: Operator) -> None:
    """In the button's callback: for the app that was on screen, and out of the field at once, whatever comes of it."""
    keys, state = _keys(row), st.session_state
    text = str(state.get(keys.token) or "").strip()
    state[keys.token] = ""
    good = 0 < len(text) <= _LONGEST and all("\x21" <= letter <= "\x7e" for letter in text)
    state["notice"] = _give(row, Secret(text) if good else None, operator, keys)


def _give(row: Named, token: Secret | None, operator: Operator, keys: _Keys) -> tuple[str, str]:
    """What became of it, for the notice at the top of the page."""
    state = st.session_state
    try:
        if token is None:
            raise BadInput("this is not a token: one line of letters and digits is expected")
        service = wiring.make_service(console.settings(), console.engine(), kind="console")
        given = commands.set_token(
            service,
            row.public_id,
            token,
            by=operator,
            now=clock.now(),
            only_this=bool(state.get(keys.alone)),
            accept_other_user=bool(state.get(keys.other)),
            reason=state.get(keys.reason) or None,
        )
    except CoreError as error:
        return "refused", str(error)
    state["notes"] = list(given.warnings)
    stored = f"Token {given.app.fingerprint} is stored for {given.apps_updated:,} apps"
    return "ordered", f"{stored}; events set free: {given.events_released:,}"
