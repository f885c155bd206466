"""Half-open: one call is let through to see whether what was refused works again.

An incident is probed with one request of one pixel's events, or with a question about our own app; its end is noticed
by itself. A token that only its owner can mend is looked at every few minutes: he may have mended it at facebook.com
and never tell us.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row

from core.errors import SettingsError
from core.meta.failures import Failure, Scope
from core.meta.graph import Graph, GraphError, Sent
from core.services import checkup, incidents
from core.services.batches import Probe
from core.services.delivery import deliver
from core.services.incidents import APP_CONFIG, BACKOFF, META_AWAY, RATE_LIMITED
from core.services.policy import DAY, Policy
from core.store import history, outbox, ready, tokens
from core.store import incidents as keeper
from core.store.database import reading, writing

log = logging.getLogger("incidents")

# Pixels that one probe tries until a request is made; then it asks about our app.
CANDIDATES = 20
# How long a probe waits for a pixel that may be tried, before it asks about our app instead.
PATIENCE = timedelta(minutes=5)
# After an incident: more calls than before by this factor at most; fewer a minute are not worth pacing; and however
# many pixels wait, each has had its turn within this time.
ON_RETURN, FEWEST, TURN_WITHIN = 1.5, 60, 20
# What was normal is counted over this time, up to a minute before the trouble.
NORMAL = timedelta(minutes=10)

# A broken token is looked at after 2, 4, 8 and then 15 minutes while its events can still wait, later once a day.
FIRST_LOOK, LAST_LOOK, EVENTS_WAIT = timedelta(minutes=2), timedelta(minutes=15), timedelta(days=7)
# All of them together: looks begun by one call of `probe_tokens`, which comes every five seconds.
LOOKS_AT_ONCE = 10

# What is no fault of one token.
_EVERYBODYS = frozenset({Failure.TRANSIENT, Failure.RATE_LIMITED, Failure.APP_CONFIG})

Answer = Sent | GraphError | None


def probe_incidents(engine: Engine, graph: Graph, policy: Policy, *, by: str, clock: Callable[[], datetime]) -> int:
    """Let one call through for each incident whose time has come, and end those that it shows to be over; how many."""
    with reading(engine) as conn:
        due = incidents.due_probes(conn, now=clock())
    closed = 0
    for incident in due:
        with reading(engine) as conn:
            pixel_ids = _pixels(conn, incident, clock())
        if pixel_ids is not None and _take(engine, incident, clock()):
            answer = _ask(engine, graph, policy, incident, pixel_ids, by, clock)
            closed += _conclude(engine, incident, answer, clock())
    return closed


def _take(engine: Engine, incident: Row[Any], now: datetime) -> bool:
    with writing(engine) as conn:
        next_at = BACKOFF[incident.kind].after(now, incident.probes + 1)
        farthest = incidents.farthest(incident.kind, now)
        return keeper.take_probe(conn, incident, now=now, next_at=next_at, farthest=farthest)


def _pixels(conn: Connection, incident: Row[Any], now: datetime) -> list[str] | None:
    """Pixels to try until one is answered; none: ask about our app; None: wait for a pixel that may be tried."""
    if incident.kind == APP_CONFIG:
        return []
    if found := ready.pixels(conn, now=now):
        return random.sample(found, min(len(found), CANDIDATES))
    patient = now - PATIENCE <= incident.probe_at <= now and outbox.has_due(conn, now=now)
    return None if patient else []


def _ask(
    engine: Engine,
    graph: Graph,
    policy: Policy,
    incident: Row[Any],
    pixel_ids: list[str],
    by: str,
    clock: Callable[[], datetime],
) -> Answer:
    """Meta's answer, or None when nobody was asked."""
    log.info("one call is let through", extra={"incident": incident.id, "kind": incident.kind})
    for pixel_id in pixel_ids:  # of many pixels nothing can be sent: their events are parked on the way
        probe = Probe()
        deliver(engine, graph, pixel_id, policy=policy, by=by, clock=clock, probe=probe)
        if probe.answer is not None and _tells(incident.kind, probe.answer, foreign=probe.foreign):
            return probe.answer
        if probe.answer is not None:
            break
    return _ask_about_app(engine, graph, incident.kind, clock)


def _ask_about_app(engine: Engine, graph: Graph, kind: str, clock: Callable[[], datetime]) -> Answer:
    nothing_wrong = Sent(0, None, "", 200, 0, None)
    try:
        graph.check_app()
    except GraphError as error:
        with writing(engine) as conn:
            incidents.report(conn, error, now=clock(), sure=True)
        return error
    except SettingsError:  # the app that was refused is no longer ours, but nobody knows how Meta is
        return None if kind == META_AWAY else nothing_wrong
    return nothing_wrong


