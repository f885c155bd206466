"""Indexes for what people search by; jobs that stand still for a while; what each alert address was told, and when."""

import sqlalchemy as sa
from alembic import op

from core.store.types import Moment

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0007"
down_revision = "0006"


def indexes() -> None:
    op.create_index(op.f("ix_capi_event_event_id"), "capi_event", ["event_id"], unique=False)
    op.create_index(op.f("ix_capi_alias_alias"), "capi_alias", ["alias"], unique=False)
    traced = sa.text("trace_id IS NOT NULL")
    for table in ("capi_attempt", "capi_refresh"):
        op.create_index(
            f"ix_{table}_trace_id", table, ["trace_id"], unique=False, sqlite_where=traced, postgresql_where=traced
        )
    # What happened to one pixel, or one app, in a time: the index on the first alone is a part of it.
    op.create_index(op.f("ix_capi_attempt_pixel_id_at"), "capi_attempt", ["pixel_id", "at"], unique=False)
    op.drop_index(op.f("ix_capi_attempt_pixel_id"), table_name="capi_attempt")
    op.create_index(op.f("ix_capi_receipt_app_id_at"), "capi_receipt", ["app_id", "at"], unique=False)
    op.drop_index(op.f("ix_capi_receipt_app_id"), table_name="capi_receipt")


def jobs() -> None:
    op.add_column("capi_job", sa.Column("paused_at", Moment(), nullable=True, comment="nobody works on it since"))


def messages() -> None:
    op.create_table(
        "capi_message",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("after", Id, nullable=False, comment="capi_notice.id of the last told before"),
        sa.Column("up_to", Id, nullable=False, comment="capi_notice.id of the last it tells of"),
        sa.Column("first", sa.Boolean(), nullable=False, comment="the address's first: it tells of all that is open"),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("at", Moment(), nullable=False, comment="of the last try"),
        sa.Column("error", sa.Text(), nullable=True, comment="why it was not taken; empty: it was"),
        sa.PrimaryKeyConstraint("channel", "after", "first", name=op.f("pk_capi_message")),
    )
    op.create_index(op.f("ix_capi_message_at"), "capi_message", ["at"], unique=False)


def upgrade() -> None:
    for change in (indexes, jobs, messages):
        change()
