"""What is ready to be sent: found pixel by pixel, and taken in the order of its deadlines."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, bindparam, select, text

from core.store.many import as_stored
from core.store.schema import capi_outbox
from core.store.types import Moment


class Payload(NamedTuple):
    """One due event, ready to be sent."""

    id: int
    app_id: str
    attempts: int
    after_refresh: bool
    body: bytes


# The literal states let both databases use the partial indexes; one step of the recursion is one index probe,
# so the cost follows the number of pixels and not the number of events.
_DUE_PIXELS = text("""
    WITH RECURSIVE pixel(id) AS (
        SELECT min(pixel_id) FROM capi_outbox WHERE state = 'due'
        UNION ALL
        SELECT (SELECT min(pixel_id) FROM capi_outbox WHERE state = 'due' AND pixel_id > pixel.id)
        FROM pixel WHERE pixel.id IS NOT NULL
    )
    SELECT id FROM (
        SELECT pixel.id AS id,
               (SELECT o.deadline_at FROM capi_outbox o
                WHERE o.state = 'due' AND o.pixel_id = pixel.id AND o.next_attempt_at <= :now AND o.deadline_at > :now
                ORDER BY o.deadline_at LIMIT 1) AS ends
        FROM pixel LEFT JOIN capi_pixel p ON p.pixel_id = pixel.id
        WHERE pixel.id IS NOT NULL
          AND (p.wait_until IS NULL OR p.wait_until <= :now)
          AND (p.lease_until IS NULL OR p.lease_until <= :now)
    ) AS waiting
    WHERE ends IS NOT NULL ORDER BY ends, id
""").bindparams(bindparam("now", type_=Moment()))

_O = capi_outbox.c
# The events of a pixel that may go now.
OF_PIXEL = select(_O.id).where(
    text("state = 'due'"),
    _O.pixel_id == bindparam("pixel"),
    _O.next_attempt_at <= bindparam("now"),
    _O.deadline_at > bindparam("now"),
)
# The same, read in the drivers' own rows: a thousand payloads are read eight times as fast on PostgreSQL, where they
# would be written out in hexadecimal digits as text.
_TAKE = """
    SELECT id, app_id, attempts, after_refresh, payload FROM capi_outbox
    WHERE state = 'due' AND pixel_id = {pixel} AND next_attempt_at <= {now} AND deadline_at > {now} AND ({mine})
    ORDER BY deadline_at, id LIMIT {count}
"""
_TAKE_EMBEDDED = _TAKE.format(
    pixel=":pixel", now=":now", count=":count", mine=":apps IS NULL OR app_id IN (SELECT value FROM json_each(:apps))"
)
_TAKE_SERVER = _TAKE.format(
    pixel="%(pixel)s",
    now="%(now)s",
    count="%(count)s",
    mine="%(apps)s::text[] IS NULL OR app_id = ANY(%(apps)s::text[])",
)


def pixels(conn: Connection, *, now: datetime) -> list[str]:
    """Pixels with work that nobody holds and nothing holds back, earliest deadline first: each has its turn."""
    return list(conn.scalars(_DUE_PIXELS, {"now": now}))


def take(
    conn: Connection, pixel_id: str, app_ids: Sequence[str] | None = None, *, now: datetime, count: int, size: int
) -> list[Payload]:
    """At most `count` due events (of these apps), `size` bytes in all (one at least), earliest deadline first."""
    rows = _rows(conn, pixel_id, app_ids, now, count)
    fit = bisect_right(list(accumulate(len(row[-1]) + 1 for row in rows)), size)
    return [Payload(*row) for row in rows[: max(fit, 1)]]


def _rows(
    conn: Connection, pixel_id: str, app_ids: Sequence[str] | None, now: datetime, count: int
) -> Sequence[tuple[Any, ...]]:
    driver: Any = conn.connection.driver_connection
    asked = {"pixel": pixel_id, "now": now, "count": count}
    if conn.dialect.name == "postgresql":
        apps = None if app_ids is None else list(app_ids)
        cursor = driver.cursor(binary=True).execute(_TAKE_SERVER, asked | {"apps": apps})
    else:
        listed = None if app_ids is None else orjson.dumps(list(app_ids)).decode()
        cursor = driver.execute(_TAKE_EMBEDDED, asked | {"now": as_stored(now), "apps": listed})
    rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
    return rows
