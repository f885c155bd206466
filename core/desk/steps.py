"""What a person should do about a token: one sentence, from its health, its case and what was found about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection, select

from core.desk.explain import explain
from core.desk.explain_tokens import FINDINGS
from core.store.database import chunks
from core.store.health import Health
from core.store.schema import capi_case

_LOOKUPS = 1_000
_DAY = timedelta(days=1)
_IN_VAIN = ("not_extended", "new_token_same_expiry", "refused", "unreachable")

_STEPS: dict[Health, str] = {
    Health.NEEDS_RECONNECT: "Send the reconnect link",
    Health.EXPIRED: "Refresh now; an event or a check shows whether Meta still takes it",
    Health.EXPIRING_SOON: "Refresh now, before it ends",
    Health.RENEWING: "Nothing: it is refreshed by itself",
    Health.NO_EXPIRY: "Nothing: its end is asked from Meta within a day",
    Health.VALID: "Nothing",
    Health.NEVER: "Nothing: it has no end",
}


class Case(Protocol):
    """What a next step needs of a case."""

    @property
    def state(self) -> str: ...
    @property
    def sent_at(self) -> datetime | None: ...
    @property
    def link_ends_at(self) -> datetime | None: ...
    @property
    def remind_at(self) -> datetime | None: ...
    @property
    def refused(self) -> str | None: ...
    @property
    def refused_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class CaseState:
    """An open reconnect case, in short."""

    id: int
    state: str
    sent_at: datetime | None
    link_ends_at: datetime | None
    remind_at: datetime | None
    refused: str | None
    refused_at: datetime | None


def open_cases(conn: Connection, fingerprints: Iterable[str]) -> dict[tuple[str, str], CaseState]:
    """(token, user) → the open case, for each of these tokens that has one."""
    c = capi_case.c
    columns = [c[name] for name in CaseState.__dataclass_fields__]
    found: dict[tuple[str, str], CaseState] = {}
    for part in chunks(list(fingerprints), _LOOKUPS):
        lost = c.fingerprint.in_(list(part)), c.done_at.is_(None)
        rows = conn.execute(select(c.fingerprint, c.user_id, *columns).where(*lost).order_by(c.id))
        found |= {(row[0], row[1]): CaseState(*row[2:]) for row in rows}
    return found


def next_step(
    health: Health,
    outcome: str | None,
    *,
    has_token: bool = True,
    broken: str | None = None,
    case: CaseState | None = None,
    finding: str | None = None,
    now: datetime | None = None,
) -> str:
    """The one sentence behind a token in the list: what a person should do, if anything.

    `finding` is the worst thing found about the token, where there is one.
    """
    if not has_token:
        return "Connect Facebook: no token is stored"
    if health is Health.NEEDS_RECONNECT:
        return case_step(case, now) if case and now else _STEPS[health]
    if broken is not None:
        return explain(broken).do
    if outcome in _IN_VAIN and health in (Health.EXPIRING_SOON, Health.RENEWING):
        return explain(outcome).do
    if health in (Health.EXPIRED, Health.EXPIRING_SOON):
        return _STEPS[health]
    return FINDINGS[finding].do if finding else _STEPS[health]


def case_step(case: Case, now: datetime) -> str:
    """Whose move it is in a reconnect case: `Link sent 2 days ago, reminder tomorrow`."""
    over = case.link_ends_at is not None and case.link_ends_at <= now
    if over or case.state == "expired":
        return "The link has ended: make a new one and send it"
    if case.sent_at is None:
        return "Send the reconnect link"
    if case.refused is not None and (case.refused_at or now) >= case.sent_at:
        return "The last login was not taken: see why in its case"
    if case.state == "opened":
        return f"Link sent {days(case.sent_at, now)} and opened, login not finished; {_reminder(case, now)}"
    return f"Link sent {days(case.sent_at, now)}, {_reminder(case, now)}"


def days(moment: datetime, now: datetime) -> str:
    """`today`, `2 days ago`, `tomorrow`, `in 3 days`: whole days between two moments, counted from `now`."""
    between = (moment - now) / _DAY
    number = round(abs(between))
    if number == 0:
        return "today"
    if number == 1:
        return "tomorrow" if between > 0 else "yesterday"
    return f"in {number} days" if between > 0 else f"{number} days ago"


def _reminder(case: Case, now: datetime) -> str:
    if case.remind_at is None:
        return "no reminder is planned"
    return "a reminder is due" if case.remind_at <= now else f"reminder {days(case.remind_at, now)}"
