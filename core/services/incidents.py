"""The gate before Meta: what is wrong for all of us at once is one incident, not a failure of each token and event.

While one is open nobody calls Meta but the probe (`core.services.probing`); when it ends, calls come back at a pace
that does not knock Meta over again.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection, Row, func, select

from core.meta.failures import OF_ONE_PIXEL, Failure, Scope, scope_of
from core.meta.limits import LONGEST
from core.store import incidents, tokens
from core.store.schema import capi_attempt, capi_refresh

log = logging.getLogger("incidents")

APP_CONFIG, RATE_LIMITED, META_AWAY = "app_config", "rate_limited", "meta_away"

# Meta counts as away when so many pixels and tokens met nothing but trouble for so long.
AWAY_FOR = timedelta(minutes=1)
AWAY_SEEN_BY = 3
# How long a token waits for its user's limit when Meta does not say.
LIMIT_REST = timedelta(minutes=1)
# After an incident, calls are paced for so long.
RETURNING = timedelta(minutes=30)
_PACED_OVER = timedelta(seconds=10)
# Refreshes in whose course Meta gave a token, and those for which it could not be asked.
_EXCHANGED = ("extended", "new_token_same_expiry", "not_extended")
_UNREACHED = "unreachable"


_JITTER = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Backoff:
    """When the next call is let through: `first`, doubled by each probe in vain, at most `cap`."""

    first: timedelta
    cap: timedelta

    def after(self, now: datetime, probes: int) -> datetime:
        wait = min(self.first * 2 ** min(probes, 20), self.cap)
        return now + wait + _JITTER * random.random()


_15_S, _MINUTE = timedelta(seconds=15), timedelta(minutes=1)
BACKOFF = {
    APP_CONFIG: Backoff(_15_S, 5 * _MINUTE),
    META_AWAY: Backoff(_15_S, 5 * _MINUTE),
    RATE_LIMITED: Backoff(_MINUTE, 60 * _MINUTE),
}
# Refusals of a proof: of our app's secret, or of one token that was taken for ours.
DOUBTFUL = frozenset({100, 104})
# What the refusals of a refresh say when nobody was asked.
SENTENCES = {
    APP_CONFIG: "Meta refuses our app id or app secret",
    RATE_LIMITED: "Meta limits the calls of our app",
    META_AWAY: "Meta is away",
}


@dataclass(frozen=True, slots=True)
class Pause:
    """Why Meta is not called now: an incident's kind, or the failure that a token waits for."""

    kind: str
    until: datetime
    words: str


class Refusal(Protocol):
    """A `GraphError`, or anything else that says as much."""

    @property
    def failure(self) -> Failure | None: ...
    @property
    def code(self) -> int | None: ...
    @property
    def subcode(self) -> int | None: ...
    @property
    def words(self) -> str: ...
    @property
    def trace_id(self) -> str | None: ...


def gate(conn: Connection, *, now: datetime, fingerprint: str | None = None, known: Row | None = None) -> Pause | None:
    """Why Meta may not be called now, or None: an incident is open, or this token's user is at its limit.

    `known`: the token's row, where it was just read.
    """
    for incident in incidents.open_ones(conn):
        return Pause(incident.kind, incident.probe_at, f"paused: {SENTENCES[incident.kind]}")
    known = tokens.get(conn, fingerprint) if fingerprint else known
    if known is None or known.wait_until is None or known.wait_until <= now:
        return None
    return Pause(known.wait_failure, known.wait_until, "paused: Meta limits the calls with this token")


def report(
    conn: Connection,
    error: Refusal,
    *,
    now: datetime,
    foreign: bool = False,
    sure: bool = False,
    fingerprint: str | None = None,
) -> str | None:
    """Tell of a refusal, after it is written down: the kind of the incident it belongs to, or None for its own trouble.

    To be called in a transaction of its own, or as the last thing of another. `foreign`: another Meta app made the
    token, so a limit on "the application" is not ours. `sure`: Meta was asked about our own app and refused it; a
    proof that is refused for one token may be that token's trouble, and an incident stops everybody. A limit of the
    user behind `fingerprint` is written down as well: `gate` obeys it.
    """
    token = fingerprint or getattr(error, "fingerprint", None)
    if token and error.failure is Failure.RATE_LIMITED and limit_scope(error.code, foreign=foreign) is Scope.TOKEN:
        wait = getattr(error, "retry_after", None) or LIMIT_REST.total_seconds()
        until = now + timedelta(seconds=min(wait, LONGEST))
        tokens.hold_back(conn, token, until=until, failure=str(Failure.RATE_LIMITED))
    kind = kind_of(error, foreign=foreign)
    if kind is None or (kind == APP_CONFIG and error.code in DOUBTFUL and not sure):
        return None
    if kind == META_AWAY and not (_is_open(conn, kind) or _is_away(conn, now)):
        return None
    asked = getattr(error, "retry_after", None) if kind == RATE_LIMITED else None
    _note(conn, kind, error, asked, now)
    return kind


