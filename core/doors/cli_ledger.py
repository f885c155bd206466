"""The account per app and day at the shell."""

from __future__ import annotations

from typing import Annotated

import typer

from core import clock
from core.desk import accounts
from core.doors.cli_shell import NOT_DONE, AsJson, show, store
from core.store.database import reading


def add_to(root: typer.Typer) -> None:
    root.command("ledger")(ledger)


def ledger(
    app: Annotated[str | None, typer.Option(help="Only this app (public appId).")] = None,
    days: Annotated[int, typer.Option(min=1, max=400, help="So many days, today included.")] = 7,
    as_json: AsJson = False,
) -> None:
    """What came in each day and what became of it; ends with 1 when the account does not balance."""
    with store() as (_, engine), reading(engine) as conn:
        found = accounts.account(conn, now=clock.now(), days=days, app=app)
    rows: list[dict[str, object]] = [
        {
            "day": f"{row.day:%Y-%m-%d}",
            "app": row.app_name,
            "received": row.counts.received,
            "duplicate": row.counts.duplicate,
            "accepted": row.counts.accepted,
            "skipped": row.counts.skipped,
            "dead": row.counts.dead,
            "waiting": row.counts.waiting,
            "off": row.counts.off,
            "orders": row.counts.orders,
            "orders at Meta": row.counts.purchases,
            "kept back": row.counts.kept_back,
        }
        for row in found
    ]
    show(rows, as_json=as_json, empty="nothing was counted yet: a worker does it every five minutes")
    if any(row.counts.off for row in found):
        raise typer.Exit(NOT_DONE)
