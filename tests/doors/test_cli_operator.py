"""`capi-console operator`: who may sign in, with a password that is never an argument."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select
from typer.testing import CliRunner, Result

from core import clock
from core.doors.cli import app
from core.secret import Secret
from core.services import sign_in
from core.store.database import reading
from core.store.schema import capi_audit

Run = Callable[..., Result]
PASSWORD = "correct horse battery"

pytestmark = pytest.mark.usefixtures("quick_passwords")


@pytest.fixture
def run(sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("list")`; `typed` comes in on standard input."""
    monkeypatch.setenv("DATABASE_URL", sqlite_engine.url.render_as_string(hide_password=False))

    def run(*args: str, typed: str = "") -> Result:
        return CliRunner().invoke(app, ["operator", *args], input=typed)

    return run


def _signs_in(engine: Engine, name: str, password: str) -> bool:
    try:
        return bool(sign_in.sign_in(engine, name, Secret(password), address="192.0.2.1", now=clock.now()))
    except sign_in.WrongPassword:
        return False


def test_from_the_first_admin_to_the_last(run: Run, sqlite_engine: Engine) -> None:
    assert "nobody yet" in run("list").stdout
    assert "must be an admin" in run("add", "bob", typed=PASSWORD).stderr
    done = [
        run("add", "Ada", "--role", "admin", "--reason", "first", typed=f"{PASSWORD}\n"),
        run("add", "bob", typed=f"{PASSWORD}\n"),
        run("role", "bob", "support"),
        run("password", "bob", typed="another long one\r\n"),
        run("disable", "bob"),
        run("enable", "bob"),
    ]
    assert [one.exit_code for one in done] == [0] * len(done), [one.output for one in done]
    assert done[0].stdout == "ada may sign in as admin\n"
    assert not any(word in one.output for one in done for word in (PASSWORD, "another long one"))
    assert _signs_in(sqlite_engine, "bob", "another long one")
    assert not _signs_in(sqlite_engine, "bob", PASSWORD)
    listed = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert {name: (row["role"], row["state"]) for name, row in listed.items()} == {
        "ada": ("admin", "active"),
        "bob": ("support", "active"),
    }
    fields = {"name", "role", "created_at", "signed_in_at", "disabled_at", "locked_until", "has_password", "state"}
    assert set(listed["ada"]) == fields
    last = run("disable", "ada")
    assert (last.exit_code, "last admin" in last.stderr) == (1, True)
    a = capi_audit.c
    with reading(sqlite_engine) as conn:
        trail = conn.execute(select(a.by, a.action, a.reason).order_by(a.id)).all()
    assert [row.action for row in trail][:6] == [
        "add_operator",
        "add_operator",
        "set_operator_role",
        "set_operator_password",
        "disable_operator",
        "enable_operator",
    ]
    assert trail[0].by.endswith("(shell)")
    assert trail[0].reason == "first"


@pytest.mark.parametrize(
    ("args", "typed", "words"),
    [
        (("add", "eve", "--role", "admin"), "", "too short"),
        (("add", "eve", "--role", "admin"), "short\n", "too short"),
        (("add", "local", "--role", "admin"), PASSWORD, "cannot be taken"),
        (("add", "eve", "--role", "boss"), PASSWORD, "no role boss"),
        (("role", "eve", "admin"), "", "no operator eve"),
        (("password", "eve"), PASSWORD, "no operator eve"),
    ],
)
def test_what_is_wrong_is_one_line(run: Run, args: tuple[str, ...], typed: str, words: str) -> None:
    done = run(*args, typed=typed)
    assert done.exit_code == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert PASSWORD not in done.output


def test_a_person_types_it_twice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter([PASSWORD, "something else", PASSWORD, PASSWORD])
    monkeypatch.setattr("core.doors.cli_operator.getpass.getpass", lambda _: next(typed))
    monkeypatch.setattr("core.doors.cli_operator._is_typed", lambda: True)
    assert "not the same" in run("add", "ada", "--role", "admin").stderr
    assert run("add", "ada", "--role", "admin").exit_code == 0


def test_who_signs_in_elsewhere_needs_no_password_once_there_is_such_a_place(
    run: Run, sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("add", "Ana@Example.com", "--role", "admin", "--no-password")
    refused = run(*args)
    assert (refused.exit_code, refused.stderr.startswith("capi-console: CAPI_OIDC_ISSUER is not set")) == (2, True)
    for name, value in (("ISSUER", "https://login.example.com"), ("CLIENT_ID", "x"), ("CLIENT_SECRET", "hush-hush")):
        monkeypatch.setenv(f"CAPI_OIDC_{name}", value)
    assert run(*args).stdout == "ana@example.com may sign in as admin\n"
    assert "e-mail address" in run("add", "bob", "--no-password").stderr
    assert not _signs_in(sqlite_engine, "ana@example.com", PASSWORD)
    assert run("password", "ana@example.com", typed=PASSWORD).exit_code == 0
    assert _signs_in(sqlite_engine, "ana@example.com", PASSWORD)
    taken = run("password", "ana@example.com", "--no-password")
    assert taken.stdout == "ana@example.com has no password any more, and is signed out everywhere\n"
    assert not _signs_in(sqlite_engine, "ana@example.com", PASSWORD)
    assert [row["has_password"] for row in json.loads(run("list", "--json").stdout)] == [False]
