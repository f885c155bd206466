"""The first tables, and on PostgreSQL the queue that wakes the workers (PgQueuer's own SQL)."""

import sqlalchemy as sa
from alembic import op
from pgqueuer.adapters.persistence.schema_ddl import render_install

from core.store.types import Moment
from core.store.wake import queue_settings

revision = "0001"
down_revision = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def api_key() -> None:
    op.create_table(
        "capi_api_key",
        sa.Column("hash", sa.Text(), nullable=False, comment="SHA-256 of the key; the key itself is shown once"),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("revoked_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_capi_api_key")),
    )


def app() -> None:
    op.create_table(
        "capi_app",
        sa.Column("app_id", sa.Text(), nullable=False, comment="App.id"),
        sa.Column("shop_domain", sa.Text(), nullable=True),
        sa.Column(
            "allowed_origins", sa.Text(), nullable=True, comment="hosts, comma separated; empty: any origin is served"
        ),
        sa.Column(
            "forwarded_names",
            sa.Text(),
            nullable=True,
            comment="custom event names that are forwarded, comma separated",
        ),
        sa.Column("content_id", sa.Text(), server_default="variant", nullable=False, comment="variant, product or sku"),
        sa.Column("purchase_topic", sa.Text(), server_default="orders/create", nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=True, comment="the token last seen in AppSettings"),
        sa.Column("paused_at", Moment(), nullable=True),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("app_id", name=op.f("pk_capi_app")),
    )
    op.create_index(op.f("ix_capi_app_fingerprint"), "capi_app", ["fingerprint"], unique=False)
    op.create_index(op.f("ix_capi_app_shop_domain"), "capi_app", ["shop_domain"], unique=False)


