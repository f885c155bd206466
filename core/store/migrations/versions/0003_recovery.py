"""What a token may reach, keys that encrypt tokens, reconnect links, incidents, alerts and who was told of them."""

import sqlalchemy as sa
from alembic import op

from core.store.types import Moment

revision = "0003"
down_revision = "0002"

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_CASE = ("id", "user_id", "fingerprint", "state", "failure", "words", "made_at", "done_at")


def token() -> None:
    op.add_column(
        "capi_token", sa.Column("issued_at", Moment(), nullable=True, comment="Meta tells it of long-lived tokens only")
    )
    op.add_column(
        "capi_token",
        sa.Column("foreign_app", sa.Boolean(), server_default="0", nullable=False, comment="another Meta app made it"),
    )
    op.add_column(
        "capi_token",
        sa.Column(
            "probe_at", Moment(), nullable=True, comment="when a token that needs a reconnect is looked at again"
        ),
    )
    op.add_column("capi_token", sa.Column("probes", sa.Integer(), server_default="0", nullable=False))
    op.add_column(
        "capi_token",
        sa.Column(
            "wait_until", Moment(), nullable=True, comment="no call with this token before: Meta's limit for its user"
        ),
    )
    op.add_column("capi_token", sa.Column("wait_failure", sa.Text(), nullable=True))
    op.add_column(
        "capi_token",
        sa.Column("scopes_since", Moment(), nullable=True, comment="since when they are these"),
    )
    op.add_column(
        "capi_token",
        sa.Column("check_at", Moment(), nullable=True, comment="when Meta is asked about it again; empty: now"),
    )
    op.create_index(op.f("ix_capi_token_check_at"), "capi_token", ["check_at"], unique=False)


def case() -> None:
    """Made anew, because SQLite cannot change the check on a case's states; open cases are few."""
    old = sa.table("capi_case", *(sa.column(name) for name in _CASE))
    rows = [dict(row._mapping) for row in op.get_bind().execute(sa.select(old).order_by(old.c.id))]
    op.drop_table("capi_case")
    _new_case()
    if rows:
        new = sa.table("capi_case", *(sa.column(name) for name in _CASE if name != "id"))
        op.bulk_insert(new, [{name: row[name] for name in _CASE if name != "id"} for row in rows])


def _new_case() -> None:
    op.create_table(
        "capi_case",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=True),
        sa.Column("made_at", Moment(), nullable=False),
        sa.Column(
            "nonce",
            sa.Text(),
            nullable=True,
            comment="makes the link that was sent last; a new link ends the one before",
        ),
        sa.Column("sent_at", Moment(), nullable=True, comment="when an operator took the link"),
        sa.Column("sent_by", sa.Text(), nullable=True),
        sa.Column("link_ends_at", Moment(), nullable=True),
        sa.Column("remind_at", Moment(), nullable=True, comment="when to ask the merchant once more"),
        sa.Column("reminders", sa.Integer(), server_default="0", nullable=False),
        sa.Column("opened_at", Moment(), nullable=True, comment="when the merchant pressed the button first"),
        sa.Column(
            "login_hash",
            sa.Text(),
            nullable=True,
            comment="SHA-256 of the state that Facebook brings back, for one login",
        ),
        sa.Column("login_ends_at", Moment(), nullable=True),
        sa.Column("refused", sa.Text(), nullable=True, comment="why the last login was not taken"),
        sa.Column("refused_words", sa.Text(), nullable=True),
        sa.Column("refused_at", Moment(), nullable=True),
        sa.Column(
            "refused_user", sa.Text(), nullable=True, comment="the other Meta user of the last login, where that is why"
        ),
        sa.Column(
            "accepted_user",
            sa.Text(),
            nullable=True,
            comment="the other Meta user who may connect, by an operator's word",
        ),
        sa.Column("done_at", Moment(), nullable=True),
        sa.CheckConstraint("state IN ('made','sent','opened','expired','done')", name=op.f("ck_capi_case_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_case")),
    )
    op.create_index(op.f("ix_capi_case_fingerprint"), "capi_case", ["fingerprint"], unique=False)
    op.create_index(op.f("ix_capi_case_user_id"), "capi_case", ["user_id"], unique=False)
    op.create_index(
        "uq_capi_case_open",
        "capi_case",
        ["fingerprint", "user_id"],
        unique=True,
        sqlite_where=sa.text("done_at IS NULL"),
        postgresql_where=sa.text("done_at IS NULL"),
    )


