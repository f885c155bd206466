from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.bench import report
from tests.bench.__main__ import BENCHES
from tests.promises.__main__ import RUNS, markdown, rewritten, stored
from tests.promises.rows import FAST, NOBODY_IN, NOTHING_LOST, PROMISES, Promise

README = (report.ROOT / "README.md").read_text(encoding="utf-8")


@cache
def functions_in(file: str) -> set[str]:
    tree = ast.parse((report.ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_no_promise_is_left_out() -> None:
    """The numbers that are not here were never given."""
    lost = [*range(1, 15), 16, 19, 20]
    assert [promise.name for promise in NOTHING_LOST] == [f"R{n}" for n in lost]
    assert [promise.name for promise in NOBODY_IN] == [f"S{n}" for n in (*range(1, 27), 28)]
    assert [promise.name for promise in FAST] == [f"B{n}" for n in range(1, 8)]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name)
def test_every_promise_has_proofs_and_each_is_there(promise: Promise) -> None:
    assert promise.shown
    for proof in promise.shown:
        file, test = proof.split("::")
        assert test in functions_in(file), proof
    for name in promise.runs:
        assert name.removeprefix("bench ") in (BENCHES if name.startswith("bench ") else RUNS), name


def test_a_benchmark_or_drill_that_a_promise_names_was_run_in_full() -> None:
    wanted = {name for promise in PROMISES for name in promise.runs}
    assert {name for name in wanted if not name.startswith("bench ")} <= stored().keys()
    assert {name.removeprefix("bench ") for name in wanted if name.startswith("bench ")} <= report.stored().keys()


def test_readme_says_what_was_reached() -> None:
    assert rewritten(README) == README
    assert len(markdown().splitlines()) == len(PROMISES) + 2
