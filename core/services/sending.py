"""One batch to Meta, and what its answer means for the events in it; of refusals `refusals` knows more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, Engine

from core import failpoints
from core.errors import CoreError, SettingsError
from core.meta.failures import Failure, Scope
from core.meta.graph import Graph, GraphError, Sent
from core.services import incidents
from core.services.batches import Batch
from core.services.refusals import RESTS, refused
from core.store import history, outbox, pixels, reach
from core.store.database import writing

log = logging.getLogger("delivery")


class Stopped(CoreError):
    """Nothing more can be sent for this pixel now."""

    def __init__(self, fingerprint: str | None = None) -> None:
        super().__init__()
        self.fingerprint = fingerprint


def send(engine: Engine, graph: Graph, batch: Batch, *, clock: Callable[[], datetime]) -> bool:
    """Send these events, dividing a refused request until the culprit stands alone. Stopped, Conflict.

    Whether there may be more: false when the pixel has nothing left, and its lease was given up.
    """
    todo, more = [batch], True
    while todo:
        part = todo.pop()
        started = clock()
        failpoints.hit("send.before_post")
        try:
            answer = _post(graph, part)
        except GraphError as error:
            failpoints.hit("send.after_refusal")
            sure = error.failure is Failure.APP_CONFIG and _refuses_our_app(graph)
            scope = _scope(part, error, sure=sure)
            with writing(engine) as conn:
                verdict = refused(conn, part, error, scope, started=started, now=clock())
            _tell(engine, part, error, scope, clock())
            if verdict.again is None:
                raise Stopped(verdict.broken) from None
            todo = [*verdict.again] if verdict.drop else [*todo, *verdict.again]
        else:
            failpoints.hit("send.after_accept")
            more = _taken(engine, part, answer, clock(), last=not todo)
            failpoints.hit("send.after_commit")
    return more


def _post(graph: Graph, part: Batch) -> Sent:
    assert part.token is not None
    if any(event.after_refresh for event in part.events):
        log.info("[Track] ✅ Token refreshed, retrying event send...")
    bodies = [event.body for event in part.events]
    answer: Sent | GraphError | None = None
    try:
        answer = graph.send(
            part.lease.pixel_id, bodies, part.token, test_event_code=part.test_event_code, ours=part.ours
        )
        return answer
    except GraphError as error:
        answer = error
        raise
    finally:
        if part.probe is not None:
            part.probe.answer, part.probe.foreign = answer, part.foreign


def _refuses_our_app(graph: Graph) -> bool:
    """Whether it is our app that Meta refuses, and not one token that was taken for ours: one cheap call tells."""
    try:
        graph.check_app()
    except GraphError as error:
        return error.failure is Failure.APP_CONFIG
    except SettingsError:
        pass
    return False


def _scope(part: Batch, error: GraphError, *, sure: bool) -> Scope:
    """Who waits after this refusal."""
    if error.failure is Failure.APP_CONFIG:
        return Scope.APP if sure else Scope.PIXEL
    limited = error.failure is Failure.RATE_LIMITED
    return incidents.limit_scope(error.code, foreign=part.foreign) if limited else Scope.PIXEL


def _tell(engine: Engine, part: Batch, error: GraphError, scope: Scope, now: datetime) -> None:
    """Perhaps it is everybody's trouble: then there is an incident."""
    if scope is Scope.APP or error.failure is Failure.TRANSIENT:
        with writing(engine) as conn:
            incidents.report(conn, error, now=now, foreign=part.foreign, sure=scope is Scope.APP)


def _taken(engine: Engine, part: Batch, answer: Sent, now: datetime, *, last: bool) -> bool:
    """Record what Meta took; Stopped when it says that the next request would be refused.

    False when it was the `last` of its batch and the pixel has nothing left: then the lease was given up.
    """
    limit = answer.used_up
    with writing(engine) as conn:
        _delivered(conn, part, answer, now)
        if limit is None:
            return not (last and pixels.give_up_idle(conn, part.lease, now=now))
        if limit.scope is Scope.PIXEL or part.foreign:
            until = RESTS[Failure.RATE_LIMITED].until(now, 0, limit.seconds)
            pixels.rest(conn, part.lease, until=until, failure=str(Failure.RATE_LIMITED))
    if limit.scope is Scope.APP and not part.foreign:
        with writing(engine) as conn:
            incidents.report_used_up(conn, limit.seconds, now=now)
    raise Stopped()


def _delivered(conn: Connection, part: Batch, answer: Sent, now: datetime) -> None:
    assert part.token is not None
    fingerprint, pixel_id = part.token.fingerprint, part.lease.pixel_id
    refreshed = sum(event.after_refresh for event in part.events)
    pixels.accepted(conn, part.lease, now=now)
    attempt_id = history.add_attempt(
        conn,
        at=now,
        pixel_id=pixel_id,
        fingerprint=fingerprint,
        events=len(part.events),
        after_refresh=refreshed,
        duration_ms=answer.duration_ms,
        status=answer.status,
        trace_id=answer.trace_id,
        words=answer.words or None,
    )
    if reach.is_barred(conn, fingerprint, pixel_id):
        reach.note(conn, fingerprint, pixel_id, reached=True, now=now)
        outbox.reached(conn, pixel_id, fingerprint, now=now)
        log.info("a token reaches its pixel again", extra={"pixel": pixel_id, "token": fingerprint})
    outbox.move(conn, "deliver", part.ids, attempt_id=attempt_id, delivered_at=now, failure=None)
    if refreshed:
        log.info("[Track] ✅ SUCCESS (after token refresh): Event sent to Facebook CAPI", extra={"events": refreshed})
