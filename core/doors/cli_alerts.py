"""Commands about alerts: see what is open, try the channels out."""

from __future__ import annotations

from typing import Annotated

import typer

from core import clock
from core.desk import alerts
from core.doors.cli_shell import NOT_DONE, AsJson, operator, show, store
from core.store.database import reading

group = typer.Typer(no_args_is_help=True, help="What is wrong now, and who is told of it.")


def add_to(root: typer.Typer) -> None:
    root.add_typer(group, name="alerts")


@group.command("list")
def list_alerts(
    history: Annotated[bool, typer.Option("--history", help="Those that ended, too, newest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Open alerts, the worst first."""
    with store() as (_, engine), reading(engine) as conn:
        found = alerts.alert_history(conn, limit) if history else alerts.open_alerts(conn)[:limit]
    rows: list[dict[str, object]] = [
        {
            "kind": row.kind.replace("_", " "),
            "alert": row.title,
            "since": row.opened_at,
            "ended": row.closed_at,
            "subject": row.subject,
        }
        for row in found
    ]
    show(rows, as_json=as_json, empty="there was no alert yet" if history else "nothing is wrong")


@group.command("channels")
def list_channels(as_json: AsJson = False) -> None:
    """The alert addresses that the workers know, and which of them do not take messages."""
    with store() as (_, engine), reading(engine) as conn:
        found = alerts.channels(conn)
    rows: list[dict[str, object]] = [
        {
            "channel": row.title,
            "last sent": row.sent_at,
            "failed": row.failures,
            "next try": row.next_attempt_at if row.failures else None,
            "error": row.error,
        }
        for row in found
    ]
    show(rows, as_json=as_json, empty="no worker has seen an alert address yet: CAPI_ALERT_URLS sets them")


@group.command("test")
def send_test(as_json: AsJson = False) -> None:
    """Send a test message to every alert address; exit code 1 when one does not take it."""
    with store() as (settings, engine):
        results = alerts.test_alerts(engine, settings, by=operator(), now=clock.now())
    rows: list[dict[str, object]] = [{"channel": title, "result": error or "ok"} for title, error in results]
    show(rows, as_json=as_json, empty="")
    if any(error for _, error in results):
        raise typer.Exit(NOT_DONE)
