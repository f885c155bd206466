"""Browsers that were seen, events that wait for one, other names of an event; how an app wants its orders taken."""

import sqlalchemy as sa
from alembic import op

from core.store.types import Moment

revision = "0002"
down_revision = "0001"

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def app() -> None:
    text = sa.Text()
    for column in (
        sa.Column("value_of", text, server_default="total", nullable=False, comment="total, subtotal or presentment"),
        sa.Column(
            "order_channels", text, nullable=True, comment="source names of orders taken beside web, comma separated"
        ),
        sa.Column("consent_policy", text, server_default="send", nullable=False, comment="send, limit or require"),
        sa.Column(
            "allow_null_origin",
            sa.Boolean(),
            server_default="1",
            nullable=False,
            comment="web pixels send Origin: null",
        ),
    ):
        op.add_column("capi_app", column)


def visitor() -> None:
    op.create_table(
        "capi_visitor",
        sa.Column("app_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="of what the key is: an order, checkout, cart or browser"),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("user_agent", sa.Text(), nullable=True),
        sa.Column("fbp", sa.Text(), nullable=True),
        sa.Column("fbc", sa.Text(), nullable=True),
        sa.Column("page_url", sa.Text(), nullable=True),
        sa.Column("marketing", sa.Boolean(), nullable=True, comment="consent to marketing; empty: not said"),
        sa.Column("sale_of_data", sa.Boolean(), nullable=True, comment="consent to the sale of data; empty: not said"),
        sa.Column("seen_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.CheckConstraint("kind IN ('order','checkout','cart','fbp')", name=op.f("ck_capi_visitor_kind")),
        sa.PrimaryKeyConstraint("app_id", "kind", "key", name=op.f("pk_capi_visitor")),
    )
    op.create_index(op.f("ix_capi_visitor_expires_at"), "capi_visitor", ["expires_at"], unique=False)


def join() -> None:
    op.create_table(
        "capi_join",
        sa.Column("event_id", Id, autoincrement=False, nullable=False, comment="capi_event.id"),
        sa.Column("app_id", sa.Text(), nullable=False),
        sa.Column("cart", sa.Text(), nullable=True),
        sa.Column("checkout", sa.Text(), nullable=True),
        sa.Column("fbp", sa.Text(), nullable=True),
        sa.Column("until_at", Moment(), nullable=False, comment="when it goes without, if no browser was seen"),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_capi_join")),
    )
    op.create_index(op.f("ix_capi_join_until_at"), "capi_join", ["until_at"], unique=False)


def alias() -> None:
    op.create_table(
        "capi_alias",
        sa.Column("app_id", sa.Text(), nullable=False),
        sa.Column("event_name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False, comment="order:ID, checkout:TOKEN or cart:TOKEN"),
        sa.Column("event_id", Id, nullable=False, comment="capi_event.id of who reported it"),
        sa.Column("at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("app_id", "event_name", "alias", name=op.f("pk_capi_alias")),
    )
    op.create_index(op.f("ix_capi_alias_at"), "capi_alias", ["at"], unique=False)
    op.create_index(op.f("ix_capi_alias_event_id"), "capi_alias", ["event_id"], unique=False)


def upgrade() -> None:
    for change in (app, visitor, join, alias):
        change()
