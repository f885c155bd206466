"""Which tokens are in trouble, whose are they, and what is to be done?"""

from __future__ import annotations

import streamlit as st

from core import clock
from core.desk import commands, exports, frames, queries
from core.doors import console, console_tokens
from core.doors import console_orders as orders
from core.doors import console_rows as paging
from core.doors import console_tables as tables
from core.store.health import Health

operator = console.operator()
now, ahead = clock.now(), console.horizon()
st.title("Token health")
orders.live_jobs()

hint = "Shop, app, e-mail, app id, pixel or fingerprint"
search = st.text_input("Search", key="token", bind="query-params", type="search", placeholder=hint, width=520)
with console.looking() as conn:
    counts = queries.health_counts(conn, now=now, search=search, **ahead)
    due = queries.due_fingerprints(conn, now=now, window=ahead["window"])
words = [str(word) for word in Health]
health = st.pills("Health", words, selection_mode="multi", key="health", bind="query-params")
st.caption(" · ".join(f"{word} {count:,}" for word, count in counts.items() if count))
total = sum(counts[Health(word)] for word in health or Health)
if not sum(counts.values()) and not search:
    st.info("No app is connected yet. Add one: `capi-console app add`, then `capi-console token set`.")
    st.stop()

with st.expander("Ends in the next 60 days", expanded=True, icon=":material/calendar_month:"):
    console_tokens.calendar(now)

actions = st.container(horizontal=True, vertical_alignment="bottom")
page = paging.pages(total, key="page")
sort = tables.sort_choice(actions, queries.SORTS)
window = {"limit": paging.PAGE_ROWS, "offset": (page - 1) * paging.PAGE_ROWS}
with console.looking() as conn:
    rows = queries.token_health(conn, now=now, search=search, health=health, sort=sort, **window, **ahead)
if not rows:
    st.info("No app fits. Clear the search or choose another health.", icon=":material/search_off:")
chosen = paging.select_rows(
    "tokens", frames.tokens(rows), [row.app_id for row in rows], **tables.tokens(len(rows), alt="Apps and their tokens")
)
tokens = sorted({row.fingerprint for row in rows if row.app_id in chosen and row.fingerprint})
may = operator.may("refresh_tokens")
with actions:
    if st.button(f"Refresh selected ({len(chosen)})", type="primary", disabled=not tokens or not may, key="refresh"):
        orders.confirm(
            "Refresh the selected tokens?",
            [f"{len(chosen):,} apps are selected. They hold {len(tokens):,} tokens; each is refreshed once."],
            lambda why: commands.order_refresh(console.engine(), tokens, by=operator, reason=why, now=clock.now()),
            clears="tokens",
        )
    if st.button(f"Refresh all due ({len(due):,})", disabled=not due or not may, key="refresh_due"):
        orders.confirm(
            "Refresh every token that is due?",
            [f"{len(due):,} tokens are broken, over or inside the refresh window, and can still be mended by us."],
            lambda why: commands.order_refresh_due(
                console.engine(), by=operator, reason=why, now=clock.now(), window=ahead["window"]
            ),
        )
    paging.download(
        "Expiry report",
        exports.file_name("expiry-report", now=now, filters=[*(health or []), search]),
        lambda conn, zone: exports.expiry_report(conn, now=now, search=search, health=health, zone=zone, **ahead),
    )
if len(chosen) == 1:
    console_tokens.drawer(next(row for row in rows if row.app_id == chosen[0]), operator)
