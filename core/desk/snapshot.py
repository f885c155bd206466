"""The figures that monitoring watches, taken from indexes and small tables: no shop, no token, a bounded number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from core.desk.overview import overview
from core.store import alerts, incidents, ledger
from core.store.schema import capi_refresh, capi_schedule
from core.store.snapshots import Key

DAY = timedelta(days=1)


def figures(
    conn: Connection, *, now: datetime, soon: timedelta, window: timedelta, tasks: Iterable[str]
) -> dict[Key, float]:
    """(metric, label) → value. Counts of events stop at the console's bound; moments are seconds since 1970.

    `tasks`: names of the timetable, whose next moments are told.
    """
    seen = overview(conn, now=now, soon=soon, window=window)
    found: dict[Key, float] = {
        ("capi_events_waiting", "due"): seen.due,
        ("capi_events_waiting", "parked"): seen.waiting,
        ("capi_events_waiting", "dead"): seen.dead,
        ("capi_tokens_broken", ""): seen.broken_tokens,
        ("capi_workers_alive", ""): seen.alive,
        ("capi_jobs_open", ""): len(seen.jobs),
        ("capi_ledger_off", ""): sum(abs(row.off) for row in ledger.out_of_balance(conn)),
    }
    found |= {("capi_apps", str(word)): count for word, count in seen.health.items()}
    moments = {
        "capi_oldest_due_timestamp_seconds": seen.oldest_due_at,
        "capi_first_deadline_timestamp_seconds": seen.first_deadline_at,
    }
    found |= {(name, ""): at.timestamp() for name, at in moments.items() if at is not None}
    found |= _counted("capi_alerts_open", (row.kind for row in alerts.open_alerts(conn)))
    found |= _counted("capi_incidents_open", (row.kind for row in incidents.open_ones(conn)))
    return found | _refreshes(conn, now) | _schedule(conn, set(tasks))


def _counted(name: str, labels: Iterable[str]) -> dict[Key, float]:
    return {(name, label): count for label, count in Counter(labels).items()}


def _refreshes(conn: Connection, now: datetime) -> dict[Key, float]:
    r = capi_refresh.c
    counted = select(r.outcome, func.count()).where(r.started_at >= now - DAY).group_by(r.outcome)
    return {("capi_refreshes_last_day", outcome): count for outcome, count in conn.execute(counted)}


def _schedule(conn: Connection, tasks: set[str]) -> dict[Key, float]:
    s = capi_schedule.c
    return {
        ("capi_task_due_timestamp_seconds", row.task): row.due_at.timestamp()
        for row in conn.execute(select(s.task, s.due_at))
        if row.task in tasks
    }
