"""What can be taken away: CSV as RFC 4180 has it, line by line, inert in a spreadsheet, never a token.

A column named `… (UTC)` holds moments; for a reader in another zone the same moment follows on their own clock.

https://www.rfc-editor.org/rfc/rfc4180 ; a cell that a spreadsheet would take for a formula gets a leading apostrophe
(https://owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal

from sqlalchemy import Connection

from core.desk import queries, zones
from core.desk.explain import explain

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_QUOTED = re.compile(r'[",\r\n]')
_MOMENTS = "(UTC)"
_PAGE = 1_000
_LONGEST_NAME = 240

EXPIRY_COLUMNS = (
    "shop",
    "app",
    "app id",
    "pixel",
    "user",
    "health",
    "platform status",
    "expires at (UTC)",
    "days left",
    "last refresh (UTC)",
    "outcome",
    "waiting events",
    "next step",
)
REFRESH_COLUMNS = (
    "at (UTC)",
    "shop",
    "app",
    "user",
    "token",
    "trigger",
    "by",
    "outcome",
    "ended before (UTC)",
    "ends now (UTC)",
    "apps updated",
    "code",
    "subcode",
    "Meta's words",
    "trace id",
    "milliseconds",
)
FAILED_COLUMNS = (
    "event",
    "event id",
    "order",
    "value",
    "currency",
    "shop",
    "app",
    "pixel",
    "state",
    "cause",
    "what happened",
    "what to do",
    "received (UTC)",
    "deadline (UTC)",
    "attempts",
)


def expiry_report(
    conn: Connection,
    filters: queries.TokenFilters,
    *,
    now: datetime,
    soon: timedelta,
    window: timedelta,
    zone: tzinfo = UTC,
) -> Iterator[str]:
    """CSV lines: these apps with the end of their token, most urgent first."""
    rows = queries.each_token(conn, filters, now=now, soon=soon, window=window)
    cells = (
        (
            row.shop,
            row.app_name,
            row.public_id,
            row.pixel_id,
            row.email,
            row.health,
            row.platform,
            row.expires_at,
            None if row.days_left is None else round(row.days_left, 1),
            row.last_refresh_at,
            row.last_outcome,
            row.waiting,
            row.next_step,
        )
        for row in rows
    )
    return csv_lines(EXPIRY_COLUMNS, cells, zone=zone)


def refresh_report(
    conn: Connection,
    *,
    search: str | None = None,
    outcomes: Sequence[str] | None = None,
    triggers: Sequence[str] | None = None,
    since: datetime | None = None,
    zone: tzinfo = UTC,
) -> Iterator[str]:
    """CSV lines: the refresh history, newest first, read page by page."""

    def rows() -> Iterator[Sequence[object]]:
        before: int | None = None
        while page := queries.refresh_history(
            conn, search=search, outcomes=outcomes, triggers=triggers, since=since, before=before, limit=_PAGE
        ):
            yield from (_refresh_cells(row) for row in page)
            before = page[-1].id

    return csv_lines(REFRESH_COLUMNS, rows(), zone=zone)


def failed_report(conn: Connection, filters: queries.Filters, *, now: datetime, zone: tzinfo = UTC) -> Iterator[str]:
    """CSV lines: events that did not arrive, in the order of the page, read page by page."""

    def rows() -> Iterator[Sequence[object]]:
        after: tuple[datetime, int] | None = None
        while page := queries.failed_events(conn, filters, now=now, after=after, limit=_PAGE):
            yield from (_failed_cells(row) for row in page)
            after = (page[-1].deadline_at, page[-1].id)

    return csv_lines(FAILED_COLUMNS, rows(), zone=zone)


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[object]], *, zone: tzinfo = UTC) -> Iterator[str]:
    """RFC 4180 lines, each with its CRLF, the header first; every moment in UTC and, if that differs, in `zone`."""
    moments = {place for place, name in enumerate(columns) if name.endswith(_MOMENTS) and not zones.is_utc(zone)}
    yield _line(_twice(columns, moments, lambda name: str(name).replace(_MOMENTS, f"({zone})")))
    for row in rows:
        yield _line(_twice(row, moments, lambda moment: _on_clock(moment, zone)))


def as_file(lines: Iterable[str]) -> Iterator[bytes]:
    """These lines as a file holds them: the mark at its start tells a spreadsheet that names are UTF-8."""
    yield BOM_UTF8
    for line in lines:
        yield line.encode()


def file_name(what: str, *, now: datetime, filters: Sequence[str | None] = ()) -> str:
    """`expiry-report_2026-11-23T1200Z_EXPIRED.csv`: what, when, and by which filter."""
    words = (re.sub(r"[^\w.]+", "-", word).strip("-.")[:40] for word in filters if word)
    parts = [what, now.strftime("%Y-%m-%dT%H%MZ"), *(word for word in words if word)]
    return "_".join(parts).encode()[:_LONGEST_NAME].decode(errors="ignore") + ".csv"


def _refresh_cells(row: queries.RefreshRow) -> Sequence[object]:
    return (
        row.started_at,
        row.shop,
        row.app_name,
        row.email,
        row.new_fingerprint or row.fingerprint,
        row.trigger,
        row.by,
        row.outcome,
        row.expires_before,
        row.expires_after,
        row.apps_updated,
        row.code,
        row.subcode,
        row.words,
        row.trace_id,
        row.duration_ms,
    )


def _failed_cells(row: queries.FailedEvent) -> Sequence[object]:
    said = explain(row.failure)
    return (
        row.event_name,
        row.event_id,
        row.order_id,
        row.value,
        row.currency,
        row.shop,
        row.app_name,
        row.pixel_id,
        row.state,
        row.failure,
        said.what,
        said.do,
        row.received_at,
        row.deadline_at,
        row.attempts,
    )


def _twice(cells: Sequence[object], places: Collection[int], second: Callable[[object], object]) -> Iterator[object]:
    for place, cell in enumerate(cells):
        yield cell
        if place in places:
            yield second(cell)


def _on_clock(moment: object, zone: tzinfo) -> object:
    """`2026-10-25 02:30:00+01:00`: with its offset, as one hour of autumn comes twice."""
    if not isinstance(moment, datetime):
        return moment
    try:
        return moment.astimezone(zone).isoformat(" ", "seconds")
    except OverflowError:  # the last day of the calendar, as some platforms write "never"
        return moment.isoformat(" ", "seconds")


def _line(cells: Iterable[object]) -> str:
    return ",".join(map(_cell, cells)) + "\r\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, int | float | Decimal):
        return str(value)
    text = str(value)
    if text.startswith(_FORMULA):
        text = "'" + text
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
