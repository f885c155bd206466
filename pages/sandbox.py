"""What has the stand-in for Meta heard, and what is it to play?"""

from __future__ import annotations

import streamlit as st

from core.doors import console, console_practice
from core.doors import console_orders as orders
from core.doors import console_sandbox as sandbox

operator = console.operator()
st.title("Sandbox")
if not sandbox.here():
    st.info(
        "No sandbox is in use: this console works with Meta itself. "
        "Try one apart from your data with `capi-console up --sandbox`.",
        icon=":material/info:",
    )
    st.stop()
orders.notices()
console_practice.practice(operator)


@st.fragment(run_every=2)
def listen() -> None:
    heard = sandbox.heard()
    if heard is None:
        st.warning(
            "The sandbox does not answer; this page shows what it heard once it is back.", icon=":material/hearing:"
        )
        return
    counts(heard)
    st.header("Accepted events")
    events(heard)


def counts(heard: sandbox.Heard) -> None:
    look = {"border": True, "height": "stretch"}
    kinds = {"events": "Calls with events", "exchange": "Exchange calls", "debug": "Debug calls"}
    with st.grid(5):
        for kind, title in kinds.items():
            refused = heard.refused.get(kind, 0)
            said = f"{refused:,} refused" if refused else None
            st.metric(title, f"{heard.calls.get(kind, 0):,}", delta_description=said, **look)
        st.metric("Accepted events", f"{heard.accepted:,}", **look)
        same = f"Same pixel, event and event id more than once, among the last {sandbox.COUNTED_EVENTS:,}"
        st.metric("Duplicates", f"{heard.duplicates:,}", help=same, **look)


def events(heard: sandbox.Heard) -> None:
    rows = len(heard.events["At"])
    if not rows:
        st.info("No event was accepted yet. Send one, and it is here two seconds later.", icon=":material/info:")
        return
    at = st.column_config.DatetimeColumn("At", format="D MMM, HH:mm:ss", timezone=console.zone_name())
    token = st.column_config.TextColumn("Token", help="The token's fingerprint; the token itself is never shown")
    st.dataframe(
        heard.events,
        hide_index=True,
        column_config={"At": at, "Token": token},
        row_height=30,
        height=min(620, 36 + 30 * rows),
        alt="Events the sandbox accepted, newest first",
    )
    st.caption(f"The newest {rows:,}, by the sandbox's own clock")


listen()
