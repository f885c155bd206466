"""The demo's past: shops, tokens in every state of health, weeks of refreshes and of health, a day of events.

Written through the keepers with moments that lie back, in one transaction, so that no worker sees half of it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine

from core.meta.answers import TokenFacts
from core.sandbox.client import Sandbox
from core.sandbox.demo_cast import OWNERS, PASSES_ITS_END, USUAL_DAYS, Owner
from core.sandbox.demo_day import a_day_of_events
from core.sandbox.state import SCOPES
from core.secret import Secret
from core.services import upkeep
from core.services.policy import Policy
from core.store import apps, cases, health_days, history, tokens
from core.store.apps import App
from core.store.database import writing
from core.store.health import Health, health_of

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
_WORKER: Final = "worker@sandbox"
_FOREIGN_APP: Final = "5550001112223"
# The stored end of the token that is mended while one watches lies so far ahead of the start.
FIRST_END: Final = timedelta(seconds=30)

# Why Meta took a token away: (failure, subcode, words), one after the other for those that wait for a reconnect.
_LOSSES: Final = (
    ("token_expired", 463, "Error validating access token: Session has expired."),
    (
        "token_dead",
        460,
        "Error validating access token: The session has been invalidated because the user changed the password.",
    ),
    ("token_dead", 458, "Error validating access token: The user has not authorized application."),
)
_TROUBLE: Final = "An unexpected error has occurred. Please retry your request later."


@dataclass(frozen=True, slots=True)
class Placed:
    """An owner on the stage: the token held, the apps that hold it, and since when Meta refuses it."""

    owner: Owner
    token: Secret
    apps: tuple[App, ...]
    ends: datetime | None
    broken_at: datetime | None = None
    loss: tuple[str, int, str] | None = None

    @property
    def mended_at(self) -> datetime | None:
        """When the refresh was that made this token: 60 days before its end."""
        return self.ends - 60 * DAY if self.ends is not None and self.owner.health is Health.VALID else None


def seed(engine: Engine, sandbox: Sandbox, policy: Policy, *, now: datetime, chance: random.Random) -> list[Placed]:
    """Fill an empty database; what was placed, in the order of the cast."""
    held = [_a_token(sandbox, owner, number, now) for number, owner in enumerate(OWNERS)]
    with writing(engine) as conn:
        placed = [_place(conn, *pair, policy, now, chance) for pair in zip(OWNERS, held, strict=True)]
        _weeks_of_refreshes(conn, placed, now, chance)
        _weeks_of_health(conn, placed, policy, now)
        a_day_of_events(conn, placed, now=now, chance=chance)
    upkeep.roll_up(engine, policy, now=now)
    return placed


def _a_token(sandbox: Sandbox, owner: Owner, number: int, now: datetime) -> Secret:
    """The token as Meta sees it, which is not always what the platform's tables say."""
    ends = _ends(owner, now)
    if owner.at_meta == "over":
        ends = now - 2 * HOUR
    elif owner.email == PASSES_ITS_END or owner.health in (Health.EXPIRED, Health.NO_EXPIRY):
        ends = now + 45 * DAY
    return sandbox.create_token(
        user=str(10_000_001 + number),
        name=f"{owner.shops[0][0]}, {owner.email}",
        app_id=_FOREIGN_APP if owner.at_meta == "foreign" else None,
        type="SYSTEM_USER" if owner.health is Health.NEVER else "USER",
        never=owner.health is Health.NEVER,
        expires_at=ends,
        mode="same_token" if owner.at_meta == "same_token" else None,
    )


def _ends(owner: Owner, now: datetime) -> datetime | None:
    if owner.health in (Health.NEVER, Health.NO_EXPIRY):
        return None
    if owner.email == PASSES_ITS_END:
        return now + FIRST_END
    return now + DAY * (USUAL_DAYS if owner.days is None else owner.days)


def _place(
    conn: Connection, owner: Owner, token: Secret, policy: Policy, now: datetime, chance: random.Random
) -> Placed:
    ends = _ends(owner, now)
    found = []
    for title, slug, _ in owner.shops:
        pixel = str(chance.randrange(10**14, 10**15))
        domain = f"{slug}.myshopify.com"
        app = apps.add(conn, name=title, email=owner.email, shop_domain=domain, pixel_id=pixel)
        apps.write_token(conn, app.id, token, expires_at=ends)
        found.append(apps.get(conn, app.id))
    due = _next_refresh(owner, token, ends, policy, now, chance)
    tokens.see(conn, token.fingerprint, user_id=found[0].user_id, now=now - 60 * DAY, next_refresh_at=due)
    _learn(conn, owner, token, ends, policy.app_id, now - chance.random() * 20 * HOUR)
    if owner.health is not Health.NEEDS_RECONNECT:
        return Placed(owner, token, tuple(found), ends)
    lost = Placed(owner, token, tuple(found), ends, now - chance.uniform(3, 40) * HOUR, _loss_of(owner))
    _lose(conn, lost)
    return lost


def _next_refresh(
    owner: Owner, token: Secret, ends: datetime | None, policy: Policy, now: datetime, chance: random.Random
) -> datetime | None:
    """Tokens near their end were tried lately and are tried again within the day, so that they can be looked at."""
    if ends is None or owner.health is Health.NEEDS_RECONNECT:
        return None
    if owner.health is Health.VALID:
        return policy.first_refresh(token.fingerprint, ends, now)
    return now + chance.uniform(3, 21) * HOUR