def attempt() -> None:
    op.create_table(
        "capi_attempt",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("pixel_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True, comment="empty: accepted"),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("subcode", sa.Integer(), nullable=True),
        sa.Column("words", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True, comment="redacted, at most 16 KiB, refusals only"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_attempt")),
    )
    op.create_index(op.f("ix_capi_attempt_at"), "capi_attempt", ["at"], unique=False)
    op.create_index(op.f("ix_capi_attempt_pixel_id"), "capi_attempt", ["pixel_id"], unique=False)


def audit() -> None:
    op.create_table(
        "capi_audit",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("hash", sa.Text(), nullable=False, comment="SHA-256 over this line and the hash before it"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_audit")),
        sa.UniqueConstraint("hash", name=op.f("uq_capi_audit_hash")),
    )
    op.create_index(op.f("ix_capi_audit_at"), "capi_audit", ["at"], unique=False)


def case() -> None:
    op.create_table(
        "capi_case",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=True),
        sa.Column("made_at", Moment(), nullable=False),
        sa.Column("done_at", Moment(), nullable=True),
        sa.CheckConstraint("state IN ('made','sent','opened','done')", name=op.f("ck_capi_case_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_case")),
    )
    op.create_index(op.f("ix_capi_case_fingerprint"), "capi_case", ["fingerprint"], unique=False)
    op.create_index(op.f("ix_capi_case_user_id"), "capi_case", ["user_id"], unique=False)
    op.create_index(
        "uq_capi_case_open",
        "capi_case",
        ["fingerprint"],
        unique=True,
        sqlite_where=sa.text("done_at IS NULL"),
        postgresql_where=sa.text("done_at IS NULL"),
    )


def event() -> None:
    op.create_table(
        "capi_event",
        sa.Column("id", Id, autoincrement=False, nullable=False),
        sa.Column("app_id", sa.Text(), nullable=False),
        sa.Column("pixel_id", sa.Text(), nullable=False),
        sa.Column("event_name", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="track, send, or a webhook topic"),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("value", sa.Numeric(precision=20, scale=4), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("event_time", Moment(), nullable=False),
        sa.Column("received_at", Moment(), nullable=False),
        sa.Column("deadline_at", Moment(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "failure", sa.Text(), nullable=True, comment="why it is parked, dead or skipped, or was last refused"
        ),
        sa.Column("attempt_id", Id, nullable=True, comment="the last request to Meta that held it"),
        sa.Column("delivered_at", Moment(), nullable=True),
        sa.Column("after_refresh", sa.Boolean(), server_default="0", nullable=False),
        sa.CheckConstraint("state IN ('due','parked','dead','delivered','skipped')", name=op.f("ck_capi_event_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_event")),
        sa.UniqueConstraint("app_id", "event_name", "event_id", name=op.f("uq_capi_event_app_id_event_name_event_id")),
    )
    op.create_index(
        "ix_capi_event_delivered_at",
        "capi_event",
        ["delivered_at", "after_refresh"],
        unique=False,
        sqlite_where=sa.text("delivered_at IS NOT NULL"),
        postgresql_where=sa.text("delivered_at IS NOT NULL"),
    )
    op.create_index(
        "ix_capi_event_order_id",
        "capi_event",
        ["order_id"],
        unique=False,
        sqlite_where=sa.text("order_id IS NOT NULL"),
        postgresql_where=sa.text("order_id IS NOT NULL"),
    )
    op.create_index(op.f("ix_capi_event_received_at"), "capi_event", ["received_at"], unique=False)
    op.create_index(
        "ix_capi_event_state_deadline_at",
        "capi_event",
        ["state", "deadline_at", "id"],
        unique=False,
        sqlite_where=sa.text("state IN ('due', 'parked', 'dead')"),
        postgresql_where=sa.text("state IN ('due', 'parked', 'dead')"),
    )


def heartbeat() -> None:
    op.create_table(
        "capi_heartbeat",
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("seen_at", Moment(), nullable=False),
        sa.Column("stopped_at", Moment(), nullable=True),
        sa.Column("version", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_capi_heartbeat")),
    )


def job() -> None:
    op.create_table(
        "capi_job",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=True, comment="emptied when the job ends"),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("skipped", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.Column("lease_by", sa.Text(), nullable=True),
        sa.Column("lease_until", Moment(), nullable=True),
        sa.CheckConstraint("state IN ('queued','running','done','cancelled')", name=op.f("ck_capi_job_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_job")),
        sa.UniqueConstraint("dedupe_key", name=op.f("uq_capi_job_dedupe_key")),
    )
    op.create_index(op.f("ix_capi_job_created_at"), "capi_job", ["created_at"], unique=False)
    op.create_index(
        "ix_capi_job_open",
        "capi_job",
        ["state"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def outbox() -> None:
    op.create_table(
        "capi_outbox",
        sa.Column("id", Id, autoincrement=False, nullable=False, comment="capi_event.id"),
        sa.Column("app_id", sa.Text(), nullable=False),
        sa.Column("pixel_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("deadline_at", Moment(), nullable=False),
        sa.Column("next_attempt_at", Moment(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "parked_by",
            sa.Text(),
            nullable=True,
            comment="fingerprint of the token it waits for; empty text: there was none",
        ),
        sa.Column("after_refresh", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("state IN ('due','parked','dead')", name=op.f("ck_capi_outbox_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_outbox")),
    )
    op.create_index(
        "ix_capi_outbox_deadline",
        "capi_outbox",
        ["deadline_at"],
        unique=False,
        sqlite_where=sa.text("state != 'dead'"),
        postgresql_where=sa.text("state != 'dead'"),
    )
    op.create_index(
        "ix_capi_outbox_due",
        "capi_outbox",
        ["pixel_id", "deadline_at", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'due'"),
        postgresql_where=sa.text("state = 'due'"),
    )
    op.create_index(
        "ix_capi_outbox_parked",
        "capi_outbox",
        ["app_id", "parked_by"],
        unique=False,
        sqlite_where=sa.text("state = 'parked'"),
        postgresql_where=sa.text("state = 'parked'"),
    )


def pixel() -> None:
    op.create_table(
        "capi_pixel",
        sa.Column("pixel_id", sa.Text(), nullable=False),
        sa.Column("lease_by", sa.Text(), nullable=True),
        sa.Column("lease_until", Moment(), nullable=True),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False, comment="fences a lost lease"),
        sa.Column(
            "wait_until", Moment(), nullable=True, comment="no request before: rate limit, outage or lacking permission"
        ),
        sa.Column("wait_failure", sa.Text(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False, comment="refused requests in a row"),
        sa.PrimaryKeyConstraint("pixel_id", name=op.f("pk_capi_pixel")),
    )


def receipt() -> None:
    op.create_table(
        "capi_receipt",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="track or a webhook topic"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("app_id", sa.Text(), nullable=True),
        sa.Column("shop_domain", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_receipt")),
    )
    op.create_index(op.f("ix_capi_receipt_app_id"), "capi_receipt", ["app_id"], unique=False)
    op.create_index(op.f("ix_capi_receipt_at"), "capi_receipt", ["at"], unique=False)


def refresh() -> None:
    op.create_table(
        "capi_refresh",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("app_id", sa.Text(), nullable=True, comment="App.id it was asked for"),
        sa.Column("fingerprint", sa.Text(), nullable=False, comment="the token before"),
        sa.Column("new_fingerprint", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("expires_before", Moment(), nullable=True),
        sa.Column("expires_after", Moment(), nullable=True),
        sa.Column("apps_updated", sa.Integer(), nullable=False),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("subcode", sa.Integer(), nullable=True),
        sa.Column("words", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_refresh")),
    )
    op.create_index(op.f("ix_capi_refresh_fingerprint"), "capi_refresh", ["fingerprint"], unique=False)
    op.create_index(op.f("ix_capi_refresh_started_at"), "capi_refresh", ["started_at"], unique=False)
    op.create_index(op.f("ix_capi_refresh_user_id"), "capi_refresh", ["user_id"], unique=False)


def schedule() -> None:
    op.create_table(
        "capi_schedule",
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("due_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("task", name=op.f("pk_capi_schedule")),
    )


def token() -> None:
    op.create_table(
        "capi_token",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False, comment="User.id of the holder first seen"),
        sa.Column("first_seen_at", Moment(), nullable=False),
        sa.Column(
            "obtained_at", Moment(), nullable=True, comment="when our refresh made it; empty: somebody else stored it"
        ),
        sa.Column("kind", sa.Text(), nullable=True, comment="/debug_token type: USER, SYSTEM_USER, PAGE"),
        sa.Column("meta_app_id", sa.Text(), nullable=True),
        sa.Column("meta_user_id", sa.Text(), nullable=True),
        sa.Column("scopes", sa.Text(), nullable=True),
        sa.Column("expires_at", Moment(), nullable=True),
        sa.Column("never_expires", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("data_access_expires_at", Moment(), nullable=True),
        sa.Column("checked_at", Moment(), nullable=True),
        sa.Column("broken_since", Moment(), nullable=True),
        sa.Column("broken_failure", sa.Text(), nullable=True),
        sa.Column("broken_words", sa.Text(), nullable=True),
        sa.Column("broken_app", sa.Text(), nullable=True, comment="App.id whose event Meta refused"),
        sa.Column("needs_reconnect", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("next_refresh_at", Moment(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False, comment="refreshes failed in a row"),
        sa.Column("refresh_by", sa.Text(), nullable=True),
        sa.Column("refresh_until", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_capi_token")),
    )
    op.create_index(
        "ix_capi_token_broken_since",
        "capi_token",
        ["broken_since"],
        unique=False,
        sqlite_where=sa.text("broken_since IS NOT NULL"),
        postgresql_where=sa.text("broken_since IS NOT NULL"),
    )
    op.create_index(op.f("ix_capi_token_next_refresh_at"), "capi_token", ["next_refresh_at"], unique=False)
    op.create_index(op.f("ix_capi_token_user_id"), "capi_token", ["user_id"], unique=False)


def job_item() -> None:
    op.create_table(
        "capi_job_item",
        sa.Column("job_id", Id, nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="what is worked on: a fingerprint or an event's id"),
        sa.Column("outcome", sa.Text(), nullable=True, comment="empty: not done yet"),
        sa.Column("words", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["capi_job.id"], name=op.f("fk_capi_job_item_job_id")),
        sa.PrimaryKeyConstraint("job_id", "subject", name=op.f("pk_capi_job_item")),
    )


def upgrade() -> None:
    for table in (
        api_key,
        app,
        attempt,
        audit,
        case,
        event,
        heartbeat,
        job,
        outbox,
        pixel,
        receipt,
        refresh,
        schedule,
        token,
        job_item,
    ):
        table()
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(render_install(queue_settings()))
