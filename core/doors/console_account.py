"""Whether everything that came in is accounted for, and whether a shop's orders reach Meta, on the screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import streamlit as st

from core import clock
from core.desk import accounts, frames_setup
from core.desk.alert_lines import plural
from core.desk.alerts import AlertRow
from core.desk.app_list import AppRow
from core.doors import console
from core.doors import console_tables as tables

# kind of alert → how it is said, and how the Apps page finds them
_TOLD = (
    ("orders_missing", "Orders missing at Meta", "orders missing"),
    ("silent_shop", "Silent against its habit", "silent"),
)


def balance(off: Sequence[accounts.Off], total: int, open_: Iterable[AlertRow]) -> None:
    """A red line for each of these days that do not balance (`total` in all), one for shops that bring too little."""
    for one in off:
        with st.container(border=True):
            st.badge("Out of balance", icon=":material/error:", color="red")
            st.text(f"{one.app_name}, {one.day:%Y-%m-%d}: {one.words}")
    if total > len(off):
        st.caption(f"And {total - len(off):,} more: capi-console ledger")
    told = accounts.told(open_)
    shops = [(said, show, told[kind]) for kind, said, show in _TOLD if told.get(kind)]
    if shops:
        with st.container(horizontal=True, vertical_alignment="center"):
            for said, show, count in shops:
                st.markdown(f":material/storefront: {said}: **{plural(count, 'shop')}**")
                st.page_link(console.page("apps"), label="See them", query_params={"show": show})


def orders(row: AppRow) -> None:
    """One app: whether it is silent, and what became of its orders of the last two weeks."""
    with console.looking() as conn:
        silent = accounts.silence_of(conn, row.app_id, now=clock.now())
        days = accounts.order_days(conn, row.app_id, now=clock.now())
    if silent is not None:
        with st.container(border=True):
            st.badge("Silent", icon=":material/hearing_disabled:", color="orange")
            st.text("\n".join(silent))
    if days:
        st.caption("Orders by the day they came in (UTC), and whether Meta has them")
        look = tables.orders(len(days), alt="Orders of the last two weeks")
        st.dataframe(frames_setup.orders(days), hide_index=True, **look)
