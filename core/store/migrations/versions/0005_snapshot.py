"""Figures for monitoring, taken by one worker and read by every scrape."""

import sqlalchemy as sa
from alembic import op

from core.store.types import Moment

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "capi_snapshot",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False, comment="empty: the figure has none"),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", "label", name=op.f("pk_capi_snapshot")),
    )
