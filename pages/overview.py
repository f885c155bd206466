"""What is wrong, how urgent is it, does the machinery run?"""

from __future__ import annotations

import streamlit as st

from core import clock
from core.desk import accounts, alerts, incidents, queries, volume
from core.doors import charts, console, console_account
from core.doors import console_orders as orders
from core.doors import console_overview as parts

operator = console.operator()
st.title("Overview")
orders.live_jobs()


@st.fragment(run_every=10)
def watch() -> None:
    now = clock.now()
    with console.looking() as conn:
        seen = queries.overview(conn, now=now, **console.horizon())
        wrong = incidents.open_incidents(conn, now)
        trend = queries.health_trend(conn, seen.health, now=now)
        share = volume.share(conn, now=now, **console.horizon())
        open_, channels = alerts.open_alerts(conn), alerts.channels(conn)
        off, total = accounts.off(conn), accounts.off_total(conn)
    parts.trouble(wrong)
    parts.rescue(seen)
    console_account.balance(off, total, open_)
    parts.told(open_, channels)
    parts.deliveries(seen)
    parts.flow(share)
    left, right = st.columns([4, 5], gap="medium")
    with left:
        st.header("Token health")
        parts.health(seen.health, trend)
        st.page_link(console.page("tokens"), label="See every token", icon=":material/arrow_forward:")
    with right:
        st.header("Deliveries, last 24 hours")
        figure = charts.deliveries(seen.hours, zone=console.local(now))
        st.plotly_chart(figure, alt="Events per hour", config=charts.PLAIN)
    parts.machinery(seen)
    parts.setup()


watch()