def _tells(kind: str, answer: Sent | GraphError, *, foreign: bool) -> bool:
    """Whether a pixel's answer says anything: of our app's limit only an answer to a token that our app made does."""
    if kind != RATE_LIMITED:
        return True
    if isinstance(answer, Sent) or answer.failure is not Failure.RATE_LIMITED:
        return not foreign
    return incidents.kind_of(answer, foreign=foreign) == RATE_LIMITED


def _conclude(engine: Engine, incident: Row[Any], answer: Answer, now: datetime) -> bool:
    if answer is None:
        return False
    if not _is_over(incident.kind, answer):
        log.warning("the incident goes on", extra={"incident": incident.id, "kind": incident.kind})
        return False
    with reading(engine) as conn:
        waited = outbox.count_due(conn, now=now)
        pace = _pace(conn, incident, now)
    with writing(engine) as conn:
        mine = keeper.close(conn, incident.id, now=now, waited=waited, pace=pace)
    if mine:
        minutes = round((now - incident.opened_at).total_seconds() / 60, 1)
        extra = {"incident": incident.id, "kind": incident.kind, "minutes": minutes, "events": waited, "pace": pace}
        log.warning("incident closed, events go on by themselves", extra=extra | {"refusals": incident.refusals})
    return mine


def _is_over(kind: str, answer: Sent | GraphError) -> bool:
    """Whether this answer shows that the trouble has passed; a refusal of another kind does, too."""
    if isinstance(answer, Sent):
        return kind != RATE_LIMITED or answer.used_up is None or answer.used_up.scope is not Scope.APP
    if incidents.kind_of(answer) == META_AWAY:
        return False
    if kind == META_AWAY:
        return True
    if kind == RATE_LIMITED:
        unnamed = answer.failure is Failure.RATE_LIMITED and answer.code is None
        return not unnamed and incidents.kind_of(answer) != RATE_LIMITED
    return answer.failure not in (Failure.APP_CONFIG, Failure.RATE_LIMITED)


def _pace(conn: Connection, incident: Row[Any], now: datetime) -> int:
    """Calls a minute for the time after: hardly more than before, yet each pixel that waits has its turn in time.

    What another incident held up, or its end slowed down, was not normal: what was before it counts, and its pace.
    """
    around = keeper.current(conn, since=incident.opened_at - NORMAL - incidents.RETURNING, now=now)
    until = min(row.opened_at for row in [incident, *around]) - incidents.AWAY_FOR
    before = history.count_attempts(conn, since=until - NORMAL, until=until) / (NORMAL / timedelta(minutes=1))
    waiting = len(ready.pixels(conn, now=now))
    return max(round(ON_RETURN * before), waiting // TURN_WITHIN, FEWEST, *(row.pace or 0 for row in around))


def probe_tokens(engine: Engine, graph: Graph, policy: Policy, *, now: datetime, limit: int = LOOKS_AT_ONCE) -> int:
    """Look again at tokens that only their owner can mend; how many. What is mended goes on by itself."""
    with reading(engine) as conn:
        if incidents.gate(conn, now=now) is not None:
            return 0
        due = tokens.due_for_probe(conn, now=now, first=FIRST_LOOK, limit=limit)
    for looked, known in enumerate(due):
        if not _look(engine, graph, policy, known, now):
            return looked + 1
    return len(due)


def _look(engine: Engine, graph: Graph, policy: Policy, known: Row[Any], now: datetime) -> bool:
    """False when it is no fault of this token that nobody could look: the others would fare no better."""
    fingerprint = known.fingerprint
    since = known.broken_since
    planned = known.probe_at is not None and known.probe_at > since
    probes = known.probes + 1 if planned else 1
    with writing(engine) as conn:
        if incidents.gate(conn, now=now, fingerprint=fingerprint) is not None:
            tokens.take_probe(conn, known, probes=known.probes, next_at=now + FIRST_LOOK)
            return True
        doubted = checkup.doubted_until(conn, fingerprint, now=now)
        next_at = doubted or _next_look(since, probes, now)
        if not tokens.take_probe(conn, known, probes=probes, next_at=next_at) or doubted:
            return True
    try:
        checkup.check(engine, graph, policy, fingerprint, now=now)
    except GraphError as error:
        with writing(engine) as conn:  # by now Meta may have said who made it
            seen = tokens.get(conn, fingerprint) or known
            incidents.report(conn, error, now=now, foreign=seen.foreign_app)
        return error.failure not in _EVERYBODYS
    except SettingsError:
        return False
    _tell_if_mended(engine, fingerprint)
    return True


def _next_look(broken_since: datetime, probes: int, now: datetime) -> datetime:
    wait = min(FIRST_LOOK * 2 ** min(probes, 10), LAST_LOOK) if now < broken_since + EVENTS_WAIT else DAY
    return now + wait * (1 + 0.1 * random.random())


def _tell_if_mended(engine: Engine, fingerprint: str) -> None:
    with reading(engine) as conn:
        known = tokens.get(conn, fingerprint)
    if known is not None and known.broken_since is None:
        log.info("a token works again, without us", extra={"token": fingerprint})
