"""Commands about the keys that encrypt tokens at rest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine

from core import clock, logs
from core.desk import keys
from core.desk.keys import Rewritten
from core.doors.cli_shell import NOT_DONE, AsJson, complain, load, operator, say, show, show_json, store
from core.errors import BadInput, Refused, SettingsError
from core.store import database, migrate, rekey
from core.store.database import reading

Reason = Annotated[str | None, typer.Option(help="Why, for the audit trail.")]

group = typer.Typer(no_args_is_help=True, help="The keys that encrypt tokens at rest.")


def add_to(root: typer.Typer) -> None:
    root.add_typer(group, name="keys")


@group.command("make")
def make() -> None:
    """Print a new key for CAPI_ENCRYPTION_KEYS. It is stored nowhere."""
    say(keys.make_key())


@group.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Every key by its id, and how many stored tokens need it; works while a key is missing, too."""
    with _store_as_it_is() as engine, reading(engine) as conn:
        state, rows = keys.encryption_state(conn), [asdict(row) for row in keys.key_rows(conn)]
    if as_json:
        show_json({"encryption": state, "keys": rows})
    else:
        say(f"encryption is {state}")
        show(rows, as_json=False, empty="no token is stored yet")


@group.command("rotate")
def rotate(
    new_key: Annotated[bool, typer.Option("--new-key", help="Put a new key into the key file first.")] = False,
    to_plain: Annotated[bool, typer.Option("--to-plain", help="Decrypt instead, for the platform to read.")] = False,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Encrypt every stored token with the newest key; when cut short, run it again."""
    if new_key and to_plain:
        raise BadInput("--new-key and --to-plain: choose one")
    with store() as (_, engine), _progress(engine) as tell:
        if to_plain:
            done = keys.to_plain(engine, by=operator(), now=clock.now(), reason=reason, tell=tell)
        else:
            done = keys.rotate(engine, by=operator(), now=clock.now(), new_key=new_key, reason=reason, tell=tell)
    if as_json:
        show_json(asdict(done))
    else:
        say(_told(done))
    if done.unreadable:
        complain(f"{_tokens(done.unreadable)} cannot be opened and stay as they are: their owners connect again")
        raise typer.Exit(NOT_DONE)


def _told(done: Rewritten) -> str:
    if done.key is None:
        return (
            f"{_tokens(done.tokens)} decrypted. Take CAPI_ENCRYPTION_KEYS away and start every process again: "
            "with it, tokens are encrypted whenever they are written"
        )
    return f"{_tokens(done.tokens)} encrypted with the key {done.key}; the others were already"


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count} tokens"


@group.command("abandon")
def abandon(
    key_ids: Annotated[list[str], typer.Argument(help="Ids of the keys, as `keys list` shows them.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: Reason = None,
) -> None:
    """Give up tokens whose key is lost for good: their owners connect again."""
    if not yes:
        if not sys.stdin.isatty():
            raise Refused("nobody is there to confirm this: add --yes")
        typer.confirm("The owners of these tokens will have to connect Facebook again. Go on?", abort=True)
    with _store_as_it_is() as engine:
        given_up = keys.abandon(engine, key_ids, by=operator(), now=clock.now(), reason=reason)
    say(f"{_tokens(given_up)} given up: within a minute they are listed as Needs reconnect")


@contextmanager
def _store_as_it_is() -> Iterator[Engine]:
    """The database with the keys there are, though stored tokens may need others."""
    settings = load()
    logs.setup("ERROR")
    engine = database.open_engine(settings.database_url, pool_size=2)
    try:
        migrate.check(engine)
        rekey.take_up(engine, settings.encryption_keys)
        with suppress(SettingsError):
            rekey.use(engine, settings.encryption_keys)
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _progress(engine: Engine) -> Iterator[Callable[[int], None]]:
    with reading(engine) as conn:
        total = rekey.stored(conn)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("tokens", total=total)
        yield lambda done: bar.update(task, completed=done)
