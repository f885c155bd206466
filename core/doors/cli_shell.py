"""What the commands share: settings, the store, who gives the order, tables and JSON, errors as one line."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from typer.core import TyperGroup

from core import failpoints, logs
from core import settings as house_settings
from core.desk.operators import Operator
from core.doors import wiring
from core.errors import Conflict, CoreError, SettingsError, StoreError
from core.logs import redact
from core.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

# What a command cannot do without when it may have to mend a token.
META_APP = ("facebook_app_id", "facebook_app_secret")

WRONG_SETUP, NOT_DONE = 2, 1
_WIDE = 4_000


class Shell(TyperGroup):
    """Turns every error of the house into one line on standard error: 2 for the setup, 1 for the rest."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (CoreError, SQLAlchemyError, OSError) as error:
            complain(_words(error))
            raise typer.Exit(exit_code(error)) from None


def exit_code(error: Exception) -> int:
    wrong_setup = isinstance(error, (SettingsError, StoreError, SQLAlchemyError, OSError))
    return WRONG_SETUP if wrong_setup and not isinstance(error, Conflict) else NOT_DONE


def complain(words: str) -> None:
    typer.echo(f"capi-console: {redact(words)}", err=True)


def say(words: str) -> None:
    typer.echo(words)


def _words(error: Exception) -> str:
    """SQLAlchemy's own text quotes parameters; the driver's first line does not."""
    if isinstance(error, SQLAlchemyError):
        said = str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines()[0]
        return f"the database cannot be used ({said}): check DATABASE_URL"
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'} cannot be used ({error.strerror or type(error).__name__})"
    return str(error)


def load(*, require: Sequence[str] = ()) -> Settings:
    """The settings, with secrets kept out of every line from here on; SettingsError when one of these is missing."""
    settings = house_settings.load()
    logs.keep_out(settings.secrets())
    settings.require(*require)
    failpoints.arm(settings.failpoints)
    return settings


@contextmanager
def store(*, require: Sequence[str] = ()) -> Iterator[tuple[Settings, Engine]]:
    """Settings and an open, migrated database for one command of a person."""
    settings = load(require=require)
    # The commands say themselves what came of it; of the log only trouble is worth a line beside that.
    logs.setup(settings.log_level if settings.log_level == "DEBUG" else "ERROR")
    engine = wiring.open_store(settings, pool_size=4)
    try:
        yield settings, engine
    finally:
        engine.dispose()


def operator() -> Operator:
    """Whoever may run the command on this machine may order everything; their name goes into the audit trail."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "somebody"
    return Operator(f"{name} (shell)", "admin")


def show(rows: Sequence[Mapping[str, object]], *, as_json: bool, empty: str) -> None:
    """Rows as a table for people, or as JSON with the same names."""
    if as_json:
        show_json(list(rows))
    elif rows:
        _print_table(rows)
    else:
        typer.echo(empty)


def show_json(value: object) -> None:
    typer.echo(orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode())


def _plain(value: object) -> str:
    return str(value)


def _print_table(rows: Sequence[Mapping[str, object]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row.values()))
    # A pipe has no width: there, lines stay whole.
    Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False).print(table)


def _money(value: Decimal) -> str:
    """At least two decimals, and no zeros beyond that."""
    return f"{value:.2f}" if value == round(value, 2) else f"{value:f}"


def cell(value: object) -> str:
    """One value for a terminal: moments in UTC to the minute, and nothing that could steer the terminal."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    text = _money(value) if isinstance(value, Decimal) else str(value)
    return "".join(letter if letter.isprintable() else "�" for letter in text)
