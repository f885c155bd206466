"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "core").rglob("*.py"))
PAGES = sorted((ROOT / "pages").glob("*.py"))
LONGEST_MODULE, LONGEST_FUNCTION, LONGEST_PAGE = 300, 40, 80
# Where a token, an alert address that holds a password, or the client secret that Authlib sends to the provider of
# accounts, may be read in the clear.
MAY_REVEAL = {"core/store/sealing.py", "core/meta/graph.py", "core/services/channels.py", "core/services/oidc.py"}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_secrets_are_read_in_the_clear_in_four_files_only() -> None:
    revealing = {named(path) for path in [*CORE, *PAGES] if ".reveal(" in path.read_text(encoding="utf-8")}
    assert revealing == MAY_REVEAL


def test_modules_are_short() -> None:
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in CORE}
    own = {name: lines for name, lines in lengths.items() if "/migrations/" not in name}
    assert {name: lines for name, lines in own.items() if lines > LONGEST_MODULE} == {}


def test_pages_are_short() -> None:
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PAGES}
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_PAGE} == {}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{named(path)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_functions_are_short_and_most_very_short() -> None:
    lengths = [found for path in CORE if "/migrations/" not in named(path) for found in functions(path)]
    assert [found for found in lengths if found[1] > LONGEST_FUNCTION] == []
    short = sum(lines < 12 for _, lines in lengths)
    assert short / len(lengths) > 0.5


@pytest.mark.parametrize("module", ["core.doors.endpoint", "core.doors.worker", "core.doors.cli"])
def test_these_never_load_streamlit_or_pandas(module: str) -> None:
    look = f"import sys, {module}; print(*{{'streamlit', 'pandas', 'plotly'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", look],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("", "", 0)


def test_who_only_looks_at_the_revision_does_not_load_what_migrates() -> None:
    look = "import sys, core.doors.endpoint; print(*{'alembic', 'mako', 'psycopg', 'pgqueuer'} & set(sys.modules))"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, timeout=60, env=env, check=False
    )
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("", "", 0)


def test_nothing_but_the_command_line_the_drills_and_the_sandbox_itself_knows_the_sandbox() -> None:
    knowing = {
        named(path)
        for path in [*CORE, *PAGES]
        if "core.sandbox" in path.read_text(encoding="utf-8")
        and not named(path).startswith(("core/sandbox/", "core/drills/"))
    }
    assert knowing == {"core/doors/cli.py", "core/doors/supervisor.py"}


def test_nothing_that_is_read_becomes_code() -> None:
    """Neither by a module that makes objects of bytes, nor by a call that runs text."""
    modules, calls = {"pickle", "shelve", "marshal", "dill", "joblib"}, {"eval", "exec", "load", "unsafe_load"}
    found = []
    for path in [*CORE, *PAGES]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if modules & {name.split(".")[0] for name in names}:
                found.append(named(path))
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            if isinstance(called, ast.Name) and called.id in calls - {"load", "unsafe_load"}:
                found.append(named(path))
            if isinstance(called, ast.Attribute) and called.attr in calls:
                owner = called.value
                if isinstance(owner, ast.Name) and owner.id in {"yaml", "builtins", "pickle"}:
                    found.append(named(path))
    assert found == []


def test_every_dependency_has_bounds_and_is_audited() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [name for names in (project["dependencies"], *extras) for name in names if not name.startswith("capi-")]
    assert [name for name in wanted if ">=" not in name] == []
    unbounded = {name.split(">=")[0] for name in wanted if "<" not in name}
    assert unbounded <= {"iso4217", "types-requests"}, "named by dates, not by versions that break"
    assert "pip-audit" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
