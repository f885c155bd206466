"""The people at the console: operators, their sessions, and tries to sign in that failed."""

import sqlalchemy as sa
from alembic import op

from core.store.types import Moment

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "capi_operator",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column(
            "password",
            sa.Text(),
            nullable=False,
            comment="scrypt with its parameters and salt; the password is not stored",
        ),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("signed_in_at", Moment(), comment="the last time"),
        sa.Column("disabled_at", Moment()),
        sa.CheckConstraint("role IN ('viewer','support','admin')", name=op.f("ck_capi_operator_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_operator")),
        sa.UniqueConstraint("name", name=op.f("uq_capi_operator_name")),
    )
    op.create_table(
        "capi_session",
        sa.Column("hash", sa.Text(), nullable=False, comment="SHA-256 of the cookie; the cookie itself is not stored"),
        sa.Column("operator_id", Id, nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("seen_at", Moment(), nullable=False, comment="when the person last did something, to the minute"),
        sa.ForeignKeyConstraint(["operator_id"], ["capi_operator.id"], name=op.f("fk_capi_session_operator_id")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_capi_session")),
    )
    op.create_index(op.f("ix_capi_session_operator_id"), "capi_session", ["operator_id"], unique=False)
    op.create_table(
        "capi_lockout",
        sa.Column("subject", sa.Text(), nullable=False, comment="SHA-256 of a name or an address"),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("tried_at", Moment(), nullable=False),
        sa.Column("locked_until", Moment()),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_capi_lockout")),
    )