def kind_of(error: Refusal, *, foreign: bool = False) -> str | None:
    """The incident that a refusal may belong to."""
    if error.failure is Failure.TRANSIENT:
        return None if error.code in OF_ONE_PIXEL else META_AWAY
    if error.failure is Failure.APP_CONFIG:  # without a code it is a setting that is missing: nobody was refused
        return APP_CONFIG if error.code is not None else None
    of_all = error.failure is Failure.RATE_LIMITED and limit_scope(error.code, foreign=foreign) is Scope.APP
    return RATE_LIMITED if of_all else None


def limit_scope(code: int | None, *, foreign: bool) -> Scope:
    """Who waits for a limit. Of a foreign token "the application" is the one that made it, not ours."""
    scope = scope_of(code)
    return Scope.TOKEN if scope is Scope.APP and foreign else scope


def report_used_up(conn: Connection, seconds: float | None, *, now: datetime) -> None:
    """Meta took a request and said that our app has used up its calls: the next one would be refused."""
    _note(conn, RATE_LIMITED, None, seconds, now)


def _note(conn: Connection, kind: str, error: Refusal | None, asked: float | None, now: datetime) -> None:
    at = now + timedelta(seconds=min(asked, LONGEST)) if asked else BACKOFF[kind].after(now, 0)
    said = {
        "code": error.code if error else None,
        "subcode": error.subcode if error else None,
        "words": error.words if error else "our app's calls are used up, says the header X-App-Usage",
        "trace_id": error.trace_id if error else None,
    }
    incident_id, new = incidents.note(conn, kind, now=now, probe_at=at, at_least=bool(asked), **said)  # type: ignore[arg-type]
    if new:
        log.error("incident opened", extra={"incident": incident_id, "kind": kind, **said})


def _is_open(conn: Connection, kind: str) -> bool:
    return any(incident.kind == kind for incident in incidents.open_ones(conn))


def _is_away(conn: Connection, now: datetime) -> bool:
    """Whether several pixels and tokens met trouble in the last minute, and nobody anything else."""
    a, r, since = capi_attempt.c, capi_refresh.c, now - AWAY_FOR
    lately, begun = (a.at > since) & (a.at <= now), (r.started_at > since) & (r.started_at <= now)
    answered = a.failure.is_(None) | (a.failure != str(Failure.TRANSIENT)) | a.code.in_(OF_ONE_PIXEL)
    for good in (select(a.id).where(lately, answered), select(r.id).where(begun, r.outcome.in_(_EXCHANGED))):
        if conn.scalar(good.limit(1)) is not None:
            return False
    pixels = select(func.count(a.pixel_id.distinct())).where(lately)
    refreshed = select(func.count(r.fingerprint.distinct())).where(begun, r.outcome == _UNREACHED)
    return (conn.scalar(pixels) or 0) + (conn.scalar(refreshed) or 0) >= AWAY_SEEN_BY


def paced(conn: Connection, *, now: datetime) -> bool:
    """Whether the events should wait a moment: an incident has just ended, and enough calls were made for now."""
    return _is_paced(conn, incidents.current(conn, since=now - RETURNING, now=now), now)


def _is_paced(conn: Connection, current: list[Row], now: datetime) -> bool:
    paces = [row.pace for row in current if row.pace is not None]
    if not paces:
        return False
    at = capi_attempt.c.at
    lately = select(func.count()).select_from(capi_attempt).where(at > now - _PACED_OVER, at <= now)
    return (conn.scalar(lately) or 0) >= min(paces) * _PACED_OVER / _MINUTE


def shut(conn: Connection, *, now: datetime) -> bool:
    """Whether no event may go now: an incident is open, or the calls after one are paced."""
    current = incidents.current(conn, since=now - RETURNING, now=now)
    return any(row.closed_at is None for row in current) or _is_paced(conn, current, now)


def due_probes(conn: Connection, *, now: datetime) -> list[Row]:
    """Open incidents for which a call is let through now; none before the time that Meta named for our app."""
    found = incidents.open_ones(conn)
    due = [row for row in found if row.probe_at <= now or row.probe_at > farthest(row.kind, now)]
    return due if all(row in due for row in found if row.kind == RATE_LIMITED) else []


def farthest(kind: str, now: datetime) -> datetime:
    """The latest time that a probe is planned for; a later one was written before the clock was set back."""
    longest = timedelta(seconds=LONGEST) if kind == RATE_LIMITED else BACKOFF[kind].cap
    return now + longest + _JITTER
