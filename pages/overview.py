"""What is wrong, how urgent is it, does the machinery run?"""

from __future__ import annotations

import streamlit as st

from core import clock
from core.desk import frames, queries
from core.doors import charts, console
from core.doors import console_orders as orders
from core.doors import console_tables as tables

operator = console.operator()
st.title("Overview")
orders.live_jobs()


@st.fragment(run_every=10)
def watch() -> None:
    now = clock.now()
    with console.looking() as conn:
        seen = queries.overview(conn, now=now, **console.horizon())
    rescue(seen)
    deliveries(seen)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        st.header("Token health")
        st.plotly_chart(charts.health_bars(seen.health), alt="Apps by health of their token", config=charts.PLAIN)
        st.page_link(console.page("tokens"), label="See every token", icon=":material/arrow_forward:")
    with right:
        st.header("Deliveries, last 24 hours")
        figure = charts.deliveries(seen.hours, zone=console.local(now))
        st.plotly_chart(figure, alt="Events per hour", config=charts.PLAIN)
    machinery(seen)


def rescue(seen: queries.Overview) -> None:
    """The rescue clock: what is lost first, and when."""
    if not seen.waiting or seen.first_deadline_at is None:
        with st.container(key="calm"):
            st.subheader("Nothing waits for a token")
            st.caption("Every event goes out as it comes in.")
        return
    left = console.span(seen.first_deadline_at - clock.now())
    worth = frames.money(seen.money)
    with st.container(key="rescue"):
        st.subheader(
            f"{frames.count(seen.waiting)} events wait behind {seen.tokens:,} tokens; the first is lost in {left}"
        )
        ends = f"Meta takes an event for seven days: the first ends {console.both(seen.first_deadline_at)}."
        st.caption(f"{worth} of purchases are among them. {ends}" if worth else ends)
        with st.container(horizontal=True):
            work, broken = console.page("tokens"), {"health": ["Needs reconnect", "EXPIRED"]}
            st.page_link(work, label="Work through these tokens", icon=":material/key:", query_params=broken)
            st.page_link(console.page("failed-events"), label="See the events", icon=":material/outbox:")


def deliveries(seen: queries.Overview) -> None:
    past = [(hour.delivered, hour.after_refresh, hour.refused) for hour in seen.hours]
    sent, late, refused = (list(series) for series in zip(*past, strict=True))
    oldest = f"oldest {console.span(clock.now() - seen.oldest_due_at)}" if seen.oldest_due_at else None
    look = {"border": True, "height": "stretch"}
    with st.grid(5):
        st.metric("Delivered, 24 h", f"{seen.delivered:,}", chart_data=sent, **look)
        st.metric("After a refresh, 24 h", f"{seen.after_refresh:,}", chart_data=late, **look)
        st.metric("Refused, each try, 24 h", f"{seen.refused:,}", chart_data=refused, **look)
        st.metric("Due now", frames.count(seen.due), delta_description=oldest, **look)
        st.metric("Dead", frames.count(seen.dead), delta_description="see Failed events" if seen.dead else None, **look)


def machinery(seen: queries.Overview) -> None:
    st.header("Workers")
    if not seen.workers:
        st.info("No worker was ever heard of. Start one: `capi-console worker`", icon=":material/info:")
        return
    look = tables.workers(len(seen.workers), alt="Workers")
    st.dataframe(frames.workers(seen.workers), hide_index=True, **look)


watch()
