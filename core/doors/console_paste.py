"""The form for a token that somebody has: it goes in and never comes out again."""

from __future__ import annotations

import streamlit as st

from core import clock
from core.desk import commands, queries
from core.desk.operators import Operator
from core.doors import console, wiring
from core.errors import BadInput, CoreError
from core.secret import Secret

_LONGEST = 4_096


def form(row: queries.TokenRow, operator: Operator) -> None:
    """Verified with Meta before it is stored: kind, permissions, Meta user, and that it reaches the pixel."""
    may = operator.may("set_token")
    with st.expander("Put another token in its place", icon=":material/password:"), st.form("paste", border=False):
        st.text_input("Access token", key="pasted", type="password", autocomplete="off", disabled=not may)
        st.text_input("Reason", key="paste_reason", placeholder="Stands in the audit trail", max_chars=200)
        alone = st.checkbox("For this app only, not for the owner's others that hold the same token", key="paste_alone")
        other = st.checkbox("Another Meta user than before may take over", key="paste_other")
        st.form_submit_button(
            "Verify and store",
            key="give",
            type="primary",
            disabled=not may,
            on_click=_take_out,
            icon=":material/verified:",
        )
        st.caption("Meta is asked about it first; what it refuses is not stored. Nobody can read it here again.")
    token: Secret | str | None = st.session_state.pop("giving", None)
    if token is not None and may:
        with st.spinner("Asking Meta…"):
            st.session_state["notice"] = _give(row, token, operator, alone=alone, other=other)
        st.rerun()


def _take_out() -> None:
    """Out of the field at once, so that neither the page nor the session holds it in the clear."""
    text = str(st.session_state.get("pasted") or "").strip()
    st.session_state["pasted"] = ""
    good = 0 < len(text) <= _LONGEST and all("\x21" <= letter <= "\x7e" for letter in text)
    st.session_state["giving"] = Secret(text) if good else ""


def _give(
    row: queries.TokenRow, token: Secret | str, operator: Operator, *, alone: bool, other: bool
) -> tuple[str, str]:
    """What became of it, for the notice at the top of the page."""
    try:
        if isinstance(token, str):
            raise BadInput("this is not a token: one line of letters and digits is expected")
        service = wiring.make_service(console.settings(), console.engine(), kind="console")
        given = commands.set_token(
            service,
            row.public_id,
            token,
            by=operator,
            now=clock.now(),
            only_this=alone,
            accept_other_user=other,
            reason=st.session_state.get("paste_reason") or None,
        )
    except CoreError as error:
        return "refused", str(error)
    st.session_state["notes"] = list(given.warnings)
    stored = f"Token {given.app.fingerprint} is stored for {given.apps_updated:,} apps"
    return "ordered", f"{stored}; events set free: {given.events_released:,}"
