"""Our tables around the people at the console: operators, their sessions, and tries to sign in that failed."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, Table, Text

from core.store.schema_base import Id, ours
from core.store.types import Moment

capi_operator = Table(
    "capi_operator",
    ours,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("password", Text, nullable=False, comment="scrypt with its parameters and salt; the password is not stored"),
    Column("created_at", Moment, nullable=False),
    Column("signed_in_at", Moment, comment="the last time"),
    Column("disabled_at", Moment),
    CheckConstraint("role IN ('viewer','support','admin')", name="role"),
)

capi_session = Table(
    "capi_session",
    ours,
    Column("hash", Text, primary_key=True, comment="SHA-256 of the cookie; the cookie itself is not stored"),
    Column("operator_id", Id, ForeignKey("capi_operator.id"), nullable=False, index=True),
    Column("started_at", Moment, nullable=False),
    Column("seen_at", Moment, nullable=False, comment="when the person last did something, to the minute"),
)

capi_lockout = Table(
    "capi_lockout",
    ours,
    Column("subject", Text, primary_key=True, comment="SHA-256 of a name or an address"),
    Column("tries", Integer, nullable=False),
    Column("tried_at", Moment, nullable=False),
    Column("locked_until", Moment),
)
