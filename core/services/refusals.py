"""What Meta's refusal of a batch leads to: a table says how long each failure rests, and whose trouble it is."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from core.meta.failures import Failure, Scope
from core.meta.graph import GraphError
from core.services.batches import Batch
from core.services.outcome import USABLE
from core.store import history, outbox, pixels, reach, tokens
from core.store.ready import Payload
from core.store.wake import Work, wake

log = logging.getLogger("delivery")

# An answer nobody knows is tried this often before the event is dead.
UNKNOWN_TRIES = 3
# Events whose token must wait are looked at this often: their app may hold another token meanwhile.
LOOK_AGAIN = timedelta(minutes=5)
# "Session does not match" may pass by itself; this often within this time it does not.
SOFT_TRIES, SOFT_WITHIN = 3, timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Rest:
    """How long a pixel waits after a failure: `first`, doubled by each refusal in a row, at most `cap`."""

    first: timedelta
    cap: timedelta

    def until(self, now: datetime, failures: int, asked: float | None) -> datetime:
        if asked is not None:
            return now + timedelta(seconds=min(asked, 86_400))
        longest = min(self.first * 2 ** min(failures, 20), self.cap)
        # Full jitter: pixels that failed together do not come back together.
        return now + self.first + (longest - self.first) * random.random()


_SECOND, _MINUTE, _HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
RESTS: dict[Failure, Rest] = {
    Failure.TRANSIENT: Rest(_SECOND, 15 * _MINUTE),
    Failure.UNKNOWN: Rest(_MINUTE, _HOUR),
    Failure.TOKEN_SOFT: Rest(20 * _SECOND, 5 * _MINUTE),
    Failure.RATE_LIMITED: Rest(_MINUTE, _HOUR),
    Failure.APP_CONFIG: Rest(_MINUTE, 15 * _MINUTE),
    Failure.PERMISSION: Rest(_HOUR, _HOUR),
}


# Refusals that say nothing about the event: no try is counted against it.
UNCOUNTED = frozenset({Failure.RATE_LIMITED, Failure.APP_CONFIG})


@dataclass(frozen=True, slots=True)
class Verdict:
    """`again`: the parts to be sent at once, or None when nothing more can go for now; `broken`: the token that this
    refusal broke; `drop`: what is left of the batch would meet the same, and is looked at anew."""

    again: Sequence[Batch] | None
    broken: str | None = None
    drop: bool = False


def refused(
    conn: Connection, part: Batch, error: GraphError, scope: Scope, *, started: datetime, now: datetime
) -> Verdict:
    """Record a refusal and what follows from it. Conflict when the pixel's lease was lost."""
    pixels.renew(conn, part.lease, now=now)
    attempt_id = _attempt(conn, part, error, started, now)
    if _divisible(part, error.failure):
        return Verdict(_divide(conn, part, error, attempt_id))
    if _breaks(conn, part, error, now):
        if _is_late(conn, part, started):
            _stay_due(conn, part, error, attempt_id, None, counted=False)
            return Verdict(None)
        return Verdict(None, _park_all(conn, part, error, attempt_id, now))
    until = RESTS[error.failure].until(now, part.lease.failures, error.retry_after)
    if error.failure is Failure.PERMISSION:
        return _shut(conn, part, error, attempt_id, until, now)
    if scope is Scope.TOKEN:
        return _rest_token(conn, part, error, attempt_id, until, now)
    if scope is Scope.APP or (part.probe is not None and error.failure is Failure.TRANSIENT):
        # The incident says when the next call is made, and no event has had a fair try.
        _stay_due(conn, part, error, attempt_id, None, counted=False)
        return Verdict(None)
    if error.failure is Failure.APP_CONFIG and part.token is not None:  # was it ours? Ask again who made it
        tokens.check_later(conn, part.token.fingerprint, now)
    pixels.hold_back(conn, part.lease, until=until, failure=str(error.failure))
    _stay_due(conn, part, error, attempt_id, until, counted=error.failure not in UNCOUNTED)
    return Verdict(None)


def _stay_due(
    conn: Connection, part: Batch, error: GraphError, attempt_id: int, until: datetime | None, *, counted: bool
) -> None:
    """The events wait; those that nobody has understood too often are dead."""
    failure = str(error.failure)
    worn = {event.id for event in part.events if _worn_out(event, error.failure)}
    outbox.move(conn, "bury", sorted(worn), failure=failure, attempt_id=attempt_id)
    rest = [id_ for id_ in part.ids if id_ not in worn]
    wears = int(error.failure is Failure.UNKNOWN)
    outbox.refused(conn, rest, failure=failure, attempt_id=attempt_id, next_at=until, counted=int(counted), wears=wears)


