"""What the first page is made of: what is wrong for everybody, what is lost first, who is told, what runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import streamlit as st

from core import clock
from core.desk import alerts, frames, frames_recovery, incidents, queries, system, volume
from core.desk.alert_lines import plural
from core.desk.explain_tokens import INCIDENTS
from core.doors import console
from core.doors import console_tables as tables
from core.doors import console_times as times
from core.store import keyring
from core.store.health import Health

_SHOWN_ALERTS = 5


def trouble(found: Sequence[incidents.IncidentRow]) -> None:
    """One banner for each open incident: sending and refreshes pause, nothing is lost meanwhile."""
    now = clock.now()
    for row in found:
        said = INCIDENTS[row.kind]
        with st.container(key=f"incident-{row.kind.replace('_', '-')}"):
            st.subheader(f":material/warning: {said.what}")
            since = (
                f"Since {times.when(row.opened_at)} ({console.span(now - row.opened_at)}), {row.refusals:,} refusals."
            )
            waits = f"{frames.count(row.waiting_now)} events wait and go out by themselves when it ends."
            st.markdown(f"{since} **{waits}** {said.whose}: {said.do}.", unsafe_allow_html=True)
            code = "/".join(str(number) for number in (row.code, row.subcode) if number is not None)
            said_by_meta = f"Meta: {row.words or 'said nothing'}\nCode {code or '–'}, trace id {row.trace_id or '–'}"
            st.code(said_by_meta, language=None, wrap_lines=True)
            times.caption(f"Next try {times.when(row.probe_at)}.")


def rescue(seen: queries.Overview) -> None:
    """The rescue clock: what is lost first, and when."""
    if not any(seen.health.values()):
        with st.container(key="calm"):
            st.subheader("No app is connected yet")
            st.caption("Connect one, and its storefront can report at once.")
            st.page_link(console.page("apps"), label="Connect an app", icon=":material/add:")
        return
    if not seen.waiting or seen.first_deadline_at is None:
        with st.container(key="calm"):
            st.subheader("Nothing waits for a token")
            st.caption("Every event goes out as it comes in.")
        return
    left = console.span(seen.first_deadline_at - clock.now())
    worth = escape(frames.money(seen.money))
    with st.container(key="rescue"):
        waits = "1 event waits" if seen.waiting == 1 else f"{frames.count(seen.waiting)} events wait"
        st.subheader(f"{waits} behind {plural(seen.tokens, 'token')}; the first is lost in {left}")
        ends = f"Meta takes an event for seven days: the first ends {times.when(seen.first_deadline_at)}."
        times.caption(f"{worth} of purchases are among them. {ends}" if worth else ends)
        with st.container(horizontal=True):
            work, broken = console.page("tokens"), {"health": ["Needs reconnect", "EXPIRED"]}
            st.page_link(work, label="Work through these tokens", icon=":material/key:", query_params=broken)
            st.page_link(console.page("reconnect"), label="Send reconnect links", icon=":material/link:")
            st.page_link(console.page("failed-events"), label="See the events", icon=":material/outbox:")


def flow(share: volume.Share) -> None:
    """How much of what happens in shops reaches Meta's door just now."""
    if share.percent is not None:
        lost = share.all - share.healthy
        rest = f"; {plural(lost, 'event')} of them hang on tokens that do not" if lost else ""
        st.caption(f"{share.percent:.1f} % of the events of the last 24 hours flow on tokens that work{rest}.")


def told(found: Sequence[alerts.AlertRow], channels: Sequence[alerts.ChannelRow]) -> None:
    """Open alerts, the worst first, and the addresses that cannot be reached."""
    if found:
        st.header("Open alerts")
        shown = found[:_SHOWN_ALERTS]
        look = tables.alerts(len(shown), alt="Open alerts, the worst first")
        st.dataframe(frames_recovery.alerts(shown), hide_index=True, **look)
        if len(found) > len(shown):
            st.caption(f"And {len(found) - len(shown):,} more: see System, or capi-console alerts list")
    failing = [channel for channel in channels if channel.failures]
    if failing:
        st.warning(
            "Some alerts reach nobody: they are kept, and tried again by themselves.", icon=":material/sms_failed:"
        )
        look = tables.channels(len(failing), alt="Alert addresses that fail")
        st.dataframe(frames_recovery.channels(failing), hide_index=True, **look)


def deliveries(seen: queries.Overview) -> None:
    past = [(hour.delivered, hour.after_refresh, hour.refused) for hour in seen.hours]
    sent, late, refused = (list(series) for series in zip(*past, strict=True))
    oldest = f"oldest {console.span(clock.now() - seen.oldest_due_at)}" if seen.oldest_due_at else None
    look: dict[str, Any] = {"border": True, "height": "stretch"}
    with st.grid(5):
        st.metric("Delivered, 24 h", f"{seen.delivered:,}", chart_data=sent, **look)
        st.metric("After a refresh, 24 h", f"{seen.after_refresh:,}", chart_data=late, **look)
        st.metric("Refused, each try, 24 h", f"{seen.refused:,}", chart_data=refused, **look)
        st.metric("Due now", frames.count(seen.due), delta_description=oldest, **look)
        st.metric("Dead", frames.count(seen.dead), delta_description="see Failed events" if seen.dead else None, **look)


def health(counts: Mapping[Health, int], trend: Mapping[Health, Sequence[int]]) -> None:
    look = tables.health(len(counts), most_apps=max(counts.values()), alt="Apps by health of their token, day by day")
    st.dataframe(frames.health(counts, trend), hide_index=True, **look)


def machinery(seen: queries.Overview) -> None:
    st.header("Workers")
    if not seen.workers:
        st.info("No worker was ever heard of. Start one: `capi-console worker`", icon=":material/info:")
        return
    look = tables.workers(len(seen.workers), alt="Workers")
    st.dataframe(frames.workers(seen.workers), hide_index=True, **look)


def setup() -> None:
    """How this console is set up, in a small line for each thing."""
    st.header("How this console is set up")
    lines = system.setup(console.settings(), keyring.of(console.engine()))
    icons = {True: ":material/check:", False: ":material/info: **To decide:**"}
    st.caption("  \n".join(f"{icons[line.fine]} {line.words}" for line in lines))
