"""How is this installation set up, what runs, and what is missing?"""

from __future__ import annotations

import streamlit as st

from core import clock
from core.desk import frames, frames_setup, keys, queries, system_facts
from core.desk.diagnosis import check_settings
from core.desk.frames_recovery import checks
from core.doors import console, console_alerts
from core.doors import console_orders as orders
from core.doors import console_tables as tables
from core.services import doctor

operator = console.operator()
settings, now = console.settings(), clock.now()
st.title("System")
orders.live_jobs()

with console.looking() as conn:
    workers = queries.workers(conn, now=now)
    versions = system_facts.versions(conn)
    stands, expected = system_facts.revision(conn)
    encryption, key_rows = keys.encryption_state(conn), keys.key_rows(conn)

st.header("Set-up")
found = [*check_settings(settings), doctor.graph_version(settings.graph_version, now=now)]
st.dataframe(checks(found), hide_index=True, **tables.checks(len(found), alt="Set-up and what is missing"))

st.header("Workers")
if workers:
    st.dataframe(frames.workers(workers), hide_index=True, **tables.workers(len(workers), alt="Workers"))
else:
    st.info("No worker was ever started: events and orders wait. Start one: `capi-console worker`.")

left, right = st.columns(2, gap="large")
with left:
    st.header("Versions")
    st.code("\n".join(f"{name:<14}{value}" for name, value in versions.items()), language=None)
    fits = "as this program expects" if stands == expected else f"this program expects {expected}"
    st.caption(f"The database is at revision {stands}, {fits}.")
with right:
    st.header("Tokens at rest")
    st.text(f"Encryption is {encryption}.")
    if key_rows:
        st.dataframe(frames_setup.keys(key_rows), hide_index=True, **tables.keys(len(key_rows), alt="Keys"))
    st.caption("To encrypt every stored token with the newest key, run capi-console keys rotate.")

console_alerts.record(operator)

st.header("Settings")
rows = system_facts.setting_rows(settings)
st.dataframe(frames_setup.settings(rows), hide_index=True, **tables.settings(len(rows), alt="Settings"))
st.caption("Set in the environment or `.env` of each process; a secret is shown by its fingerprint only.")