def _rest_token(
    conn: Connection, part: Batch, error: GraphError, attempt_id: int, until: datetime, now: datetime
) -> Verdict:
    """The limit of this token's user: all its pixels wait; other tokens of this pixel go on."""
    assert part.token is not None
    failure = str(error.failure)
    tokens.hold_back(conn, part.token.fingerprint, until=until, failure=failure)
    known = tokens.get(conn, part.token.fingerprint)
    if known is not None and known.meta_app_id is None and not known.foreign_app:  # was it our limit? Ask who made it
        tokens.check_later(conn, part.token.fingerprint, now)
    _stay_due(conn, part, error, attempt_id, min(until, now + LOOK_AGAIN), counted=False)
    extra = {"token": part.token.fingerprint, "until": until.isoformat(), "code": error.code}
    log.warning("Meta limits the calls with a token", extra=extra)
    return Verdict((), drop=True)


def _divisible(part: Batch, failure: Failure) -> bool:
    """Whether one event may be to blame: Meta says so, or says a second time what nobody understands."""
    again = failure is Failure.UNKNOWN and len(part.events) > 1 and all(event.attempts for event in part.events)
    return again or failure is Failure.INVALID_EVENT


def _shut(conn: Connection, part: Batch, error: GraphError, attempt_id: int, until: datetime, now: datetime) -> Verdict:
    """This token may not use this pixel: its events wait for another token, or for the next try; others go on."""
    assert part.token is not None
    reach.note(conn, part.token.fingerprint, part.lease.pixel_id, reached=False, now=now, error=error)
    waits = {"parked_by": part.token.fingerprint, "next_attempt_at": until, "failure": str(error.failure)}
    outbox.move(conn, "park", part.ids, attempt_id=attempt_id, **waits)
    return Verdict((), drop=True)


def _attempt(conn: Connection, part: Batch, error: GraphError, started: datetime, now: datetime) -> int:
    assert part.token is not None
    log.warning(
        "Meta could not be reached" if error.status is None else "Meta refused a request",
        extra={
            "pixel": part.lease.pixel_id,
            "events": len(part.events),
            "failure": str(error.failure),
            "code": error.code,
            "subcode": error.subcode,
            "trace": error.trace_id,
            "words": error.words,
            "token": part.token.fingerprint,
        },
    )
    return history.add_attempt(
        conn,
        at=now,
        pixel_id=part.lease.pixel_id,
        fingerprint=part.token.fingerprint,
        events=len(part.events),
        duration_ms=round((now - started).total_seconds() * 1000),
        status=error.status,
        failure=str(error.failure),
        code=error.code,
        subcode=error.subcode,
        words=error.words or None,
        trace_id=error.trace_id,
        answer=error.answer or None,
    )


def _breaks(conn: Connection, part: Batch, error: GraphError, now: datetime) -> bool:
    """Whether nothing may be sent with this token from now on."""
    if error.failure is not Failure.TOKEN_SOFT or part.token is None:
        return error.failure in (Failure.TOKEN_EXPIRED, Failure.TOKEN_DEAD)
    failure, since = str(error.failure), now - SOFT_WITHIN
    return history.count_refusals(conn, part.token.fingerprint, failure=failure, since=since) >= SOFT_TRIES


def _is_late(conn: Connection, part: Batch, started: datetime) -> bool:
    """Whether the token was mended while this request was under way: then the refusal may be of the time before."""
    assert part.token is not None
    fingerprint = part.token.fingerprint
    known = tokens.get(conn, fingerprint)
    healthy = known is not None and known.broken_since is None
    return healthy and history.was_good(conn, fingerprint, USABLE, since=started)


def _park_all(conn: Connection, part: Batch, error: GraphError, attempt_id: int, now: datetime) -> str:
    """The token is broken: its events wait, and no try is counted against them."""
    assert part.token is not None
    fingerprint = part.token.fingerprint
    log.warning("[Track] Detected token error, attempting to refresh token...")
    tokens.break_(
        conn, fingerprint, failure=str(error.failure), words=error.words, app_id=part.events[0].app_id, now=now
    )
    outbox.move(conn, "park", part.ids, parked_by=fingerprint, failure=str(error.failure), attempt_id=attempt_id)
    wake(conn, Work.REFRESH, [fingerprint])
    return fingerprint


def _divide(conn: Connection, part: Batch, error: GraphError, attempt_id: int) -> list[Batch]:
    """Meta refuses a whole request for one event: bury the culprit it names, or halve until one is left."""
    events = part.events
    culprit: tuple[Payload, ...] = ()
    rest: list[tuple[Payload, ...]] = []
    if len(events) == 1:
        culprit = events
    elif error.blame is not None and error.blame < len(events):
        culprit, rest = (events[error.blame],), [events[: error.blame] + events[error.blame + 1 :]]
    else:
        half = len(events) // 2
        rest = [events[half:], events[:half]]
    _bury(conn, culprit, error, attempt_id)
    return [replace(part, events=piece) for piece in rest if piece]


def _bury(conn: Connection, culprit: Sequence[Payload], error: GraphError, attempt_id: int) -> None:
    ids = [event.id for event in culprit]
    outbox.move(conn, "bury", ids, failure=str(error.failure), attempt_id=attempt_id)


def _worn_out(event: Payload, failure: Failure) -> bool:
    return failure is Failure.UNKNOWN and event.attempts + 1 >= UNKNOWN_TRIES
