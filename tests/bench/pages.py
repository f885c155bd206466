"""What each page of the console reads, as the page reads it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection

from core.desk import (
    accounts,
    alerts,
    app_list,
    audit_trail,
    cases,
    find,
    find_story,
    incidents,
    keys,
    ledger,
    people,
    queries,
    snapshot,
    system_facts,
    volume,
)
from core.doors.timetable import TASKS

DAY = timedelta(days=1)
AHEAD = {"soon": 7 * DAY, "window": 30 * DAY}
ROWS = 201
Look = Callable[[Connection, datetime], object]


def _overview(conn: Connection, now: datetime) -> None:
    seen = queries.overview(conn, now=now, **AHEAD)
    queries.health_trend(conn, seen.health, now=now)
    volume.share(conn, now=now, **AHEAD)
    incidents.open_incidents(conn, now)
    accounts.told(alerts.open_alerts(conn))
    accounts.off(conn)


def _tokens(conn: Connection, now: datetime) -> None:
    queries.health_counts(conn, now=now, **AHEAD)
    queries.due_fingerprints(conn, now=now, window=AHEAD["window"])
    queries.expiries_by_day(conn, now=now, days=60, **AHEAD)
    queries.days_left(conn, now=now)
    queries.token_health(conn, now=now, limit=ROWS, **AHEAD)


def _tokens_searched(conn: Connection, now: datetime) -> None:
    wanted = queries.TokenFilters(search="larch", health=["EXPIRED"])
    queries.health_counts(conn, wanted, now=now, **AHEAD)
    queries.token_health(conn, wanted, now=now, sort="waiting", limit=ROWS, **AHEAD)


def _refreshes(conn: Connection, now: datetime) -> None:
    queries.refreshes_per_day(conn, since=now - 30 * DAY)
    queries.refresh_history(conn, since=now - 30 * DAY, limit=ROWS)


def _failed(conn: Connection, now: datetime) -> None:
    queries.causes(conn, now=now)
    for view in queries.VIEWS:
        queries.failed_total(conn, queries.Filters(view=view), now=now)
        queries.failed_events(conn, queries.Filters(view=view), now=now, limit=ROWS)


def _failed_searched(conn: Connection, now: datetime) -> None:
    filters = queries.Filters(view="dead", failure="invalid_event", search="larch")
    queries.failed_total(conn, filters, now=now)
    ids = [row.id for row in queries.failed_events(conn, filters, now=now, limit=ROWS)]
    if ids:
        queries.event_detail(conn, ids[0])


def _retry_all(conn: Connection, now: datetime) -> None:
    ids = queries.failed_ids(conn, queries.Filters(view="dead", failure="invalid_event"), now=now)
    queries.retry_preview(conn, ids, now=now)


def _reconnect(conn: Connection, now: datetime) -> None:
    cases.case_counts(conn)
    cases.cases(conn, now=now)


def _find(conn: Connection, now: datetime) -> None:
    """An event, its order, its request's trace id, its pixel and its shop, each with its story."""
    newest = queries.failed_events(conn, queries.Filters(view="dead"), now=now, limit=1)
    for row in newest:
        attempt = queries.event_detail(conn, row.id).attempt
        for typed in (row.event_id, row.order_id, attempt and attempt.trace_id, row.pixel_id, row.shop, "#no-such"):
            for hit in find.find(conn, typed).hits[:1]:
                find_story.story(conn, hit.kind, hit.key, now=now)


def _jobs(conn: Connection, now: datetime) -> None:
    found = queries.jobs(conn, limit=ROWS)
    if found:
        queries.job_items(conn, found[0].id)


def _apps(conn: Connection, now: datetime) -> None:
    app_list.app_total(conn, search="larch")
    app_list.app_rows(conn, search="larch", limit=ROWS)
    rows = app_list.app_rows(conn, limit=ROWS)
    accounts.silence_of(conn, rows[0].app_id, now=now)
    accounts.order_days(conn, rows[0].app_id, now=now)


def _system(conn: Connection, now: datetime) -> None:
    alerts.alert_record(conn, since=now - 30 * DAY)
    incidents.incident_history(conn)
    queries.workers(conn, now=now)
    system_facts.versions(conn)
    system_facts.revision(conn)
    keys.key_rows(conn)


def _people(conn: Connection, now: datetime) -> None:
    people.operator_rows(conn, now=now)
    audit_trail.actions(conn)
    audit_trail.audit_trail(conn, since=now - 30 * DAY, limit=ROWS)
    audit_trail.verdict(conn)


DATA: dict[str, Look] = {
    "Overview": _overview,
    "Find, five things and their stories": _find,
    "Token health": _tokens,
    "Token health, searched": _tokens_searched,
    "Refresh history": _refreshes,
    "Failed events": _failed,
    "Failed events, searched": _failed_searched,
    "Failed events, all that match": _retry_all,
    "Reconnect": _reconnect,
    "Jobs": _jobs,
    "Apps": _apps,
    "System": _system,
    "People & audit": _people,
    "the latest 50 events (shell)": lambda conn, now: ledger.latest_events(conn, now=now),
    "snapshot for Prometheus": lambda conn, now: snapshot.figures(
        conn, now=now, tasks=[task.name for task in TASKS], **AHEAD
    ),
}
