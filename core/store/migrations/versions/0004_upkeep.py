"""Hourly counts for charts, indexes for what is looked up and forgotten, and how PostgreSQL keeps the hot tables."""

import sqlalchemy as sa
from alembic import op

from core.store.types import Moment

revision = "0004"
down_revision = "0003"

# table → its storage parameters: rows that come and go, or change all the time, are cleared away early, and rows that
# change get room beside them (https://www.postgresql.org/docs/current/storage-hot.html).
_STORAGE = {
    "capi_outbox": "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000",
    "capi_pixel": "fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200",
    "capi_token": "fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200",
    "capi_schedule": "fillfactor = 50, autovacuum_vacuum_threshold = 100",
    "capi_heartbeat": "fillfactor = 50, autovacuum_vacuum_threshold = 100",
}


def rollups() -> None:
    op.add_column(
        "capi_attempt",
        sa.Column(
            "after_refresh",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="accepted events of it that had waited for a refresh",
        ),
    )
    op.create_table(
        "capi_rollup",
        sa.Column("hour", Moment(), nullable=False, comment="the UTC hour's beginning"),
        sa.Column("pixel_id", sa.Text(), nullable=False, comment="empty: all pixels together"),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.Column("after_refresh", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False, comment="events in refused requests, each try"),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pixel_id", "hour", name=op.f("pk_capi_rollup")),
    )
    op.create_index(op.f("ix_capi_rollup_hour"), "capi_rollup", ["hour"], unique=False)
    # What was sent before was counted by no request: it is counted now, while the index for it is there.
    op.execute(
        "UPDATE capi_attempt SET after_refresh = late.events FROM ("
        " SELECT attempt_id, count(*) AS events FROM capi_event"
        " WHERE delivered_at IS NOT NULL AND after_refresh AND attempt_id IS NOT NULL GROUP BY attempt_id"
        ") AS late WHERE late.attempt_id = capi_attempt.id"
    )


def indexes() -> None:
    op.drop_index("ix_capi_event_delivered_at", table_name="capi_event")
    op.create_index(op.f("ix_capi_attempt_fingerprint_at"), "capi_attempt", ["fingerprint", "at"], unique=False)
    op.drop_index("ix_capi_outbox_parked", table_name="capi_outbox")
    parked = sa.text("state = 'parked'")
    op.create_index(
        "ix_capi_outbox_parked",
        "capi_outbox",
        ["app_id", "parked_by", "pixel_id", "next_attempt_at"],
        unique=False,
        sqlite_where=parked,
        postgresql_where=parked,
    )


def storage() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, parameters in _STORAGE.items():
            op.execute(f"ALTER TABLE {table} SET ({parameters})")


def upgrade() -> None:
    for change in (rollups, indexes, storage):
        change()
