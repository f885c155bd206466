"""What happened to this order, event, request, shop, app or pixel, from its arrival to Meta's acceptance?"""

from __future__ import annotations

import streamlit as st

from core.desk import find
from core.doors import console, console_find
from core.doors import console_orders as orders

operator = console.operator()
st.title("Find")
orders.live_jobs()

typed = console_find.box()
with console.looking() as conn:
    found = find.find(conn, typed)
if not found.hits:
    console_find.nothing(found)
    st.stop()
hit = console_find.choose(found)
if hit is not None:
    console_find.story(hit)
