"""How many apps stood in each health, day by day; statistics of SQLite's planner go: they go out of date."""

import sqlalchemy as sa
from alembic import op

from core.store.types import Moment

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "capi_health",
        sa.Column("day", Moment(), nullable=False, comment="the UTC day's beginning"),
        sa.Column("health", sa.Text(), nullable=False),
        sa.Column("apps", sa.Integer(), nullable=False, comment="when the day was last counted"),
        sa.PrimaryKeyConstraint("day", "health", name=op.f("pk_capi_health")),
    )
    # Those of a table that was small let the planner read it whole when it is large. Without it goes by the indexes.
    connection = op.get_bind()
    if connection.dialect.name == "sqlite" and sa.inspect(connection).has_table("sqlite_stat1"):
        op.execute("DELETE FROM sqlite_stat1")