def trouble() -> None:
    op.create_table(
        "capi_alert",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "subject", sa.Text(), nullable=False, comment="a fingerprint, an incident's id, an app's id or nothing"
        ),
        sa.Column(
            "stage", sa.Integer(), server_default="0", nullable=False, comment="days or hours left; less is worse"
        ),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("opened_at", Moment(), nullable=False),
        sa.Column("seen_at", Moment(), nullable=False),
        sa.Column("closed_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_alert")),
    )
    op.create_index(op.f("ix_capi_alert_opened_at"), "capi_alert", ["opened_at"], unique=False)
    op.create_index(
        "uq_capi_alert_open",
        "capi_alert",
        ["kind", "subject"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "capi_channel",
        sa.Column("channel", sa.Text(), nullable=False, comment="fingerprint of its address"),
        sa.Column("title", sa.Text(), nullable=False, comment="what it is called on screen; no secret in it"),
        sa.Column("told_up_to", Id, nullable=False, comment="capi_notice.id of the last it was told of"),
        sa.Column("sent_at", Moment(), nullable=True),
        sa.Column("next_attempt_at", Moment(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False, comment="attempts failed in a row"),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("channel", name=op.f("pk_capi_channel")),
    )
    op.create_table(
        "capi_incident",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="what is wrong for all of us: app_config, rate_limited, meta_away",
        ),
        sa.Column("opened_at", Moment(), nullable=False),
        sa.Column("seen_at", Moment(), nullable=False, comment="the last refusal of its kind"),
        sa.Column("refusals", sa.Integer(), server_default="1", nullable=False),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("subcode", sa.Integer(), nullable=True),
        sa.Column("words", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=True),
        sa.Column("probe_at", Moment(), nullable=False, comment="when one call is let through again"),
        sa.Column("probes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("closed_at", Moment(), nullable=True),
        sa.Column("waited", sa.Integer(), nullable=True, comment="events that waited for its end"),
        sa.Column(
            "pace", sa.Integer(), nullable=True, comment="calls a minute that follow its end at most, for half an hour"
        ),
        sa.CheckConstraint("kind IN ('app_config','rate_limited','meta_away')", name=op.f("ck_capi_incident_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_incident")),
    )
    op.create_index(op.f("ix_capi_incident_opened_at"), "capi_incident", ["opened_at"], unique=False)
    op.create_index(
        "uq_capi_incident_open",
        "capi_incident",
        ["kind"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "capi_reach",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("pixel_id", sa.Text(), nullable=False),
        sa.Column("reached", sa.Boolean(), nullable=False, comment="whether Meta lets this token use this pixel"),
        sa.Column("since", Moment(), nullable=False, comment="since when it is so"),
        sa.Column("checked_at", Moment(), nullable=False),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("subcode", sa.Integer(), nullable=True),
        sa.Column("words", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("fingerprint", "pixel_id", name=op.f("pk_capi_reach")),
    )
    op.create_table(
        "capi_key",
        sa.Column(
            "id",
            sa.Text(),
            nullable=False,
            comment="of a key that encrypts tokens here; it tells nothing about the key",
        ),
        sa.Column(
            "given_up",
            sa.Boolean(),
            server_default="0",
            nullable=False,
            comment="lost for good: nobody waits for it",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_key")),
    )
    op.create_table(
        "capi_notice",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("alert_id", Id, nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.CheckConstraint("what IN ('opened','worse','closed')", name=op.f("ck_capi_notice_what")),
        sa.ForeignKeyConstraint(["alert_id"], ["capi_alert.id"], name=op.f("fk_capi_notice_alert_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capi_notice")),
    )
    op.create_index(op.f("ix_capi_notice_alert_id"), "capi_notice", ["alert_id"], unique=False)
    op.create_index(op.f("ix_capi_notice_at"), "capi_notice", ["at"], unique=False)


def upgrade() -> None:
    for change in (token, case, trouble):
        change()
