"""Delivery: the due events of one pixel go to Meta, oldest deadline first, until none is left.

A short transaction claims, Meta is called with nothing held open, a short transaction records: two for each batch, and
the first of them takes the pixel's lease as the last gives it up. Delivery never refreshes: it marks a token broken
and parks its events; `refresh` mends the token and releases them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row

from core import failpoints
from core.clock import now as real_now
from core.errors import Conflict
from core.meta.failures import Failure
from core.meta.graph import MAX_BYTES, MAX_EVENTS, Graph
from core.services import incidents, sending
from core.services.batches import Batch, Probe
from core.services.noticing import notice
from core.services.policy import Policy
from core.services.refusals import LOOK_AGAIN
from core.store import apps, outbox, pixels, reach, ready, tokens
from core.store.apps import App
from core.store.database import writing
from core.store.pixels import Lease
from core.store.sealing import Unreadable
from core.store.wake import Work, wake

log = logging.getLogger("delivery")

# Why an app has no token to send with → the failure its events are parked with.
_NO_TOKEN = {None: "no_token", Unreadable.DAMAGED: str(Failure.TOKEN_DEAD), Unreadable.LOCKED: "locked_token"}
LOCKED_PAUSE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Claim:
    """One pixel's lease, and what is done with the events it gives out: sent, or parked for this failure.

    `waits`: they wait for their token's limit, and nothing is sent.
    """

    batch: Batch
    park_as: str | None = None
    waits: bool = False


def deliver(
    engine: Engine,
    graph: Graph,
    pixel_id: str,
    *,
    policy: Policy,
    by: str,
    clock: Callable[[], datetime] = real_now,
    stop: Callable[[], bool] = lambda: False,
    probe: Probe | None = None,
) -> list[str]:
    """Send everything due for this pixel; the fingerprints of tokens that Meta refused on the way.

    Ends early when another worker holds the pixel, when Meta asks to wait, while an incident is open, or when `stop`
    says so. With a `probe` one request is sent in spite of an incident, and its answer is put there.
    """
    if stop():
        return []
    with writing(engine) as conn:
        lease, claim = _begin(conn, pixel_id, by, policy, probe, clock())
    refused: list[str] = []
    try:
        while lease is not None and claim is not None:
            failpoints.hit("delivery.after_claim")
            if claim.park_as is None and not claim.waits:
                if not sending.send(engine, graph, claim.batch, clock=clock):
                    lease = None  # given up when the last event was recorded
                    break
            elif claim.batch.token is not None and claim.park_as not in (None, Failure.PERMISSION):
                refused.append(claim.batch.token.fingerprint)
            if stop() or (probe is not None and probe.answer is not None):
                break
            claim = _next(engine, lease, policy, probe, clock())
    except sending.Stopped as stopped:
        refused += [stopped.fingerprint] if stopped.fingerprint else []
    except Conflict:
        log.warning("another worker took this pixel over", extra={"pixel": pixel_id})
    finally:
        _give_up(engine, lease)
    return list(dict.fromkeys(refused))


def _begin(
    conn: Connection, pixel_id: str, by: str, policy: Policy, probe: Probe | None, now: datetime
) -> tuple[Lease | None, Claim | None]:
    """The pixel's lease and its first batch; no lease while the pixel must wait or has nothing, or everybody must."""
    if probe is None and incidents.shut(conn, now=now):
        return None, None
    lease = pixels.take(conn, pixel_id, by=by, now=now)
    claim = _claim(conn, lease, policy, probe, now, asked=True) if lease else None
    if lease is not None and claim is None:
        pixels.give_up(conn, lease)
    return (lease, claim) if claim else (None, None)


def _next(engine: Engine, lease: Lease, policy: Policy, probe: Probe | None, now: datetime) -> Claim | None:
    with writing(engine) as conn:
        pixels.renew(conn, lease, now=now)
        return _claim(conn, lease, policy, probe, now)


def _give_up(engine: Engine, lease: Lease | None) -> None:
    if lease is None:
        return
    with writing(engine) as conn:
        pixels.give_up(conn, lease)


