"""Our tables around broken tokens: reach, keys, cases, incidents, alerts and who was told of them."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text

from core.store.schema_base import Id, ours
from core.store.types import Moment

capi_reach = Table(
    "capi_reach",
    ours,
    Column("fingerprint", Text, primary_key=True),
    Column("pixel_id", Text, primary_key=True),
    Column("reached", Boolean, nullable=False, comment="whether Meta lets this token use this pixel"),
    Column("since", Moment, nullable=False, comment="since when it is so"),
    Column("checked_at", Moment, nullable=False),
    Column("code", Integer),
    Column("subcode", Integer),
    Column("words", Text),
    Column("trace_id", Text),
)

capi_key = Table(
    "capi_key",
    ours,
    Column("id", Text, primary_key=True, comment="of a key that encrypts tokens here; it tells nothing about the key"),
    Column("given_up", Boolean, nullable=False, server_default="0", comment="lost for good: nobody waits for it"),
)

capi_case = Table(
    "capi_case",
    ours,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("user_id", Text, nullable=False, index=True),
    Column("fingerprint", Text, nullable=False, index=True),
    Column("state", Text, nullable=False),
    Column("failure", Text, nullable=False),
    Column("words", Text),
    Column("made_at", Moment, nullable=False),
    Column("nonce", Text, comment="makes the link that was sent last; a new link ends the one before"),
    Column("sent_at", Moment, comment="when an operator took the link"),
    Column("sent_by", Text),
    Column("link_ends_at", Moment),
    Column("remind_at", Moment, comment="when to ask the merchant once more"),
    Column("reminders", Integer, nullable=False, server_default="0"),
    Column("opened_at", Moment, comment="when the merchant pressed the button first"),
    Column("login_hash", Text, comment="SHA-256 of the state that Facebook brings back, for one login"),
    Column("login_ends_at", Moment),
    Column("refused", Text, comment="why the last login was not taken"),
    Column("refused_words", Text),
    Column("refused_at", Moment),
    Column("refused_user", Text, comment="the other Meta user of the last login, where that is why"),
    Column("accepted_user", Text, comment="the other Meta user who may connect, by an operator's word"),
    Column("done_at", Moment),
    CheckConstraint("state IN ('made','sent','opened','expired','done')", name="state"),
)
# One open case for a token and user: whoever comes second finds it.
Index(
    "uq_capi_case_open",
    capi_case.c.fingerprint,
    capi_case.c.user_id,
    unique=True,
    sqlite_where=capi_case.c.done_at.is_(None),
    postgresql_where=capi_case.c.done_at.is_(None),
)

capi_incident = Table(
    "capi_incident",
    ours,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False, comment="what is wrong for all of us: app_config, rate_limited, meta_away"),
    Column("opened_at", Moment, nullable=False, index=True),
    Column("seen_at", Moment, nullable=False, comment="the last refusal of its kind"),
    Column("refusals", Integer, nullable=False, server_default="1"),
    Column("code", Integer),
    Column("subcode", Integer),
    Column("words", Text),
    Column("trace_id", Text),
    Column("probe_at", Moment, nullable=False, comment="when one call is let through again"),
    Column("probes", Integer, nullable=False, server_default="0"),
    Column("closed_at", Moment),
    Column("waited", Integer, comment="events that waited for its end"),
    Column("pace", Integer, comment="calls a minute that follow its end at most, for half an hour"),
    CheckConstraint("kind IN ('app_config','rate_limited','meta_away')", name="kind"),
)
Index(
    "uq_capi_incident_open",
    capi_incident.c.kind,
    unique=True,
    sqlite_where=capi_incident.c.closed_at.is_(None),
    postgresql_where=capi_incident.c.closed_at.is_(None),
)

capi_alert = Table(
    "capi_alert",
    ours,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False, comment="a fingerprint, an incident's id, an app's id or nothing"),
    Column("stage", Integer, nullable=False, server_default="0", comment="days or hours left; less is worse"),
    Column("title", Text, nullable=False),
    Column("opened_at", Moment, nullable=False, index=True),
    Column("seen_at", Moment, nullable=False),
    Column("closed_at", Moment),
)
Index(
    "uq_capi_alert_open",
    capi_alert.c.kind,
    capi_alert.c.subject,
    unique=True,
    sqlite_where=capi_alert.c.closed_at.is_(None),
    postgresql_where=capi_alert.c.closed_at.is_(None),
)

capi_notice = Table(
    "capi_notice",
    ours,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("alert_id", Id, ForeignKey("capi_alert.id"), nullable=False, index=True),
    Column("what", Text, nullable=False),
    Column("at", Moment, nullable=False, index=True),
    CheckConstraint("what IN ('opened','worse','closed')", name="what"),
)

capi_channel = Table(
    "capi_channel",
    ours,
    Column("channel", Text, primary_key=True, comment="fingerprint of its address"),
    Column("title", Text, nullable=False, comment="what it is called on screen; no secret in it"),
    Column("told_up_to", Id, nullable=False, comment="capi_notice.id of the last it was told of"),
    Column("sent_at", Moment),
    Column("next_attempt_at", Moment),
    Column("failures", Integer, nullable=False, server_default="0", comment="attempts failed in a row"),
    Column("error", Text),
)

capi_message = Table(
    "capi_message",
    ours,
    Column("channel", Text, primary_key=True),
    Column("after", Id, primary_key=True, autoincrement=False, comment="capi_notice.id of the last told before"),
    Column("first", Boolean, primary_key=True, comment="the address's first: it tells of all that is open"),
    Column("up_to", Id, nullable=False, comment="capi_notice.id of the last it tells of"),
    Column("title", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("at", Moment, nullable=False, index=True, comment="of the last try"),
    Column("error", Text, comment="why it was not taken; empty: it was"),
)
