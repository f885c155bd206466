"""What people were told of lately, which addresses took it, and whether they work now."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from core import clock
from core.desk import alerts, frames_alerts, frames_recovery, incidents
from core.desk.operators import Operator
from core.doors import console
from core.doors import console_tables as tables
from core.errors import CoreError

LOOKED_BACK = timedelta(days=30)
_STATES = {"open": "#c0392b", "over": "#2f9568"}


def record(operator: Operator) -> None:
    """Alerts and incidents of the last weeks, the addresses, and a test message."""
    since = clock.now() - LOOKED_BACK
    with console.looking() as conn:
        told, channels = alerts.alert_record(conn, since=since), alerts.channels(conn)
        past = [row for row in incidents.incident_history(conn) if row.is_open or row.opened_at >= since]
    st.header("Alerts, open and of the last 30 days")
    if told:
        look = _alerts(len(told))
        st.dataframe(frames_alerts.record(told, _short), hide_index=True, **look)
    else:
        st.info("There was no alert. When something needs a person, it stands here and is sent to every address.")
    _addresses(channels, operator)
    st.header("Incidents of the last 30 days")
    if past:
        st.dataframe(frames_alerts.incidents(past), hide_index=True, **_incidents(len(past)))
    else:
        st.info("Nothing was wrong for all shops at once.")


def _addresses(channels: list[alerts.ChannelRow], operator: Operator) -> None:
    if channels:
        look = tables.channels(len(channels), alt="Addresses that alerts go to")
        st.dataframe(frames_recovery.channels(channels), hide_index=True, **look)
    help_ = None if console.settings().alert_urls else "No address is set: put one or more into CAPI_ALERT_URLS"
    possible = operator.may("test_alerts") and help_ is None
    if st.button("Send a test alert", key="test_alert", disabled=not possible, help=help_, icon=":material/send:"):
        _send_test(operator)


def _send_test(operator: Operator) -> None:
    try:
        with st.spinner("Asking every address …"):
            results = alerts.test_alerts(console.engine(), console.settings(), by=operator, now=clock.now())
    except CoreError as error:
        st.error("This was not sent:", icon=":material/block:")
        st.text(str(error))
        return
    failed = sum(error is not None for _, error in results)
    words = f"{len(results) - failed} of {len(results)} addresses took the test message."
    (st.warning if failed else st.success)(words)
    look = tables.items(len(results), alt="What became of the test message")
    st.dataframe(frames_alerts.tests(results), hide_index=True, **look)


def _short(moment: datetime) -> str:
    return f"{console.local(moment):%d %b %H:%M}"


def _alerts(rows: int) -> dict[str, Any]:
    c = st.column_config
    columns = {
        "Alert": c.TextColumn(width=360),
        "Why": c.TextColumn(width=120),
        "State": tables.badges("State", _STATES, width=70),
        "Opened": tables.at("Opened", width=110),
        "Ended": tables.at("Ended", width=110),
        "Told": c.TextColumn(width=420, help="Which address took a message about it, and when (local time)"),
    }
    return tables.table(rows, "Alerts, newest first", columns)


def _incidents(rows: int) -> dict[str, Any]:
    c = st.column_config
    columns = {
        "Incident": c.TextColumn(width=340),
        "State": tables.badges("State", _STATES, width=70),
        "Opened": tables.at("Opened", width=110),
        "Ended": tables.at("Ended", width=110),
        "Took h": c.NumberColumn("Took, hours", format="%.1f", width=90),
        "Refusals": c.NumberColumn(format="localized", width=80),
        "Waited": c.NumberColumn("Events waited", format="localized", width=110),
        "Meta's words": c.TextColumn(width=360),
    }
    return tables.table(rows, "Incidents, newest first", columns)
