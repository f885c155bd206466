"""`export`: the console's CSV files at the shell, written line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Connection

from core import clock
from core.desk import audit_trail, exports, exports_work, queries
from core.desk.explain import OUTCOMES
from core.doors import cli_times
from core.doors.cli_shell import say, store
from core.doors.cli_times import Since, TimeZone, Until
from core.errors import BadInput
from core.services.policy import Policy
from core.store.database import reading
from core.store.health import Health

Out = Annotated[
    Path | None,
    typer.Option(help="The file to write, or a folder for a file named as in the console; else standard output."),
]
Search = Annotated[str | None, typer.Option(help="Only what a search in the console would find.")]

group = typer.Typer(no_args_is_help=True, help="CSV files, as the console's buttons give them.")


def add_to(root: typer.Typer) -> None:
    root.add_typer(group, name="export")


@group.command("expiry")
def expiry(
    health: Annotated[list[str] | None, typer.Option(help="Only these, such as EXPIRED; repeat it.")] = None,
    search: Search = None,
    time_zone: TimeZone = None,
    out: Out = None,
) -> None:
    """Every app and the end of its token, most urgent first."""
    words = [str(word) for word in Health]
    if unknown := sorted(set(health or ()) - set(words)):
        raise BadInput(f"--health: {unknown[0]!r} is none of: {', '.join(words)}")
    now, zone = clock.now(), cli_times.zone(time_zone)
    name = exports.file_name("expiry-report", now=now, filters=[*(health or ()), search])
    with store() as (settings, engine), reading(engine) as conn:
        policy = Policy.of(settings)
        ahead = {"soon": policy.soon, "window": policy.window}
        wanted = queries.TokenFilters(search, health or ())
        _write(exports.expiry_report(conn, wanted, now=now, zone=zone, **ahead), out, name)


@group.command("failed")
def failed(
    show: Annotated[str, typer.Option(help=f"{', '.join(queries.VIEWS)}.")] = "still in time",
    failure: Annotated[str | None, typer.Option(help="Only those that failed so.")] = None,
    since: Since = None,
    until: Until = None,
    search: Search = None,
    time_zone: TimeZone = None,
    out: Out = None,
) -> None:
    """Events that did not arrive, and why."""
    if show not in queries.VIEWS:
        raise BadInput(f"--show: {show!r} is none of: {', '.join(queries.VIEWS)}")
    now, zone = clock.now(), cli_times.zone(time_zone)
    span = cli_times.span(since, until, now=now, zone=zone)
    wanted = queries.Filters(view=show, failure=failure, search=search, **span)
    name = exports.file_name("failed-events", now=now, filters=[show, failure, *cli_times.named(span, zone), search])
    _stored(lambda conn: exports.failed_report(conn, wanted, now=now, zone=zone), out, name)


@group.command("refreshes")
def refreshes(
    since_days: Annotated[int, typer.Option(min=1, max=400, help="Look back so many days.")] = 30,
    outcome: Annotated[list[str] | None, typer.Option(help="Only these, such as extended; repeat it.")] = None,
    search: Search = None,
    time_zone: TimeZone = None,
    out: Out = None,
) -> None:
    """The refresh history, newest first."""
    if unknown := sorted(set(outcome or ()) - set(OUTCOMES)):
        raise BadInput(f"--outcome: {unknown[0]!r} is none of: {', '.join(OUTCOMES)}")
    now, zone = clock.now(), cli_times.zone(time_zone)
    wanted: dict[str, Any] = {"search": search, "outcomes": outcome, "since": now - timedelta(days=since_days)}
    name = exports.file_name("refresh-history", now=now, filters=[f"{since_days} days", *(outcome or ()), search])
    _stored(lambda conn: exports.refresh_report(conn, zone=zone, **wanted), out, name)


@group.command("audit")
def audit(
    since_days: Annotated[int, typer.Option(min=1, max=3650, help="Look back so many days.")] = 400,
    who: Annotated[str | None, typer.Option(help="Only what these ordered.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, such as set_token.")] = None,
    about: Annotated[str | None, typer.Option(help="Only what was ordered about this.")] = None,
    time_zone: TimeZone = None,
    out: Out = None,
) -> None:
    """The audit trail: who ordered what, on how many, and why, newest first."""
    now, zone = clock.now(), cli_times.zone(time_zone)
    wanted: dict[str, Any] = {"who": who, "action": action, "about": about, "since": now - timedelta(days=since_days)}
    name = exports.file_name("audit", now=now, filters=[f"{since_days} days", who, action, about])
    _stored(lambda conn: audit_trail.audit_report(conn, zone=zone, **wanted), out, name)


@group.command("job")
def job(
    number: Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="Id of the job, as the console shows it.")],
    time_zone: TimeZone = None,
    out: Out = None,
) -> None:
    """What came of a job, row by row."""
    name, zone = exports.file_name(f"job-{number}", now=clock.now()), cli_times.zone(time_zone)
    _stored(lambda conn: exports_work.job_report(conn, number, zone=zone), out, name)


def _stored(lines: Callable[[Connection], Iterator[str]], out: Path | None, name: str) -> None:
    with store() as (_, engine), reading(engine) as conn:
        _write(lines(conn), out, name)


def _write(lines: Iterator[str], out: Path | None, name: str) -> None:
    """The lines carry their own CRLF; what goes into another program begins without the mark of a file."""
    if out is None:
        for line in lines:
            typer.echo(line.encode(), nl=False)
        return
    out = out / name if out.is_dir() else out
    with out.open("wb") as file:
        count = sum(bool(file.write(line)) for line in exports.as_file(lines))
    say(f"{count - 2:,} rows written to {out}")  # beside the mark and the header
