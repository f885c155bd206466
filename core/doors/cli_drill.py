"""Drills at the shell: the product's own processes on a scratch database, killed, refused and flooded."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Annotated, Literal

import orjson
import typer

from core import clock
from core.doors.cli_shell import NOT_DONE, load, say

Which = Literal["crash", "storm", "outage", "wave", "poison", "noisy", "bulk"]


def add_to(root: typer.Typer) -> None:
    root.command("drill")(drill)


def drill(
    which: Annotated[Which, typer.Argument(help="What goes wrong.")],
    short: Annotated[bool, typer.Option("--short", help="The same in seconds instead of minutes.")] = False,
    kills: Annotated[int | None, typer.Option(min=0, help="crash: so many kills at random, else 500.")] = None,
    times: Annotated[int | None, typer.Option(min=0, help="crash: each failpoint so many times, else 20.")] = None,
    database: Annotated[
        str, typer.Option(help="`sqlite`: a file of the drill's own; or the address of an empty PostgreSQL database.")
    ] = "sqlite",
    json: Annotated[Path | None, typer.Option("--json", help="Write the figures there, too.")] = None,
) -> None:
    """Play a disaster on a scratch database and reckon up what became of every event; exit code 1 when any is lost."""
    from core.drills import table
    from core.drills.processes import end_in_order

    configured = load().database_url
    logging.disable(logging.CRITICAL)
    end_in_order()
    began, started = clock.now(), time.monotonic()
    how = {name: value for name, value in (("kills", kills), ("times", times)) if value is not None}
    report = table.play(which, short=short, how=how, database=database, configured=configured, tell=_tell)
    say(report.table())
    if json is not None:
        took = round(time.monotonic() - started, 1)
        facts = {"drill": which, "short": short, "how": how, "at": began, "seconds": took}
        json.write_bytes(orjson.dumps(facts | report.facts(), option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z))
    if not report.holds:
        raise typer.Exit(NOT_DONE)


def _tell(words: str) -> None:
    typer.echo(words, err=True)
