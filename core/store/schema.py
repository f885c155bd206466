"""Our tables, all prefixed `capi_`. Alembic's migrations build them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
)

from core.store.schema_base import Id, ours
from core.store.schema_inbound import capi_alias, capi_join, capi_visitor
from core.store.schema_ledger import capi_ledger, capi_rhythm, capi_taken
from core.store.schema_people import capi_lockout, capi_operator, capi_session
from core.store.schema_recovery import (
    capi_alert,
    capi_case,
    capi_channel,
    capi_incident,
    capi_key,
    capi_message,
    capi_notice,
    capi_reach,
)
from core.store.schema_work import (
    capi_api_key,
    capi_audit,
    capi_health,
    capi_heartbeat,
    capi_job,
    capi_job_item,
    capi_receipt,
    capi_rollup,
    capi_schedule,
    capi_snapshot,
)
from core.store.types import Moment

__all__ = [
    "Id",
    "capi_alert",
    "capi_alias",
    "capi_api_key",
    "capi_app",
    "capi_attempt",
    "capi_audit",
    "capi_case",
    "capi_channel",
    "capi_event",
    "capi_health",
    "capi_heartbeat",
    "capi_incident",
    "capi_job",
    "capi_job_item",
    "capi_join",
    "capi_key",
    "capi_ledger",
    "capi_lockout",
    "capi_message",
    "capi_notice",
    "capi_operator",
    "capi_outbox",
    "capi_pixel",
    "capi_reach",
    "capi_receipt",
    "capi_refresh",
    "capi_rhythm",
    "capi_rollup",
    "capi_schedule",
    "capi_session",
    "capi_snapshot",
    "capi_taken",
    "capi_token",
    "capi_visitor",
    "ours",
]

capi_app = Table(
    "capi_app",
    ours,
    Column("app_id", Text, primary_key=True, comment="App.id"),
    Column("shop_domain", Text, index=True),
    Column("allowed_origins", Text, comment="hosts, comma separated; empty: any origin is served"),
    Column("forwarded_names", Text, comment="custom event names that are forwarded, comma separated"),
    Column("content_id", Text, nullable=False, server_default="variant", comment="variant, product or sku"),
    Column("purchase_topic", Text, nullable=False, server_default="orders/create"),
    Column("value_of", Text, nullable=False, server_default="total", comment="total, subtotal or presentment"),
    Column("order_channels", Text, comment="source names of orders taken beside web, comma separated"),
    Column("consent_policy", Text, nullable=False, server_default="send", comment="send, limit or require"),
    Column("allow_null_origin", Boolean, nullable=False, server_default="1", comment="web pixels send Origin: null"),
    Column("fingerprint", Text, index=True, comment="the token last seen in AppSettings"),
    Column("paused_at", Moment),
    Column("paused_reason", Text),
)

capi_token = Table(
    "capi_token",
    ours,
    Column("fingerprint", Text, primary_key=True),
    Column("user_id", Text, nullable=False, index=True, comment="User.id of the holder first seen"),
    Column("first_seen_at", Moment, nullable=False),
    Column("obtained_at", Moment, comment="when our refresh made it; empty: somebody else stored it"),
    Column("kind", Text, comment="/debug_token type: USER, SYSTEM_USER, PAGE"),
    Column("meta_app_id", Text),
    Column("meta_user_id", Text),
    Column("scopes", Text),
    Column("scopes_since", Moment, comment="since when they are these"),
    Column("expires_at", Moment),
    Column("never_expires", Boolean, nullable=False, server_default="0"),
    Column("data_access_expires_at", Moment),
    Column("issued_at", Moment, comment="Meta tells it of long-lived tokens only"),
    Column("foreign_app", Boolean, nullable=False, server_default="0", comment="another Meta app made it"),
    Column("checked_at", Moment),
    Column("check_at", Moment, index=True, comment="when Meta is asked about it again; empty: now"),
    Column("probe_at", Moment, comment="when a token that needs a reconnect is looked at again"),
    Column("probes", Integer, nullable=False, server_default="0"),
    Column("wait_until", Moment, comment="no call with this token before: Meta's limit for its user"),
    Column("wait_failure", Text),
    Column("broken_since", Moment),
    Column("broken_failure", Text),
    Column("broken_words", Text),
    Column("broken_app", Text, comment="App.id whose event Meta refused"),
    Column("needs_reconnect", Boolean, nullable=False, server_default="0"),
    Column("next_refresh_at", Moment, index=True),
    Column("failures", Integer, nullable=False, server_default="0", comment="refreshes failed in a row"),
    Column("refresh_by", Text),
    Column("refresh_until", Moment),
)
Index(
    "ix_capi_token_broken_since",
    capi_token.c.broken_since,
    sqlite_where=capi_token.c.broken_since.is_not(None),
    postgresql_where=capi_token.c.broken_since.is_not(None),
)

capi_refresh = Table(
    "capi_refresh",
    ours,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("started_at", Moment, nullable=False, index=True),
    Column("duration_ms", Integer, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("user_id", Text, nullable=False, index=True),
    Column("app_id", Text, comment="App.id it was asked for"),
    Column("fingerprint", Text, nullable=False, index=True, comment="the token before"),
    Column("new_fingerprint", Text),
    Column("outcome", Text, nullable=False),
    Column("expires_before", Moment),
    Column("expires_after", Moment),
    Column("apps_updated", Integer, nullable=False),
    Column("code", Integer),
    Column("subcode", Integer),
    Column("words", Text),
    Column("trace_id", Text),
)

capi_event = Table(
    "capi_event",
    ours,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("app_id", Text, nullable=False),
    Column("pixel_id", Text, nullable=False),
    Column("event_name", Text, nullable=False),
    Column("event_id", Text, nullable=False, index=True),
    Column("source", Text, nullable=False, comment="track, send, or a webhook topic"),
    Column("order_id", Text),
    Column("value", Numeric(20, 4)),
    Column("currency", Text),
    Column("event_time", Moment, nullable=False),
    Column("received_at", Moment, nullable=False, index=True),
    Column("deadline_at", Moment, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("failure", Text, comment="why it is parked, dead or skipped, or was last refused"),
    Column("attempt_id", Id, comment="the last request to Meta that held it"),
    Column("delivered_at", Moment),
    Column("after_refresh", Boolean, nullable=False, server_default="0"),
    UniqueConstraint("app_id", "event_name", "event_id"),
    CheckConstraint("state IN ('due','parked','dead','delivered','skipped')", name="state"),
)
_waiting = capi_event.c.state.in_(("due", "parked", "dead"))
Index(
    "ix_capi_event_state_deadline_at",
    capi_event.c.state,
    capi_event.c.deadline_at,
    capi_event.c.id,
    sqlite_where=_waiting,
    postgresql_where=_waiting,
)
Index(
    "ix_capi_event_order_id",
    capi_event.c.order_id,
    sqlite_where=capi_event.c.order_id.is_not(None),
    postgresql_where=capi_event.c.order_id.is_not(None),
)

capi_outbox = Table(
    "capi_outbox",
    ours,
    Column("id", Id, primary_key=True, autoincrement=False, comment="capi_event.id"),
    Column("app_id", Text, nullable=False),
    Column("pixel_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("deadline_at", Moment, nullable=False),
    Column("next_attempt_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("parked_by", Text, comment="fingerprint of the token it waits for; empty text: there was none"),
    Column("after_refresh", Boolean, nullable=False, server_default="0"),
    Column("payload", LargeBinary, nullable=False),
    CheckConstraint("state IN ('due','parked','dead')", name="state"),
)
Index(
    "ix_capi_outbox_due",
    capi_outbox.c.pixel_id,
    capi_outbox.c.deadline_at,
    capi_outbox.c.id,
    sqlite_where=capi_outbox.c.state == "due",
    postgresql_where=capi_outbox.c.state == "due",
)
Index(
    "ix_capi_outbox_parked",
    capi_outbox.c.app_id,
    capi_outbox.c.parked_by,
    capi_outbox.c.pixel_id,
    capi_outbox.c.next_attempt_at,
    sqlite_where=capi_outbox.c.state == "parked",
    postgresql_where=capi_outbox.c.state == "parked",
)
Index(
    "ix_capi_outbox_deadline",
    capi_outbox.c.deadline_at,
    sqlite_where=capi_outbox.c.state != "dead",
    postgresql_where=capi_outbox.c.state != "dead",
)

capi_pixel = Table(
    "capi_pixel",
    ours,
    Column("pixel_id", Text, primary_key=True),
    Column("lease_by", Text),
    Column("lease_until", Moment),
    Column("epoch", Integer, nullable=False, server_default="0", comment="fences a lost lease"),
    Column("wait_until", Moment, comment="no request before: rate limit, outage or lacking permission"),
    Column("wait_failure", Text),
    Column("failures", Integer, nullable=False, server_default="0", comment="refused requests in a row"),
)

capi_attempt = Table(
    "capi_attempt",
    ours,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False, index=True),
    Column("pixel_id", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("events", Integer, nullable=False),
    Column(
        "after_refresh",
        Integer,
        nullable=False,
        server_default="0",
        comment="accepted events of it that had waited for a refresh",
    ),
    Column("duration_ms", Integer, nullable=False),
    Column("status", Integer),
    Column("failure", Text, comment="empty: accepted"),
    Column("code", Integer),
    Column("subcode", Integer),
    Column("words", Text),
    Column("trace_id", Text),
    Column("answer", Text, comment="redacted, at most 16 KiB, refusals only"),
    Index("ix_capi_attempt_fingerprint_at", "fingerprint", "at"),
    Index("ix_capi_attempt_pixel_id_at", "pixel_id", "at"),
)
for _told in (capi_attempt, capi_refresh):
    _traced = _told.c.trace_id.is_not(None)
    Index(f"ix_{_told.name}_trace_id", _told.c.trace_id, sqlite_where=_traced, postgresql_where=_traced)
