"""Failpoints: off for everybody but drills, and then exactly where the table says."""

from __future__ import annotations

import re
import timeit
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core import failpoints, settings
from core.doors.cli import app
from core.errors import SettingsError

CORE = Path(str(failpoints.__file__)).parent


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_every_place_of_the_table_is_in_the_code_once() -> None:
    found = Counter(
        name for path in CORE.rglob("*.py") for name in re.findall(r'failpoints\.hit\("([^"]+)"\)', path.read_text())
    )
    assert found == Counter(list(failpoints.PLACES))


def test_without_the_word_of_a_drill_no_process_starts_with_failpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPI_FAILPOINTS", "send.before_post=kill")
    for name in ("FACEBOOK_APP_ID", "FACEBOOK_APP_SECRET"):
        monkeypatch.setenv(name, "1")
    for command in ("worker", "endpoint", "tokens"):
        done = CliRunner().invoke(app, [command])
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert "CAPI_FAILPOINTS: take it away, only drills and tests may set it" in done.stderr


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("send.before_breakfast=kill", "there is no place 'send.before_breakfast', only intake.before_commit, intake."),
        ("send.before_post=explode", "'send.before_post=explode' is no failpoint: write PLACE=kill, error or sleep"),
        ("send.before_post", "'send.before_post' is no failpoint"),
        ("send.before_post=sleep", "'send.before_post=sleep' is no failpoint"),
        ("send.before_post=kill:2", "'send.before_post=kill:2' is no failpoint"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_there_is(text: str, line: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings.load({"CAPI_FAILPOINTS": text, "CAPI_DRILL": "1"})
    assert str(error.value).startswith(f"CAPI_FAILPOINTS: {line}")


def test_what_a_drill_sets_is_read() -> None:
    text = "intake.before_commit=kill:0.01;send.after_accept=sleep:2.5*1; refresh.after_store=error:0.5*3"
    assert settings.load({"CAPI_FAILPOINTS": text, "CAPI_DRILL": "1"}).failpoints == text
    assert failpoints.read(text) == {
        "intake.before_commit": failpoints.Rule("kill", share=0.01),
        "send.after_accept": failpoints.Rule("sleep", seconds=2.5, left=1),
        "refresh.after_store": failpoints.Rule("error", share=0.5, left=3),
    }


def test_an_error_comes_as_often_as_it_was_asked_for_and_nowhere_else() -> None:
    failpoints.arm("send.before_post=error*2")
    for _ in range(2):
        with pytest.raises(failpoints.Tripped):
            failpoints.hit("send.before_post")
    failpoints.hit("send.before_post")
    failpoints.hit("send.after_accept")


def test_a_share_is_a_share() -> None:
    failpoints.arm("send.before_post=error:0.5")
    hits = 0
    for _ in range(1_000):
        try:
            failpoints.hit("send.before_post")
        except failpoints.Tripped:
            hits += 1
    assert 400 < hits < 600
    failpoints.arm("send.before_post=error:0")
    failpoints.hit("send.before_post")


def test_a_sleep_takes_its_time() -> None:
    failpoints.arm("send.before_post=sleep:0.05*1")
    assert timeit.timeit(lambda: failpoints.hit("send.before_post"), number=1) >= 0.05
    assert timeit.timeit(lambda: failpoints.hit("send.before_post"), number=1) < 0.05


def test_what_is_off_costs_no_more_than_a_call() -> None:
    def nothing(place: str) -> None: ...

    off = min(timeit.repeat(lambda: failpoints.hit("send.before_post"), number=20_000, repeat=7))
    call = min(timeit.repeat(lambda: nothing("send.before_post"), number=20_000, repeat=7))
    assert off < 3 * call
