"""One batch to Meta, and what its answer means for the events in it. A table says what each failure leads to."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from core.errors import CoreError
from core.meta.failures import Failure
from core.meta.graph import Graph, GraphError, Sent
from core.secret import Secret
from core.store import history, outbox, pixels, tokens
from core.store.database import writing
from core.store.outbox import Payload
from core.store.pixels import Lease
from core.store.wake import Work, wake

log = logging.getLogger("delivery")

# An answer nobody knows is tried this often before the event is dead.
UNKNOWN_TRIES = 3
# "Session does not match" may pass by itself; this often in a row it does not.
SOFT_TRIES = 3


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one pixel that go with one token; `ours`: our Meta app made the token."""

    lease: Lease
    token: Secret | None
    test_event_code: str | None
    ours: bool
    events: tuple[Payload, ...]

    @property
    def ids(self) -> list[int]:
        return [event.id for event in self.events]


class Stopped(CoreError):
    """Nothing more can be sent for this pixel now."""

    def __init__(self, fingerprint: str | None = None) -> None:
        super().__init__()
        self.fingerprint = fingerprint


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


def send(engine: Engine, graph: Graph, batch: Batch, *, clock: Callable[[], datetime]) -> None:
    """Send these events, dividing a refused request until the culprit stands alone. Stopped, Conflict."""
    todo = [batch]
    while todo:
        part = todo.pop()
        started = clock()
        try:
            answer = _post(graph, part)
        except GraphError as error:
            with writing(engine) as conn:
                again = _refused(conn, part, error, started=started, now=clock())
            if again is None:
                raise Stopped(_broken(part, error)) from None
            todo += again
        else:
            with writing(engine) as conn:
                _delivered(conn, part, answer, clock())


def _post(graph: Graph, part: Batch) -> Sent:
    assert part.token is not None
    if any(event.after_refresh for event in part.events):
        log.info("[Track] ✅ Token refreshed, retrying event send...")
    return graph.send(
        part.lease.pixel_id,
        [event.body for event in part.events],
        part.token,
        test_event_code=part.test_event_code,
        ours=part.ours,
    )


def _delivered(conn: Connection, part: Batch, answer: Sent, now: datetime) -> None:
    assert part.token is not None
    pixels.accepted(conn, part.lease, now=now)
    attempt_id = history.add_attempt(
        conn,
        at=now,
        pixel_id=part.lease.pixel_id,
        fingerprint=part.token.fingerprint,
        events=len(part.events),
        duration_ms=answer.duration_ms,
        status=answer.status,
        trace_id=answer.trace_id,
        words=answer.words or None,
    )
    outbox.move(conn, "deliver", part.ids, attempt_id=attempt_id, delivered_at=now, failure=None)
    refreshed = sum(event.after_refresh for event in part.events)
    if refreshed:
        log.info("[Track] ✅ SUCCESS (after token refresh): Event sent to Facebook CAPI", extra={"events": refreshed})


def _refused(
    conn: Connection, part: Batch, error: GraphError, *, started: datetime, now: datetime
) -> list[Batch] | None:
    """Record a refusal: the parts to be sent again at once, or None when nothing more can go for now."""
    pixels.renew(conn, part.lease, now=now)
    attempt_id = _attempt(conn, part, error, started, now)
    if _divisible(part, error.failure):
        return _divide(conn, part, error, attempt_id)
    if _broken(part, error):
        _park_all(conn, part, error, attempt_id, now)
        return None
    until = RESTS[error.failure].until(now, part.lease.failures, error.retry_after)
    if error.failure is Failure.PERMISSION:
        _shut(conn, part, error, attempt_id, until)
        return []
    pixels.hold_back(conn, part.lease, until=until, failure=str(error.failure))
    worn = {event.id for event in part.events if _worn_out(event, error.failure)}
    outbox.move(conn, "bury", sorted(worn), failure=str(error.failure), attempt_id=attempt_id)
    rest = [id_ for id_ in part.ids if id_ not in worn]
    outbox.refused(conn, rest, failure=str(error.failure), attempt_id=attempt_id, next_at=until)
    return None


def _divisible(part: Batch, failure: Failure) -> bool:
    """Whether one event may be to blame: Meta says so, or says a second time what nobody understands."""
    again = failure is Failure.UNKNOWN and len(part.events) > 1 and all(event.attempts for event in part.events)
    return again or failure is Failure.INVALID_EVENT


def _shut(conn: Connection, part: Batch, error: GraphError, attempt_id: int, until: datetime) -> None:
    """This token may not use this pixel: its events wait for another token, or for the next try; others go on."""
    assert part.token is not None
    waits = {"parked_by": part.token.fingerprint, "next_attempt_at": until, "failure": str(error.failure)}
    outbox.move(conn, "park", part.ids, attempt_id=attempt_id, **waits)


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


def _broken(part: Batch, error: GraphError) -> str | None:
    """The fingerprint of the token that this refusal breaks."""
    dead = error.failure in (Failure.TOKEN_EXPIRED, Failure.TOKEN_DEAD)
    worn = error.failure is Failure.TOKEN_SOFT and part.lease.failures + 1 >= SOFT_TRIES
    return part.token.fingerprint if part.token and (dead or worn) else None


def _park_all(conn: Connection, part: Batch, error: GraphError, attempt_id: int, now: datetime) -> None:
    """The token is broken: its events wait, and no try is counted against them."""
    assert part.token is not None
    fingerprint = part.token.fingerprint
    log.warning("[Track] Detected token error, attempting to refresh token...")
    tokens.break_(
        conn, fingerprint, failure=str(error.failure), words=error.words, app_id=part.events[0].app_id, now=now
    )
    outbox.move(conn, "park", part.ids, parked_by=fingerprint, failure=str(error.failure), attempt_id=attempt_id)
    wake(conn, Work.REFRESH, [fingerprint])


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
