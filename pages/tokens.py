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

filters = console_tokens.filters()
with console.looking() as conn:
    counts = queries.health_counts(conn, filters, now=now, **ahead)
    due = queries.due_fingerprints(conn, now=now, window=ahead["window"])
st.caption(" · ".join(f"{word} {count:,}" for word, count in counts.items() if count))
total = sum(counts[Health(word)] for word in filters.health or Health)
if not sum(counts.values()) and not (filters.search or filters.left):
    st.info("No app is connected yet. Add one: `capi-console app add`, then `capi-console token set`.")
    st.stop()

with st.expander("When tokens end", expanded=True, icon=":material/calendar_month:"):
    console_tokens.ends(now)

actions = st.container(horizontal=True, vertical_alignment="bottom")
page = paging.pages(total, key="page")
sort = tables.sort_choice(actions, queries.SORTS)
window = {"limit": paging.PAGE_ROWS, "offset": (page - 1) * paging.PAGE_ROWS}
with console.looking() as conn:
    rows = queries.token_health(conn, filters, now=now, sort=sort, **window, **ahead)
if not rows:
    st.info("No app fits. Clear the search, choose another health or other days left.", icon=":material/search_off:")
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
        exports.file_name("expiry-report", now=now, filters=[*filters.health, filters.left, filters.search]),
        lambda conn, zone: exports.expiry_report(conn, filters, now=now, zone=zone, **ahead),
    )
if len(chosen) == 1:
    console_tokens.drawer(next(row for row in rows if row.app_id == chosen[0]), operator)
