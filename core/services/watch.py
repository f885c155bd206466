"""The watch: what a sweep finds to do, and what was written behind our back."""

from __future__ import annotations

import logging
from datetime import datetime

from sqlalchemy import Engine

from core.services import damaged, incidents, settle
from core.services.noticing import notice
from core.services.policy import Policy
from core.store import apps, jobs, outbox, reach, ready, tokens
from core.store.database import reading, writing
from core.store.wake import Work

log = logging.getLogger("watch")

# Broken tokens that one sweep, every second or two, hands to the workers.
REFRESHES_AT_ONCE = 50


def due_work(engine: Engine, *, now: datetime) -> list[tuple[Work, str]]:
    """Everything that could be worked on now, most urgent first; nothing that calls Meta while an incident is open."""
    with reading(engine) as conn:
        paused = incidents.gate(conn, now=now) is not None
        held = paused or incidents.paced(conn, now=now)
        broken = [] if paused else tokens.due_for_refresh(conn, now=now, limit=REFRESHES_AT_ONCE, broken=True)
        open_jobs = jobs.due(conn, now=now)
        due_pixels = [] if held else ready.pixels(conn, now=now)
    return [
        *((Work.REFRESH, found) for found in broken),
        *((Work.RUN, found) for found in open_jobs),
        *((Work.DELIVER, found) for found in due_pixels),
    ]


def release_replaced(engine: Engine, *, now: datetime) -> int:
    """Set free every event whose app holds another token than the one it waits for, or the same one mended."""
    with reading(engine) as conn:
        waiting = outbox.parked_by(conn)
        held = {app.id: app.fingerprint for app in apps.of_ids(conn, {app_id for app_id, *_ in waiting})}
        ripe = {waits_for for app_id, waits_for, first in waiting if held.get(app_id) == waits_for and first <= now}
        mended = tokens.healthy(conn, ripe)
        free = [
            (app_id, waits_for)
            for app_id, waits_for, first in waiting
            if (found := held.get(app_id)) is not None and (found != waits_for or (found in mended and first <= now))
        ]
    released = 0
    for app_id, waits_for in free:  # the same token once more: only what may try again
        other = held[app_id] != waits_for
        released += settle.release(engine, [app_id], waits_for, now=now, all_of_them=other)
    if released:
        log.info("events released: their token was replaced", extra={"events": released})
    return released


def hurry_regained(engine: Engine, *, now: datetime) -> int:
    """Events that wait for an hour because their token could not use their pixel, and now it can; how many."""
    with reading(engine) as conn:
        regained = reach.regained(conn, now=now)
    hurried = 0
    for pixel_id, fingerprint in regained:
        with writing(engine) as conn:
            hurried += outbox.reached(conn, pixel_id, fingerprint, now=now)
    return hurried


def notice_tokens(engine: Engine, policy: Policy, *, now: datetime) -> int:
    """Take note of tokens that somebody else stored or took away; how many."""
    with reading(engine) as conn:
        unplanned = tokens.unplanned(conn)
        stored = apps.stored_tokens(conn)
    named = [(*row, row[2].fingerprint if row[2] else None) for row in stored]
    late = {found: expires_at for _, _, _, expires_at, _, found in named if found in unplanned and expires_at}
    for planned, ends in late.items():  # the end was stored after the token
        with writing(engine) as conn:
            tokens.plan(conn, str(planned), policy.first_refresh(str(planned), ends, now))
    changed = [row[0] for row in named if row[5] != row[4]]
    for app_id in changed:
        with writing(engine) as conn:
            notice(conn, apps.of_ids(conn, [app_id]), policy, now=now)
    damaged.give_up(engine, stored, now=now)
    return len(changed)
