"""Times at the shell: whose clock counts, and from when until when."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated

import typer

from core.desk import zones
from core.errors import BadInput

Since = Annotated[
    str | None, typer.Option(help="Received from then on: today, yesterday, 2026-11-25 or 2026-11-25T14:30.")
]
Until = Annotated[str | None, typer.Option(help="Received before then, in the same words; a day is its beginning.")]
TimeZone = Annotated[str | None, typer.Option(help="Such as Europe/Berlin; else this machine's own.")]

_OF_MACHINE = Path("/etc/localtime")
_FOLDER = "zoneinfo/"


def zone(name: str | None) -> tzinfo:
    """The zone that was asked for, else this machine's own; BadInput."""
    if name is None:
        return _of_machine()
    try:
        return zones.zone_of(name)
    except BadInput as error:
        raise BadInput(f"--time-zone: {error}") from None


def span(since: str | None, until: str | None, *, now: datetime, zone: tzinfo) -> dict[str, datetime | None]:
    """`since` and `until` as the queries take them; BadInput."""
    start, end = (_moment(name, words, now, zone) for name, words in (("--since", since), ("--until", until)))
    if start and end and start >= end:
        raise BadInput("--since is not before --until: nothing lies between them; a day is its beginning")
    return {"since": start, "until": end}


def named(span: Mapping[str, datetime | None], zone: tzinfo) -> list[str | None]:
    """`since 2026-11-25T0000`, for the name of a file."""
    return [f"{word} {at.astimezone(zone):%Y-%m-%dT%H%M}" if at else None for word, at in span.items()]


def _moment(option: str, words: str | None, now: datetime, zone: tzinfo) -> datetime | None:
    try:
        return zones.moment(words, now=now, zone=zone) if words is not None else None
    except BadInput as error:
        raise BadInput(f"{option}: {error}") from None


def _of_machine() -> tzinfo:
    """By its name, so that summer and winter are right; else with the offset that its clock has just now."""
    given = os.environ.get("TZ", str(_OF_MACHINE)).removeprefix(":") or "UTC"
    name = str(Path(given).resolve()).rpartition(_FOLDER)[2] if given.startswith("/") else given
    try:
        return zones.zone_of(name)
    except BadInput:
        return datetime.now().astimezone().tzinfo or UTC