def _learn(
    conn: Connection, owner: Owner, token: Secret, ends: datetime | None, meta_app_id: str | None, checked_at: datetime
) -> None:
    if owner.at_meta == "foreign":
        tokens.learn_foreign(conn, token.fingerprint, now=checked_at)
        return
    facts = TokenFacts(
        is_valid=True,
        kind="SYSTEM_USER" if owner.health is Health.NEVER else "USER",
        meta_app_id=meta_app_id,
        meta_user_id=None,
        scopes=SCOPES,
        expires_at=ends,
        never_expires=owner.health is Health.NEVER,
        data_access_expires_at=checked_at + 70 * DAY,
        issued_at=checked_at - 20 * DAY,
    )
    tokens.learn(conn, token.fingerprint, facts, now=checked_at)


def _loss_of(owner: Owner) -> tuple[str, int, str]:
    lost = [one.email for one in OWNERS if one.health is Health.NEEDS_RECONNECT]
    return _LOSSES[lost.index(owner.email) % len(_LOSSES)]


def _lose(conn: Connection, lost: Placed) -> None:
    assert lost.loss is not None
    assert lost.broken_at is not None
    failure, _, words = lost.loss
    said: dict[str, Any] = {"failure": failure, "words": words, "now": lost.broken_at}
    tokens.give_up_on(conn, lost.token.fingerprint, **said)
    cases.open_(conn, lost.token.fingerprint, user_id=lost.apps[0].user_id, **said)


def _weeks_of_refreshes(conn: Connection, placed: list[Placed], now: datetime, chance: random.Random) -> None:
    rows = [row for one in placed for row in _refreshes_of(one, now, chance)]
    for row in sorted(rows, key=lambda row: row["started_at"]):
        history.add_refresh(conn, **row)


def _weeks_of_health(conn: Connection, placed: list[Placed], policy: Policy, now: datetime) -> None:
    for back in range(1, 21):
        at, counts = now - DAY * back, dict.fromkeys(Health, 0)
        for one in placed:
            counts[_health_then(one, at, policy)] += len(one.apps)
        health_days.put(conn, counts, now=at)


def _health_then(one: Placed, at: datetime, policy: Policy) -> Health:
    if one.mended_at is not None and at < one.mended_at:
        return Health.RENEWING
    return health_of(
        one.ends,
        never_expires=one.owner.health is Health.NEVER,
        needs_reconnect=one.broken_at is not None and one.broken_at <= at,
        now=at,
        soon=policy.soon,
        window=policy.window,
    )


def _refreshes_of(one: Placed, now: datetime, chance: random.Random) -> list[dict[str, Any]]:
    owner = one.owner
    if one.broken_at is not None and one.loss is not None:
        _, subcode, words = one.loss
        return [_row(one, one.broken_at, "needs_reconnect", chance, "on_error", code=190, subcode=subcode, words=words)]
    if owner.at_meta == "same_token":
        words = "Meta answered, but the end did not move"
        days = range(1, chance.randint(3, 8))
        return [_row(one, _evening(now, back, chance), "not_extended", chance, words=words) for back in days]
    if owner.health in (Health.RENEWING, Health.EXPIRING_SOON, Health.EXPIRED):
        failed = [_evening(now, back, chance) for back in chance.sample(range(1, 16), 1)]
        return [_row(one, at, "unreachable", chance, code=2, words=_TROUBLE) for at in failed]
    if one.mended_at is None:
        return []
    return _extensions(one, one.mended_at, now, chance)


def _extensions(one: Placed, at: datetime, now: datetime, chance: random.Random) -> list[dict[str, Any]]:
    """The refresh that made the token of today, by one of the ways there are, and often a failed try before."""
    usual = (("scheduled", _WORKER), ("scheduled", _WORKER), ("manual", "mara"), ("bulk", "jonas"))
    trigger, by = ("on_error", _WORKER) if now - at < DAY else chance.choice(usual)
    rows = [_row(one, at, "extended", chance, trigger, by=by, fresh=True)]
    if trigger == "scheduled" and chance.random() < 0.4:
        rows.append(_row(one, at - 11 * MINUTE, "unreachable", chance, trigger, by=by, code=2, words=_TROUBLE))
    if chance.random() < 0.4 and at + 2 * DAY < now:
        rows.append(
            _row(one, min(at + 9 * DAY, now - chance.uniform(3, 30) * HOUR), "still_valid", chance, "manual", by="mara")
        )
    return rows


def _evening(now: datetime, days_back: int, chance: random.Random) -> datetime:
    return now - DAY * days_back + chance.uniform(0, 90) * MINUTE


def _row(
    one: Placed,
    at: datetime,
    outcome: str,
    chance: random.Random,
    trigger: str = "scheduled",
    *,
    by: str = _WORKER,
    fresh: bool = False,
    code: int | None = None,
    subcode: int | None = None,
    words: str | None = None,
) -> dict[str, Any]:
    """One line of history; `fresh`: the refresh that made the token held today."""
    return {
        "started_at": at,
        "duration_ms": chance.randrange(180, 1_400),
        "trigger": trigger,
        "by": by,
        "user_id": one.apps[0].user_id,
        "app_id": one.apps[0].id if trigger in ("manual", "on_error") else None,
        "fingerprint": f"fp_{chance.randrange(16**16):016x}" if fresh else one.token.fingerprint,
        "new_fingerprint": one.token.fingerprint if fresh else None,
        "outcome": outcome,
        "expires_before": _end_before(at, trigger, chance) if fresh else one.ends,
        "expires_after": one.ends if fresh or outcome == "still_valid" else None,
        "apps_updated": len(one.apps) if fresh else 0,
        "code": code,
        "subcode": subcode,
        "words": words,
        "trace_id": f"A{chance.randrange(16**20):020x}",
    }


def _end_before(at: datetime, trigger: str, chance: random.Random) -> datetime:
    return at - chance.uniform(1, 30) * MINUTE if trigger == "on_error" else at + chance.uniform(0.5, 30) * DAY
