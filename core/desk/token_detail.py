"""One token in full: what Meta says of it, which apps hang on it, how its last refreshes came out, its case."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from core.desk.refreshes import RefreshRow, refreshes_of
from core.desk.steps import CaseState, open_cases
from core.errors import NotFound
from core.services.findings import Finding, findings
from core.services.policy import Policy
from core.store.platform_tables import app, app_settings, user
from core.store.schema import capi_app, capi_outbox, capi_reach, capi_token

_LATEST = 5


@dataclass(frozen=True, slots=True)
class Holder:
    """An app that holds the token. `reached`: whether Meta lets the token use its pixel; None: not known."""

    app_id: str
    public_id: str
    app_name: str
    shop: str | None
    pixel_id: str | None
    waiting: int
    reached: bool | None
    since: datetime | None
    words: str | None
    trace_id: str | None


@dataclass(frozen=True, slots=True)
class TokenDetail:
    """What is stored of one token; empty where Meta was not asked yet. `trace_id` is of the last refusal."""

    fingerprint: str
    user_id: str
    email: str | None
    kind: str | None
    meta_app_id: str | None
    meta_user_id: str | None
    scopes: str | None
    expires_at: datetime | None
    never_expires: bool
    data_access_expires_at: datetime | None
    issued_at: datetime | None
    obtained_at: datetime | None
    first_seen_at: datetime
    foreign_app: bool
    checked_at: datetime | None
    broken_since: datetime | None
    broken_failure: str | None
    broken_words: str | None
    needs_reconnect: bool
    next_refresh_at: datetime | None
    failures: int
    wait_until: datetime | None
    wait_failure: str | None
    probe_at: datetime | None
    holders: list[Holder]
    refreshes: list[RefreshRow]
    findings: list[Finding]
    case: CaseState | None

    @property
    def waiting(self) -> int:
        return sum(holder.waiting for holder in self.holders)


def token_detail(conn: Connection, fingerprint: str, *, policy: Policy, now: datetime) -> TokenDetail:
    """By fingerprint; NotFound for a token that is not known here yet or any more."""
    t = capi_token.c
    own = [t[name] for name in TokenDetail.__dataclass_fields__ if name in t]
    row = conn.execute(
        select(*own, user.c.email).join(user, user.c.id == t.user_id, isouter=True).where(t.fingerprint == fingerprint)
    ).first()
    if row is None:
        raise NotFound("this token is not looked after yet: it is within a minute")
    cases = open_cases(conn, [fingerprint])
    return TokenDetail(
        **row._mapping,
        holders=_holders(conn, fingerprint),
        refreshes=refreshes_of(conn, fingerprint, user_id=row.user_id, limit=_LATEST),
        findings=findings(conn, fingerprint, policy=policy, now=now),
        case=cases.get((fingerprint, row.user_id)) or next(iter(cases.values()), None),
    )


def _holders(conn: Connection, fingerprint: str) -> list[Holder]:
    o, r = capi_outbox.c, capi_reach.c
    waiting = (
        select(func.count()).where(o.app_id == app.c.id, o.state == "parked", o.parked_by == fingerprint)
    ).scalar_subquery()
    pixel = app_settings.c.metaPixelId
    rows = conn.execute(
        select(
            app.c.id.label("app_id"),
            app.c.appId.label("public_id"),
            app.c.name.label("app_name"),
            capi_app.c.shop_domain.label("shop"),
            pixel.label("pixel_id"),
            waiting.label("waiting"),
            r.reached,
            r.since,
            r.words,
            r.trace_id,
        )
        .join(capi_app, capi_app.c.app_id == app.c.id)
        .join(app_settings, app_settings.c.appId == app.c.id)
        .join(capi_reach, (r.fingerprint == fingerprint) & (r.pixel_id == pixel), isouter=True)
        .where(capi_app.c.fingerprint == fingerprint)
        .order_by(app.c.name, app.c.id)
    )
    return [Holder(**row._mapping) for row in rows]
