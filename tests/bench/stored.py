"""A database with a long past: made in the database itself, the same every time. What waits stays as much as it is."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Engine, text

from core.services import upkeep
from core.services.policy import Policy
from core.store import rollups
from core.store.database import reading, writing
from tests.desk.rows import seed

PAST = timedelta(days=80)
# Of all events these have not arrived, however many there are: parked, dead, due after a refusal, due.
WAITING = {"parked": 2_000, "dead": 2_000, "due": 1_000}
PER_REQUEST = 5
_STEP = 250_000

_SERIES = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s WHERE n < {last}) ",
    "postgresql": "WITH s AS (SELECT generate_series({first}::bigint, {last}::bigint) AS n) ",
}
# How each database writes the same: the app's number as text, and a moment so many seconds after 1970.
_WORDS = {
    "sqlite": {
        "app": "printf('app-%05d', {k})",
        "at": "strftime('%Y-%m-%d %H:%M:%f', {t}, 'unixepoch') || '000'",
        "blob": "CAST(printf('%s', {b}) AS BLOB)",
        "true": "1",
        "false": "0",
    },
    "postgresql": {
        "app": "'app-' || lpad(({k})::text, 5, '0')",
        "at": "to_timestamp({t})",
        "blob": "convert_to({b}, 'UTF8')",
        "true": "true",
        "false": "false",
    },
}


def fill(engine: Engine, *, now: datetime, apps: int, events: int) -> None:
    """`events` over the last 80 days, most of them delivered, a request to Meta for every five."""
    seed(engine, now=now, apps=apps, events=0)
    for first in range(0, events, _STEP):
        last = min(first + _STEP, events) - 1
        with writing(engine) as conn:
            for statement in _statements(engine.dialect.name, now, apps, events, first, last):
                conn.execute(text(statement))
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.execute(text("VACUUM ANALYZE"))
    with writing(engine) as conn:  # from the first request on, and not from what `seed` has counted
        conn.execute(text("DELETE FROM capi_rollup"))
    upkeep.roll_up(engine, Policy(), now=now)
    with reading(engine) as conn:
        assert rollups.last_hour(conn) == rollups.hour_of(now)


def _statements(dialect: str, now: datetime, apps: int, events: int, first: int, last: int) -> list[str]:
    words, series = _WORDS[dialect], _SERIES[dialect].format(first=first, last=last)
    begin, step = (now - PAST).timestamp(), PAST.total_seconds() / max(events, 1)
    moment = f"({begin} + n * {step})"
    # An odd factor walks through all apps before one comes again.
    app = words["app"].format(k=f"(n * 7919) % {apps}")
    pixel = f"CAST(100000000000000 + (n * 7919) % {apps} AS TEXT)"
    at = words["at"].format(t=moment)
    state = _state(events)
    # What has not arrived may still be sent, however far apart the events of this past lie.
    ahead = f"{now.timestamp() + 3 * 86400} + n % 86400"
    later = words["at"].format(t=f"(CASE {state} WHEN 'delivered' THEN {moment} + 7 * 86400 ELSE {ahead} END)")
    ident = f"((CAST({moment} * 1000 AS BIGINT) << 22) + n % 4194304)"
    failure = (
        f"CASE {state} WHEN 'parked' THEN 'token_dead' WHEN 'dead' THEN 'invalid_event' WHEN 'due' THEN 'transient' END"
    )
    body = words["blob"].format(b='\'{"event_name":"Purchase","event_id":"evt-\' || n || \'"}\'')
    return [
        f"INSERT INTO capi_event (id, app_id, pixel_id, event_name, event_id, source, order_id, value, currency,"
        f" event_time, received_at, deadline_at, state, attempts, failure, attempt_id, delivered_at, after_refresh)"
        f" {series}SELECT {ident}, {app}, {pixel}, CASE n % 4 WHEN 0 THEN 'Purchase' ELSE 'PageView' END,"
        f" 'evt-' || n, CASE n % 4 WHEN 0 THEN 'orders/create' ELSE 'track' END,"
        f" CASE n % 4 WHEN 0 THEN '#' || n END, CASE n % 4 WHEN 0 THEN 19.5 END, CASE n % 4 WHEN 0 THEN 'EUR' END,"
        f" {at}, {at}, {later}, {state}, 1, {failure}, n / {PER_REQUEST} + 1000,"
        f" CASE {state} WHEN 'delivered' THEN {at} END, {words['false']} FROM s",
        f"INSERT INTO capi_outbox"
        f" (id, app_id, pixel_id, state, deadline_at, next_attempt_at, attempts, parked_by, payload)"
        f" {series}SELECT {ident}, {app}, {pixel}, {state}, {later}, {at}, 1,"
        f" CASE {state} WHEN 'parked' THEN 'fp_0000000000000001' END, {body} FROM s WHERE {state} <> 'delivered'",
        f"INSERT INTO capi_attempt"
        f" (id, at, pixel_id, fingerprint, events, after_refresh, duration_ms, status, trace_id)"
        f" {series}SELECT n / {PER_REQUEST} + 1000, {at}, {pixel}, 'fp_0000000000000001', {PER_REQUEST}, 0, 120, 200,"
        f" 'AbC' || n FROM s WHERE n % {PER_REQUEST} = 0",
    ]


def _state(events: int) -> str:
    """The newest events are those that have not arrived: a backlog of one size behind any past."""
    bound, cases = events, ""
    for state, count in WAITING.items():
        bound -= count
        cases += f" WHEN n >= {bound} THEN '{state}'"
    return f"(CASE{cases} ELSE 'delivered' END)"
