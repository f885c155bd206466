"""What came in is counted beside the events, an account per app and day, and the weekly rhythm of each shop."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

from core.store.types import Moment

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NUMBERS = ("received", "duplicate", "accepted", "skipped", "dead", "waiting", "orders", "kept_back")

revision = "0008"
down_revision = "0007"


def taken() -> None:
    op.create_table(
        "capi_taken",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column(
            "counts",
            sa.Text(),
            nullable=False,
            comment="JSON: App.id to events in all, repeated, by track, by webhook",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_taken")),
    )


def ledger() -> None:
    op.create_table(
        "capi_ledger",
        sa.Column("app_id", sa.Text(), nullable=False),
        sa.Column("day", Moment(), nullable=False, comment="the UTC day's beginning"),
        *(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0") for name in _NUMBERS),
        sa.Column(
            "purchases", sa.BigInteger(), nullable=False, server_default="0", comment="orders that Meta has accepted"
        ),
        sa.Column(
            "off",
            sa.BigInteger(),
            nullable=False,
            server_default="0",
            comment="events that came in and stand in no account",
        ),
        sa.Column("checked_at", Moment(), nullable=True, comment="when the events were counted; empty: not yet"),
        sa.PrimaryKeyConstraint("app_id", "day", name=op.f("pk_capi_ledger")),
    )
    op.create_index(op.f("ix_capi_ledger_day"), "capi_ledger", ["day"], unique=False)
    off = sa.text("off != 0")
    op.create_index("ix_capi_ledger_off", "capi_ledger", ["day"], unique=False, sqlite_where=off, postgresql_where=off)


def rhythm() -> None:
    op.create_table(
        "capi_rhythm",
        sa.Column("app_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("since", Moment(), nullable=False, comment="the first hour that was learnt"),
        sa.Column("last_at", Moment(), nullable=False, comment="when the last event came in"),
        sa.Column("hour", Moment(), nullable=False, comment="the hour that is not learnt yet"),
        sa.Column("count", sa.Integer(), nullable=False, comment="its signs of life so far"),
        sa.Column(
            "expected", sa.Text(), nullable=False, comment="JSON: signs of life in each of the week's 168 UTC hours"
        ),
        sa.CheckConstraint("kind IN ('track','webhook')", name=op.f("ck_capi_rhythm_kind")),
        sa.PrimaryKeyConstraint("app_id", "kind", name=op.f("pk_capi_rhythm")),
    )
    op.create_index(op.f("ix_capi_rhythm_last_at"), "capi_rhythm", ["last_at"], unique=False)


def beginning() -> None:
    """Events that stand here already were not counted when they came in, and an endpoint of the version before may run
    for a while: the account is checked from the second day on, where there is anything yet."""
    conn = op.get_bind()
    if conn.execute(sa.text("SELECT 1 FROM capi_event LIMIT 1")).first() is None:
        return
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    schedule = sa.table("capi_schedule", sa.column("task", sa.Text()), sa.column("due_at", Moment()))
    conn.execute(schedule.insert().values(task="ledger begins", due_at=today + timedelta(days=2)))


def upgrade() -> None:
    for change in (taken, ledger, rhythm, beginning):
        change()
