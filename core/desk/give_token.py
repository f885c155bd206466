"""The order to store a token that an admin has: verified first, and stored for every app that held the one before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from core.desk.operators import Operator
from core.errors import Refused
from core.meta.answers import TokenFacts
from core.secret import Secret
from core.services import settle
from core.services.given import Checked, verify
from core.services.policy import Policy
from core.services.refresh import TokenRefreshService
from core.store import apps, audit, cases, outbox, reach, tokens
from core.store.apps import App
from core.store.database import reading, writing

# What is known of a token of another Meta app that was seen to reach its pixel.
_UNSPOKEN = TokenFacts(True, None, None, None, (), None, False, None, None)


@dataclass(frozen=True, slots=True)
class Given:
    """What was stored: `app` as it stands now, for how many apps, how many events it set free, what to know."""

    app: App
    apps_updated: int
    events_released: int
    never_expires: bool = False
    warnings: tuple[str, ...] = ()


def set_token(
    service: TokenRefreshService,
    app_name: str,
    token: Secret,
    *,
    by: Operator,
    now: datetime,
    check: bool = True,
    only_this: bool = False,
    accept_other_user: bool = False,
    reason: str | None = None,
) -> Given:
    """Store a token for an app (public `appId` or `App.id`) and for the user's other apps that hold the same one
    (not with `only_this`); waiting events go out. NotFound; Refused when Meta does not bear the token out.

    Without `check` it is stored as it comes, for emergencies in which Meta cannot be asked.
    """
    by.must("set_token")
    with reading(service.engine) as conn:
        app = apps.find(conn, app_name)
    checked = Checked(token, None)
    if check:
        checked = _verified(service, app, token, only_this=only_this, accepted=accept_other_user, now=now)
    updated, released = _store(service, app, checked, alone=only_this or not check, by=by, now=now)
    with writing(service.engine) as conn:
        if check:
            _learn(conn, checked, now)
        subject = f"{app.public_id} {checked.token.fingerprint}{'' if check else ' unverified'}"
        audit.write(conn, by=by.name, action="set_token", subject=subject, count=updated, reason=reason, now=now)
        never = checked.facts is not None and checked.facts.never_expires
        return Given(apps.get(conn, app.id), updated, released, never, checked.warnings)


def _verified(
    service: TokenRefreshService, app: App, token: Secret, *, only_this: bool, accepted: bool, now: datetime
) -> Checked:
    with reading(service.engine) as conn:
        siblings = [] if only_this else _siblings(conn, app)
        before, accepted_user = _before(conn, app)
        tried = reach.of(conn, app.fingerprint) if app.fingerprint else []
    return verify(
        service.graph,
        token,
        app,
        siblings,
        user_before=before,
        accepted_user=accepted_user,
        accept_other_user=accepted,
        lost={row.pixel_id for row in tried if not row.reached},
        policy=service.policy,
        now=now,
    )


def _siblings(conn: Connection, app: App) -> list[App]:
    holding = apps.of_user(conn, app.user_id) if app.fingerprint else []
    return [one for one in holding if one.fingerprint == app.fingerprint and one.id != app.id]


def _before(conn: Connection, app: App) -> tuple[str | None, str | None]:
    """The Meta user of the token before, and the one of whom somebody has said that they may take over."""
    known = tokens.get(conn, app.fingerprint) if app.fingerprint else None
    case = cases.open_of(conn, app.fingerprint, app.user_id) if app.fingerprint else None
    return (known.meta_user_id if known else None), (case.accepted_user if case else None)


def _store(
    service: TokenRefreshService, app: App, checked: Checked, *, alone: bool, by: Operator, now: datetime
) -> tuple[int, int]:
    """How many apps hold it now that did not, and how many events that set free."""
    if app.fingerprint is not None and not alone:
        facts = checked.facts or _UNSPOKEN
        with writing(service.engine) as conn:  # one that the platform stored a moment ago is known from here on
            tokens.see(conn, app.fingerprint, user_id=app.user_id, now=now, next_refresh_at=None)
        done = service.take_over(
            app.fingerprint, checked.token, facts, trigger="manual", by=by.name, user_id=app.user_id, app_id=app.id
        )
        if not done.usable or done.fingerprint != checked.token.fingerprint:
            raise Refused("somebody stored another token for this app meanwhile: look at it, then try again")
        return max(1, done.apps_updated), done.events_released
    with writing(service.engine) as conn:
        _store_for_one(conn, app, checked, service.policy, now)
    return 1, _release(service.engine, app, now)


def _store_for_one(conn: Connection, app: App, checked: Checked, policy: Policy, now: datetime) -> None:
    new, old, facts = checked.token.fingerprint, app.fingerprint, checked.facts
    if old is not None and old != new:
        settle.match_cases(conn, old, now=now, but=app.id)
    ends = facts.expires_at if facts else None
    due = policy.first_refresh(new, ends, now)
    tokens.see(conn, new, user_id=app.user_id, now=now, next_refresh_at=due)
    if facts is not None or checked.reached:
        tokens.mend(conn, new, next_refresh_at=due)
        cases.close(conn, new, now=now)
    apps.write_token(conn, app.id, checked.token, expires_at=ends)


def _release(engine: Engine, app: App, now: datetime) -> int:
    return settle.release(engine, [app.id], app.fingerprint or outbox.NO_TOKEN, now=now)


def _learn(conn: Connection, checked: Checked, now: datetime) -> None:
    fingerprint = checked.token.fingerprint
    if checked.facts is None:
        tokens.learn_foreign(conn, fingerprint, now=now)
    else:
        tokens.learn(conn, fingerprint, checked.facts, now=now)
    for pixel_id in checked.reached:
        reach.note(conn, fingerprint, pixel_id, reached=True, now=now)