def _claim(
    conn: Connection, lease: Lease, policy: Policy, probe: Probe | None, now: datetime, *, asked: bool = False
) -> Claim | None:
    """The next batch of this pixel: events of apps that share one token. Events that cannot go are parked here.

    `asked`: whether everybody must wait was asked in this transaction already.
    """
    if not asked and probe is None and incidents.shut(conn, now=now):
        return None
    events = ready.take(conn, lease.pixel_id, now=now, count=MAX_EVENTS, size=MAX_BYTES)
    if not events:
        return None
    theirs = {event.app_id for event in events}
    found = {app.id: app for app in apps.of_ids(conn, theirs)}
    app = found.get(events[0].app_id)
    if app is None:
        return _bury_orphans(conn, lease, events[0].app_id, now)
    group = [other.id for other in found.values() if _goes_with(other, app)]
    if len(group) < len(theirs):
        events = ready.take(conn, lease.pixel_id, group, now=now, count=MAX_EVENTS, size=MAX_BYTES)
    known = tokens.get(conn, app.token.fingerprint) if app.token else None
    batch = Batch(lease, app.token, app.test_event_code, _is_ours(known, policy), tuple(events), probe)
    failure = _why_not(conn, app, known, policy, now)
    if failure is not None:
        _park(conn, batch, failure, app, now)
    elif known is not None and known.wait_until is not None and known.wait_until > now:
        until = min(known.wait_until, now + LOOK_AGAIN)
        outbox.postpone(conn, batch.ids, until=until, failure=known.wait_failure)
        return Claim(batch, waits=True)
    elif until := _barred_until(conn, batch, now):
        failure = str(Failure.PERMISSION)
        outbox.move(conn, "park", batch.ids, parked_by=app.fingerprint, failure=failure, next_attempt_at=until)
    return Claim(batch, failure)


def _goes_with(other: App, app: App) -> bool:
    """Whether their events may share a request: same token, same test event code."""
    return other.fingerprint == app.fingerprint and other.test_event_code == app.test_event_code


def _barred_until(conn: Connection, batch: Batch, now: datetime) -> datetime | None:
    """Until when Meta is not asked again, after it said that this token may not use this pixel."""
    if batch.token is None:
        return None
    fingerprint, pixel_id = batch.token.fingerprint, batch.lease.pixel_id
    if not reach.is_barred(conn, fingerprint, pixel_id):
        return None
    held_by = [app.id for app in apps.holders(conn, fingerprint)]
    until = outbox.barred_until(conn, pixel_id, held_by, fingerprint)
    return until if until is not None and until > now else None


def _why_not(conn: Connection, app: App, known: Row[Any] | None, policy: Policy, now: datetime) -> str | None:
    """Why nothing may be sent for this app now, as the failure its events are parked with."""
    if app.token is None:
        return _NO_TOKEN[app.unreadable]
    fingerprint = app.token.fingerprint
    if known is not None and known.broken_since is not None:
        return str(known.broken_failure)
    if known is None or app.seen != fingerprint:
        notice(conn, [app], policy, now=now)
    past_end = app.expires_at is not None and app.expires_at <= now
    failure = str(Failure.TOKEN_EXPIRED) if past_end else None
    if failure is not None:
        log.warning("[Track] Detected token error, attempting to refresh token...")
        tokens.break_(conn, fingerprint, failure=failure, words=tokens.PAST_END, app_id=app.id, now=now)
    return failure


def _is_ours(known: Row[Any] | None, policy: Policy) -> bool:
    """Whether it is known that our Meta app made this token: only then an appsecret_proof may go with it."""
    if known is None or known.foreign_app or known.meta_app_id is None:
        return False
    return bool(known.meta_app_id == policy.app_id)


def _park(conn: Connection, batch: Batch, failure: str, app: App, now: datetime) -> None:
    # Only a key or another process can help a locked token: that is looked for once a minute.
    later = {"next_attempt_at": now + LOCKED_PAUSE} if app.unreadable is Unreadable.LOCKED else {}
    waits_for = app.fingerprint or outbox.NO_TOKEN
    outbox.move(conn, "park", batch.ids, parked_by=waits_for, failure=failure, **later)
    if batch.token is not None:
        wake(conn, Work.REFRESH, [batch.token.fingerprint])


def _bury_orphans(conn: Connection, lease: Lease, app_id: str, now: datetime) -> Claim:
    """The app was deleted on the platform: nobody can send its events any more."""
    events = ready.take(conn, lease.pixel_id, [app_id], now=now, count=MAX_EVENTS, size=MAX_BYTES)
    outbox.move(conn, "bury", [event.id for event in events], failure="app_gone")
    return Claim(Batch(lease, None, None, False, tuple(events)), "app_gone")
