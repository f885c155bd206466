"""Our tables around the events: refused requests, jobs, audit, workers, keys."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
)

from core.store.schema_base import Id, ours
from core.store.types import Moment

capi_receipt = Table(
    "capi_receipt",
    ours,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False, index=True),
    Column("source", Text, nullable=False, comment="track or a webhook topic"),
    Column("reason", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("app_id", Text),
    Column("shop_domain", Text),
    Column("detail", Text),
    Index("ix_capi_receipt_app_id_at", "app_id", "at"),
)

capi_job = Table(
    "capi_job",
    ours,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("dedupe_key", Text, unique=True, comment="emptied when the job ends"),
    Column("by", Text, nullable=False),
    Column("reason", Text),
    Column("state", Text, nullable=False),
    Column("total", Integer, nullable=False),
    Column("done", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("skipped", Integer, nullable=False, server_default="0"),
    Column("created_at", Moment, nullable=False, index=True),
    Column("ended_at", Moment),
    Column("paused_at", Moment, comment="nobody works on it since"),
    Column("lease_by", Text),
    Column("lease_until", Moment),
    CheckConstraint("state IN ('queued','running','done','cancelled')", name="state"),
)
Index(
    "ix_capi_job_open",
    capi_job.c.state,
    sqlite_where=capi_job.c.ended_at.is_(None),
    postgresql_where=capi_job.c.ended_at.is_(None),
)

capi_job_item = Table(
    "capi_job_item",
    ours,
    Column("job_id", Id, ForeignKey("capi_job.id"), primary_key=True),
    Column("subject", Text, primary_key=True, comment="what is worked on: a fingerprint or an event's id"),
    Column("outcome", Text, comment="empty: not done yet"),
    Column("words", Text),
)

capi_audit = Table(
    "capi_audit",
    ours,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False, index=True),
    Column("by", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("reason", Text),
    Column("hash", Text, nullable=False, unique=True, comment="SHA-256 over this line and the hash before it"),
)

capi_heartbeat = Table(
    "capi_heartbeat",
    ours,
    Column("worker", Text, primary_key=True),
    Column("started_at", Moment, nullable=False),
    Column("seen_at", Moment, nullable=False),
    Column("stopped_at", Moment),
    Column("version", Text, nullable=False),
)

capi_schedule = Table(
    "capi_schedule",
    ours,
    Column("task", Text, primary_key=True),
    Column("due_at", Moment, nullable=False),
)

capi_rollup = Table(
    "capi_rollup",
    ours,
    Column("pixel_id", Text, primary_key=True, comment="empty: all pixels together"),
    Column("hour", Moment, primary_key=True, index=True, comment="the UTC hour's beginning"),
    Column("delivered", BigInteger, nullable=False),
    Column("after_refresh", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False, comment="events in refused requests, each try"),
    Column("requests", BigInteger, nullable=False),
)

capi_health = Table(
    "capi_health",
    ours,
    Column("day", Moment, primary_key=True, comment="the UTC day's beginning"),
    Column("health", Text, primary_key=True),
    Column("apps", Integer, nullable=False, comment="when the day was last counted"),
)

capi_snapshot = Table(
    "capi_snapshot",
    ours,
    Column("name", Text, primary_key=True),
    Column("label", Text, primary_key=True, comment="empty: the figure has none"),
    Column("value", Float, nullable=False),
    Column("at", Moment, nullable=False),
)

capi_api_key = Table(
    "capi_api_key",
    ours,
    Column("hash", Text, primary_key=True, comment="SHA-256 of the key; the key itself is shown once"),
    Column("title", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("revoked_at", Moment),
)
