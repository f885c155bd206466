"""Every command of the desk asks for the role first; a new one without a line in NEEDS fails here."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import core.desk
from core.desk.operators import NEEDS, ROLES, Operator
from core.errors import Forbidden


def _commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function of the desk that is told who orders it."""
    for found in pkgutil.iter_modules(core.desk.__path__, "core.desk."):
        for name, function in inspect.getmembers(importlib.import_module(found.name), inspect.isfunction):
            public = not name.startswith("_") and function.__module__ == found.name
            by = inspect.signature(function).parameters.get("by")
            if public and by is not None and by.annotation == "Operator":
                yield f"{found.name.removeprefix('core.desk.')}.{name}", function


COMMANDS = dict(_commands())
ROOT = Path(__file__).parents[2]
# A row is written and taken back, to see whether the database takes writes.
NO_ORDER = {"diagnosis_store.check_database"}


class _Asked(Exception):
    """Which role was asked for."""


class _Asking(Operator):
    def must(self, order: str) -> None:
        raise _Asked(order)


def _give(command: Callable[..., Any], by: Operator) -> None:
    """Nothing but `by` is there: a command that looks at anything before it asks, fails."""
    given = dict.fromkeys(inspect.signature(command).parameters, None)
    command(**{**given, "by": by})


def _asks(name: str) -> str:
    with pytest.raises(_Asked) as asked:
        _give(COMMANDS[name], _Asking("x", "viewer"))
    return str(asked.value)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_refuses_every_role_below_its_own(name: str) -> None:
    least = NEEDS[_asks(name)]
    assert least != ROLES[0] or name == "people.change_password", "who only looks orders nothing"
    for role in ROLES[: ROLES.index(least)]:
        with pytest.raises(Forbidden, match=f"needs the role {least}"):
            _give(COMMANDS[name], Operator("vi", role))
    for role in ROLES[ROLES.index(least) :]:
        Operator("ada", role).must(_asks(name))


def test_every_line_of_the_table_is_some_commands() -> None:
    assert {_asks(name) for name in COMMANDS} == set(NEEDS)
    assert len(COMMANDS) > 15


def _writers(file: Path) -> set[str]:
    """Functions of a module that write to the database, by themselves or by another function of it."""
    functions = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    names = {one.name: {node.id for node in ast.walk(one) if isinstance(node, ast.Name)} for one in functions}
    found = {"writing"}
    while more := {name for name, used in names.items() if used & found} - found:
        found |= more
    return {name for name in found - {"writing"} if not name.startswith("_")}


def test_what_writes_is_told_who_orders_it() -> None:
    files = sorted((ROOT / "core/desk").glob("*.py"))
    writers = {f"{file.stem}.{name}" for file in files for name in _writers(file)}
    assert writers - set(COMMANDS) == NO_ORDER
    assert len(writers & set(COMMANDS)) > 15


def test_pages_and_shell_write_by_commands_only() -> None:
    """Who signs in is written by the service, before anybody can order anything."""
    doors = [*(ROOT / "pages").glob("*.py"), *(ROOT / "core/doors").glob("c*.py")]
    people = [file for file in doors if file.parent.name == "pages" or file.stem.startswith(("cli", "console"))]
    for file in people:
        named = {
            node.id for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)
        }
        assert not named & {"writing", "insist"}, file
    assert len(people) > 40


def test_a_role_is_told_why_a_button_is_closed() -> None:
    assert Operator("vi", "viewer").why_not("set_token") == "Needs the role admin; yours is viewer."
    assert Operator("ada", "admin").why_not("set_token") is None
