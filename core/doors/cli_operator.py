"""Commands about operators: who may sign in at the console."""

from __future__ import annotations

import getpass
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from core import clock
from core.desk import people
from core.doors.cli_shell import AsJson, operator, say, show, store
from core.errors import BadInput
from core.store.database import reading

Name = Annotated[str, typer.Argument(help="What they sign in with.")]
NoPassword = Annotated[
    bool, typer.Option("--no-password", help="None: they sign in with their account elsewhere (CAPI_OIDC_ISSUER) only.")
]
Reason = Annotated[str | None, typer.Option(help="Why, for the audit trail.")]

group = typer.Typer(no_args_is_help=True, help="Who may sign in at the console, and as what.")


def add_to(root: typer.Typer) -> None:
    root.add_typer(group, name="operator")


@group.command("add")
def add(
    name: Name,
    role: Annotated[str, typer.Option(help="viewer, support or admin; the first one is an admin.")] = "viewer",
    no_password: NoPassword = False,
    reason: Reason = None,
) -> None:
    """Let somebody sign in at the console; the password is asked for, or read from standard input."""
    with store(require=_needs(no_password)) as (_, engine):
        people.add_operator(engine, name, role=role, password=_password(no_password), **_order(reason))
    say(f"{name.strip().lower()} may sign in as {role}")


@group.command("list")
def list_operators(as_json: AsJson = False) -> None:
    """Everybody who may sign in, their role, and when they last did."""
    with store() as (_, engine), reading(engine) as conn:
        found = people.operator_rows(conn, now=clock.now())
    rows = [{**asdict(row), "state": row.state} for row in found]
    show(rows, as_json=as_json, empty="nobody yet: the console answers this machine only, and asks nobody to sign in")


@group.command("password")
def password(name: Name, no_password: NoPassword = False, reason: Reason = None) -> None:
    """Give somebody another password: their sessions end, and they are let in again if they tried too often."""
    with store(require=_needs(no_password)) as (_, engine):
        people.set_operator_password(engine, name, password=_password(no_password), **_order(reason))
    has = "no password any more" if no_password else "another password"
    say(f"{name.strip().lower()} has {has}, and is signed out everywhere")


@group.command("role")
def role(
    name: Name,
    new_role: Annotated[str, typer.Argument(metavar="ROLE", help="viewer, support or admin.")],
    reason: Reason = None,
) -> None:
    """Give somebody another role, at once: they sign in once more."""
    with store() as (_, engine):
        people.set_operator_role(engine, name, role=new_role, **_order(reason))
    say(f"{name.strip().lower()} is {new_role} now")


@group.command("disable")
def disable(name: Name, reason: Reason = None) -> None:
    """Let somebody in no more, and end their sessions at once."""
    with store() as (_, engine):
        people.disable_operator(engine, name, **_order(reason))
    say(f"{name.strip().lower()} is disabled, and signed out everywhere")


@group.command("enable")
def enable(name: Name, reason: Reason = None) -> None:
    """Let somebody in again who was disabled, or has tried too often."""
    with store() as (_, engine):
        people.enable_operator(engine, name, **_order(reason))
    say(f"{name.strip().lower()} may sign in again")


def _order(reason: str | None) -> dict[str, Any]:
    return {"by": operator(), "reason": reason, "now": clock.now()}


def _needs(no_password: bool) -> tuple[str, ...]:
    """Who has no password needs another way in."""
    return ("oidc_issuer",) if no_password else ()


def _password(no_password: bool) -> str | None:
    """Typed twice by a person, or the first line of standard input; never an argument, which others could see."""
    if no_password:
        return None
    if not _is_typed():
        return sys.stdin.readline().rstrip("\r\n")
    given = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != given:
        raise BadInput("the two passwords are not the same: nothing was changed")
    return given


def _is_typed() -> bool:
    return sys.stdin.isatty()
