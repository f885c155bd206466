"""`export`: the console's CSV files at the shell, written line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Connection

from core import clock
from core.desk import audit_trail, exports, exports_work, queries
from core.desk.explain import OUTCOMES
from core.doors.cli_shell import say, store
from core.errors import BadInput
from core.services.policy import Policy
from core.store.database import reading
from core.store.health import Health

Out = Annotated[Path | None, typer.Option(help="The file to write; else standard output.")]
Search = Annotated[str | None, typer.Option(help="Only what a search in the console would find.")]

group = typer.Typer(no_args_is_help=True, help="CSV files, as the console's buttons give them.")


def add_to(root: typer.Typer) -> None:
    root.add_typer(group, name="export")


@group.command("expiry")
def expiry(
    health: Annotated[list[str] | None, typer.Option(help="Only these, such as EXPIRED; repeat it.")] = None,
    search: Search = None,
    out: Out = None,
) -> None:
    """Every app and the end of its token, most urgent first."""
    words = [str(word) for word in Health]
    if unknown := sorted(set(health or ()) - set(words)):
        raise BadInput(f"--health: {unknown[0]!r} is none of: {', '.join(words)}")
    with store() as (settings, engine), reading(engine) as conn:
        policy = Policy.of(settings)
        ahead = {"soon": policy.soon, "window": policy.window}
        _write(exports.expiry_report(conn, now=clock.now(), search=search, health=health, **ahead), out)


@group.command("failed")
def failed(
    show: Annotated[str, typer.Option(help=f"{', '.join(queries.VIEWS)}.")] = "still in time",
    failure: Annotated[str | None, typer.Option(help="Only those that failed so.")] = None,
    search: Search = None,
    out: Out = None,
) -> None:
    """Events that did not arrive, and why."""
    if show not in queries.VIEWS:
        raise BadInput(f"--show: {show!r} is none of: {', '.join(queries.VIEWS)}")
    _stored(lambda conn: exports.failed_report(conn, now=clock.now(), view=show, failure=failure, search=search), out)


@group.command("refreshes")
def refreshes(
    since_days: Annotated[int, typer.Option(min=1, max=400, help="Look back so many days.")] = 30,
    outcome: Annotated[list[str] | None, typer.Option(help="Only these, such as extended; repeat it.")] = None,
    search: Search = None,
    out: Out = None,
) -> None:
    """The refresh history, newest first."""
    if unknown := sorted(set(outcome or ()) - set(OUTCOMES)):
        raise BadInput(f"--outcome: {unknown[0]!r} is none of: {', '.join(OUTCOMES)}")
    since = clock.now() - timedelta(days=since_days)
    _stored(lambda conn: exports.refresh_report(conn, search=search, outcomes=outcome, since=since), out)


@group.command("audit")
def audit(
    since_days: Annotated[int, typer.Option(min=1, max=3650, help="Look back so many days.")] = 400,
    who: Annotated[str | None, typer.Option(help="Only what these ordered.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, such as set_token.")] = None,
    about: Annotated[str | None, typer.Option(help="Only what was ordered about this.")] = None,
    out: Out = None,
) -> None:
    """The audit trail: who ordered what, on how many, and why, newest first."""
    since = clock.now() - timedelta(days=since_days)
    _stored(lambda conn: audit_trail.audit_report(conn, who=who, action=action, about=about, since=since), out)


@group.command("job")
def job(
    number: Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="Id of the job, as the console shows it.")],
    out: Out = None,
) -> None:
    """What came of a job, row by row."""
    _stored(lambda conn: exports_work.job_report(conn, number), out)


def _stored(lines: Callable[[Connection], Iterator[str]], out: Path | None) -> None:
    with store() as (_, engine), reading(engine) as conn:
        _write(lines(conn), out)


def _write(lines: Iterator[str], out: Path | None) -> None:
    """The lines carry their own CRLF; the mark at a file's start tells a spreadsheet that names are UTF-8."""
    if out is None:
        for line in lines:
            typer.echo(line.encode(), nl=False)
        return
    with out.open("w", encoding="utf-8-sig", newline="") as file:
        count = sum(bool(file.write(line)) for line in lines)
    say(f"{count - 1:,} rows written to {out}")
