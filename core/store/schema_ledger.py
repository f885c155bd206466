"""Our tables of what came in: counts beside the events, the account per app and day, and each shop's weekly rhythm."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, Table, Text

from core.store.schema_base import Id, ours
from core.store.types import Moment

capi_taken = Table(
    "capi_taken",
    ours,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("counts", Text, nullable=False, comment="JSON: App.id to events in all, repeated, by track, by webhook"),
)

capi_ledger = Table(
    "capi_ledger",
    ours,
    Column("app_id", Text, primary_key=True),
    Column("day", Moment, primary_key=True, index=True, comment="the UTC day's beginning"),
    *(
        Column(name, BigInteger, nullable=False, server_default="0")
        for name in ("received", "duplicate", "accepted", "skipped", "dead", "waiting", "orders", "kept_back")
    ),
    Column("purchases", BigInteger, nullable=False, server_default="0", comment="orders that Meta has accepted"),
    Column(
        "off", BigInteger, nullable=False, server_default="0", comment="events that came in and stand in no account"
    ),
    Column("checked_at", Moment, comment="when the events were counted; empty: not yet"),
)
Index(
    "ix_capi_ledger_off",
    capi_ledger.c.day,
    sqlite_where=capi_ledger.c.off != 0,
    postgresql_where=capi_ledger.c.off != 0,
)

capi_rhythm = Table(
    "capi_rhythm",
    ours,
    Column("app_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("since", Moment, nullable=False, comment="the first hour that was learnt"),
    Column("last_at", Moment, nullable=False, index=True, comment="when the last event came in"),
    Column("hour", Moment, nullable=False, comment="the hour that is not learnt yet"),
    Column("count", Integer, nullable=False, comment="its signs of life so far"),
    Column("expected", Text, nullable=False, comment="JSON: signs of life in each of the week's 168 UTC hours"),
    CheckConstraint("kind IN ('track','webhook')", name="kind"),
)
