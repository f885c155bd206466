"""Our tables around what comes in: browsers seen, events that wait for one, other names of an event."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, Table, Text

from core.store.schema_base import Id, ours
from core.store.types import Moment

capi_visitor = Table(
    "capi_visitor",
    ours,
    Column("app_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True, comment="of what the key is: an order, checkout, cart or browser"),
    Column("key", Text, primary_key=True),
    Column("address", Text),
    Column("user_agent", Text),
    Column("fbp", Text),
    Column("fbc", Text),
    Column("page_url", Text),
    Column("marketing", Boolean, comment="consent to marketing; empty: not said"),
    Column("sale_of_data", Boolean, comment="consent to the sale of data; empty: not said"),
    Column("seen_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False, index=True),
    CheckConstraint("kind IN ('order','checkout','cart','fbp')", name="kind"),
)

capi_join = Table(
    "capi_join",
    ours,
    Column("event_id", Id, primary_key=True, autoincrement=False, comment="capi_event.id"),
    Column("app_id", Text, nullable=False),
    Column("cart", Text),
    Column("checkout", Text),
    Column("fbp", Text),
    Column("until_at", Moment, nullable=False, index=True, comment="when it goes without, if no browser was seen"),
)

capi_alias = Table(
    "capi_alias",
    ours,
    Column("app_id", Text, primary_key=True),
    Column("event_name", Text, primary_key=True),
    Column("alias", Text, primary_key=True, index=True, comment="order:ID, checkout:TOKEN or cart:TOKEN"),
    Column("event_id", Id, nullable=False, index=True, comment="capi_event.id of who reported it"),
    Column("at", Moment, nullable=False, index=True),
)
