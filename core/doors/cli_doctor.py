"""The doctor at the shell: what is wrong, and what to do about it. It works where nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from core import clock, logs
from core.desk import diagnosis
from core.desk.diagnosis import Check
from core.doors import wiring
from core.doors.cli_shell import NOT_DONE, AsJson, load, operator, say, show_json
from core.errors import CoreError, Refused, SettingsError
from core.logs import redact
from core.settings import Settings
from core.store import database, rekey

_MARKS = {"ok": "ok          ", "warning": "warning     ", "failed": "FAILED      ", "not checked": "not checked "}
_INDENT = " " * 12


def add_to(root: typer.Typer) -> None:
    root.command("doctor")(doctor)


def doctor(
    app: Annotated[str | None, typer.Option(help="This app's token, pixel and events too (public appId).")] = None,
    test_event: Annotated[
        str | None, typer.Option(help="Send one event with this test_event_code for the app; it counts like any other.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, Meta, clock, database and workers, and one app's token and pixel; exit code 1 when one fails."""
    logs.setup("CRITICAL")
    checks = _checks(app, test_event)
    if as_json:
        show_json([{"name": one.name, "state": one.state, "words": one.words, "do": one.do} for one in checks])
    else:
        for one in checks:
            _say(one)
    if diagnosis.failed(checks):
        raise typer.Exit(NOT_DONE)


def _checks(app: str | None, test_event: str | None) -> list[Check]:
    try:
        settings = load()
    except SettingsError as error:
        do = "Correct it in the environment or in .env; `capi-console settings` prints them all"
        return [Check("settings", False, str(error), do), Check("everything else", None, "the settings come first")]
    engine, broken = _open(settings)
    graph = wiring.make_graph(settings)
    try:
        found = diagnosis.diagnose(
            engine, settings, graph, app=app, test_event_code=test_event, by=operator(), now=clock.now()
        )
    except Refused as error:
        return [Check("test event", False, str(error), "Nothing was checked")]
    finally:
        graph.close()
        if engine is not None:
            engine.dispose()
    return [*found, *broken]


def _open(settings: Settings) -> tuple[Engine | None, list[Check]]:
    """The database as it is, neither made nor migrated: the doctor looks and changes nothing."""
    engine = None
    try:
        url = database.parse(settings.database_url)
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).is_file():
            do = "It is made at the first start. If there should be one: is DATABASE_URL right, and this folder?"
            return None, [Check("database file", False, f"there is no file {url.database}", do)]
        engine = database.open_engine(settings.database_url, pool_size=2)
        rekey.take_up(engine, settings.encryption_keys)
    except (CoreError, SQLAlchemyError, OSError) as error:
        do = "Correct DATABASE_URL, or put the key file right"
        return engine, [Check("opening the database", False, redact(str(error)), do)]
    return engine, []


def _say(one: Check) -> None:
    say(f"{_MARKS[one.state]}{one.name}: {_plain(one.words)}")
    if one.do and one.state != "ok":
        say(f"{_INDENT}→ {_plain(one.do)}")


def _plain(words: str) -> str:
    """Foreign words among ours: on one line, and nothing that could steer the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in redact(words))
