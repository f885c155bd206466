"""What the commands say when the setup is wrong: one line that names the variable, exit code 2."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import environment, free_port


def run(*command: str, cwd: Path, **given: str) -> subprocess.CompletedProcess[str]:
    ports = {f"CAPI_{which}_PORT": str(free_port()) for which in ("ENDPOINT", "CONSOLE")}
    clean = environment(f"sqlite:///{cwd}/capi.db", "http://127.0.0.1:9", **ports)
    env = {name: value for name, value in (clean | given).items() if value}
    return subprocess.run(
        [sys.executable, "-m", "core.doors.cli", *command],
        capture_output=True,
        text=True,
        timeout=60,
        env=env,
        cwd=cwd,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("command", "given", "words"),
    [
        (("worker",), {"FACEBOOK_APP_ID": ""}, "FACEBOOK_APP_ID is not set: put there the id of your Meta app"),
        (("endpoint",), {"FACEBOOK_APP_SECRET": ""}, "FACEBOOK_APP_SECRET is not set"),
        (("up",), {"FACEBOOK_APP_ID": ""}, "FACEBOOK_APP_ID is not set"),
        (("refresh", "--due"), {"FACEBOOK_APP_SECRET": ""}, "FACEBOOK_APP_SECRET is not set"),
        (("tokens",), {"CAPI_REFRESH_WINDOW": "3"}, "did you mean CAPI_REFRESH_WINDOW_DAYS?"),
        (("settings",), {"CAPI_ENDPOINT_PORT": "eighty"}, "CAPI_ENDPOINT_PORT: "),
        (("tokens",), {"DATABASE_URL": "mysql://x"}, "DATABASE_URL names 'mysql'"),
        (("tokens",), {"DATABASE_URL": "postgresql://u:geheim@127.0.0.1:1/x"}, "check DATABASE_URL"),
        (("worker",), {"DATABASE_URL": "postgresql://u:geheim@127.0.0.1:1/x"}, "check DATABASE_URL"),
        (("up",), {"DATABASE_URL": "postgresql://u:geheim@127.0.0.1:1/x"}, "check DATABASE_URL"),
        (("tokens",), {"DATABASE_URL": "sqlite:////proc/none/capi.db"}, "cannot be used"),
    ],
)
def test_one_line_and_exit_code_two(
    tmp_path: Path, command: tuple[str, ...], given: dict[str, str], words: str
) -> None:
    done = run(*command, cwd=tmp_path, **given)
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line]
    assert len(said) == 1
    assert words in said[0]
    assert "geheim" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "capi.db").write_text("hello")
    done = run("tokens", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "file is not a database" in done.stderr


@pytest.mark.parametrize(
    ("command", "name"),
    [("endpoint", "CAPI_ENDPOINT_PORT"), ("console", "CAPI_CONSOLE_PORT"), ("sandbox", "CAPI_SANDBOX_PORT"),
     ("up", "CAPI_ENDPOINT_PORT"), ("up", "CAPI_CONSOLE_PORT")],
)  # fmt: skip
def test_a_port_that_is_taken_is_named(tmp_path: Path, command: str, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        others = {f"CAPI_{which}_PORT": str(free_port()) for which in ("ENDPOINT", "CONSOLE")}
        others["SHOPIFY_API_SECRET"] = "shopify"
        done = run(command, cwd=tmp_path, **(others | {name: port}))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{name}: " in done.stderr
    assert port in done.stderr


def test_a_wrong_command_shows_the_usage(tmp_path: Path) -> None:
    done = run("fly", cwd=tmp_path)
    assert done.returncode == 2
    assert "No such command 'fly'" in done.stderr


def test_help_needs_no_settings(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path, CAPI_NONSENSE="1")
    assert done.returncode == 0
    assert "worker" in done.stdout
