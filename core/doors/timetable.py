"""The timetable: what one worker among all does every so often."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from core.desk import snapshot
from core.desk.tokens import health_counts
from core.inbound import visitors
from core.services import accounts, checkup, probing, schedule, upkeep, watch
from core.services.refresh import TokenRefreshService
from core.store import aliases, cases, health_days, lockouts, outbox, snapshots, wake, workers
from core.store import visitors as browsers
from core.store.database import reading, writing
from core.store.wake import Work

log = logging.getLogger("worker")

# Longer than any source repeats what it has reported.
ALIASES_KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Task:
    """Something done every so often; it may name work to be queued."""

    name: str
    every: timedelta
    run: Callable[[TokenRefreshService, datetime], list[tuple[Work, str]] | None]


def _release(service: TokenRefreshService, now: datetime) -> None:
    watch.release_replaced(service.engine, now=now)


def _join(service: TokenRefreshService, now: datetime) -> None:
    while visitors.join_waiting(service.engine, now=now):
        pass


def _notice(service: TokenRefreshService, now: datetime) -> None:
    watch.notice_tokens(service.engine, service.policy, now=now)


def _expire(service: TokenRefreshService, now: datetime) -> None:
    with writing(service.engine) as conn:
        buried = outbox.expire(conn, now=now)
    if buried:
        log.error("events passed their deadline and were not sent", extra={"events": buried})


def _scheduled(service: TokenRefreshService, now: datetime) -> list[tuple[Work, str]]:
    return [(Work.REFRESH, found) for found in schedule.due_refreshes(service.engine, service.policy, now=now)]


def _check(service: TokenRefreshService, now: datetime) -> None:
    checkup.check_tokens(service.engine, service.graph, service.policy, now=now)


def _probe_incidents(service: TokenRefreshService, _: datetime) -> None:
    probing.probe_incidents(service.engine, service.graph, service.policy, by=service.worker, clock=service.clock)


def _probe_tokens(service: TokenRefreshService, now: datetime) -> None:
    probing.probe_tokens(service.engine, service.graph, service.policy, now=now)


def _regain(service: TokenRefreshService, now: datetime) -> None:
    watch.hurry_regained(service.engine, now=now)


def _upkeep(service: TokenRefreshService, now: datetime) -> None:
    with writing(service.engine) as conn:
        workers.forget_old(conn, before=now - timedelta(days=7))
        wake.forget_old(conn, before=now - timedelta(hours=1))
    _until_none(service.engine, lambda conn: browsers.forget_old(conn, now=now))
    _until_none(service.engine, lambda conn: aliases.forget_old(conn, before=now - ALIASES_KEPT))
    _until_none(service.engine, lambda conn: lockouts.forget(conn, now=now))


def _roll_up(service: TokenRefreshService, now: datetime) -> None:
    upkeep.roll_up(service.engine, service.policy, now=now)


def _arrivals(service: TokenRefreshService, _: datetime) -> None:
    accounts.fold(service.engine)


def _account(service: TokenRefreshService, now: datetime) -> None:
    accounts.keep(service.engine, service.policy, now=now)


def _forget(service: TokenRefreshService, now: datetime) -> None:
    if steps := upkeep.forget(service.engine, service.policy, now=now):
        log.info("what was kept long enough is dropped", extra={"steps": sum(steps.values()), "classes": len(steps)})


def _snapshot(service: TokenRefreshService, now: datetime) -> None:
    policy = service.policy
    with reading(service.engine) as conn:
        names = [task.name for task in TASKS]
        found = snapshot.figures(conn, now=now, soon=policy.soon, window=policy.window, tasks=names)
    with writing(service.engine) as conn:
        snapshots.put(conn, found, now=now)


def _health(service: TokenRefreshService, now: datetime) -> None:
    policy = service.policy
    with reading(service.engine) as conn:
        counts = health_counts(conn, now=now, soon=policy.soon, window=policy.window)
    with writing(service.engine) as conn:
        health_days.put(conn, counts, now=now)


def _expire_links(service: TokenRefreshService, now: datetime) -> None:
    with writing(service.engine) as conn:
        over = cases.expire(conn, now=now)
    if over:
        log.warning("reconnect links are over and were not used", extra={"cases": over})


def _until_none(engine: Engine, forget: Callable[[Connection], int]) -> None:
    """In short transactions, so that nothing holds up SQLite's only writer."""
    while True:
        with writing(engine) as conn:
            if not forget(conn):
                return


TASKS = (
    Task("release", timedelta(seconds=1), _release),
    Task("incident probe", timedelta(seconds=1), _probe_incidents),
    Task("join", timedelta(seconds=1), _join),
    Task("notice", timedelta(seconds=4), _notice),
    Task("token probe", timedelta(seconds=5), _probe_tokens),
    Task("expire", timedelta(seconds=10), _expire),
    Task("scheduled refresh", schedule.EVERY, _scheduled),
    Task("reconnect links", timedelta(minutes=1), _expire_links),
    Task("snapshot", timedelta(seconds=15), _snapshot),
    Task("health of the day", timedelta(minutes=5), _health),
    Task("hourly counts", timedelta(seconds=20), _roll_up),
    Task("arrivals", timedelta(seconds=30), _arrivals),
    Task("account", timedelta(minutes=5), _account),
    Task("retention", timedelta(seconds=30), _forget),
    Task("regained pixels", timedelta(minutes=1), _regain),
    Task("upkeep", timedelta(minutes=1), _upkeep),
    Task("token check", timedelta(minutes=1), _check),
)
