"""What a person may see of the audit trail: who ordered what, and whether a line was tampered with."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

from sqlalchemy import Connection, Select, func, select

from core.desk.exports import csv_lines
from core.store import audit
from core.store.schema import capi_audit, capi_job

COLUMNS: Final = ("line", "at (UTC)", "who", "action", "object", "rows", "reason", "result")
_PAGE = 1_000
_JOB = re.compile(r"job (\d{1,18})")
_A = capi_audit.c


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line. `result`: what came of the job that was ordered, as far as it is known."""

    id: int
    at: datetime
    by: str
    action: str
    subject: str
    count: int
    reason: str | None
    result: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the chain says. `broken`: the first line that was changed, or whose predecessor is missing."""

    lines: int
    since: datetime | None
    broken: int | None


def audit_trail(
    conn: Connection,
    *,
    who: str | None = None,
    action: str | None = None,
    about: str | None = None,
    since: datetime | None = None,
    before: int | None = None,
    limit: int = 200,
) -> list[AuditRow]:
    """Newest first; the next page comes with `before` = the last line's id."""
    wanted = select(_A.id, _A.at, _A.by, _A.action, _A.subject, _A.count, _A.reason)
    for column, text in ((_A.by, who), (_A.subject, about)):
        if text and text.strip():
            wanted = wanted.where(column.icontains(text.strip(), autoescape=True))
    if action:
        wanted = wanted.where(_A.action == action)
    rows = list(conn.execute(_between(wanted, since, before).order_by(_A.id.desc()).limit(limit)))
    came = _results(conn, {int(found[1]) for row in rows if (found := _JOB.fullmatch(row.subject))})
    return [AuditRow(**row._mapping, result=came.get(row.subject, "")) for row in rows]


def actions(conn: Connection) -> list[str]:
    """Every action that stands in the trail."""
    return list(conn.scalars(select(_A.action).distinct().order_by(_A.action)))


def newest(conn: Connection) -> int:
    """The newest line's id; 0 without any."""
    return int(conn.scalar(select(func.max(_A.id))) or 0)


def verdict(conn: Connection) -> Verdict:
    """Reads the whole trail."""
    lines, since = conn.execute(select(func.count(), func.min(_A.at))).one()
    return Verdict(int(lines), since, audit.first_broken(conn))


def audit_report(
    conn: Connection,
    *,
    who: str | None = None,
    action: str | None = None,
    about: str | None = None,
    since: datetime | None = None,
    zone: tzinfo = UTC,
) -> Iterator[str]:
    """CSV lines: the trail, newest first, read page by page."""

    def rows() -> Iterator[Sequence[object]]:
        before: int | None = None
        filters = {"who": who, "action": action, "about": about}
        while page := audit_trail(conn, since=since, before=before, limit=_PAGE, **filters):
            for row in page:
                yield (row.id, row.at, row.by, row.action, row.subject, row.count, row.reason, row.result)
            before = page[-1].id

    return csv_lines(COLUMNS, rows(), zone=zone)


def _between(wanted: Select, since: datetime | None, before: int | None) -> Select:
    if since is not None:
        wanted = wanted.where(_A.at >= since)
    return wanted if before is None else wanted.where(_A.id < before)


def _results(conn: Connection, job_ids: Collection[int]) -> dict[str, str]:
    """`job 12` → how it stands."""
    j = capi_job.c
    rows = conn.execute(select(j.id, j.state, j.done, j.failed, j.skipped).where(j.id.in_(job_ids)))
    return {
        f"job {row.id}": f"{row.state}: {row.done - row.failed - row.skipped} went well, {row.failed} failed, "
        f"{row.skipped} skipped"
        for row in rows
    }
