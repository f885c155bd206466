"""`capi-console drill`: every drill in short, and what it says when something is broken."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from sqlalchemy import Engine, delete
from typer.testing import CliRunner

from core import failpoints
from core.doors.cli import app
from core.drills import crash, crash_places, table
from core.drills.processes import environment, eventually
from core.drills.reckoning import reckon
from core.drills.report import Report
from core.drills.storefront import Storefront
from core.drills.table import DRILLS, Drill
from core.errors import CoreError, Refused, SettingsError
from core.sandbox.client import Sandbox
from core.store.database import writing
from core.store.schema import capi_taken
from tests.world import DAY, World


@pytest.mark.parametrize("name", ["storm", "poison", "bulk"])
def test_a_drill_in_short_holds(name: str) -> None:
    report = table.play(name, short=True, how={})
    assert report.holds, report.table()


def test_kills_at_random_and_at_each_place_lose_nothing() -> None:
    report = table.play("crash", short=True, how={})
    assert report.holds, report.table()
    assert report.figures["failpoint_hits"] == len(failpoints.PLACES)
    assert int(report.figures["kills"]) >= crash.SHORT.kills + len(failpoints.PLACES)


@pytest.mark.long
@pytest.mark.parametrize("name", ["crash", "storm"])
def test_the_same_on_postgresql(name: str, empty_postgres_url: str) -> None:
    report = table.play(name, short=True, how={}, database=empty_postgres_url)
    assert report.holds, report.table()


@pytest.mark.long
@pytest.mark.parametrize("name", ["outage", "wave", "noisy"])
def test_drills_whose_trials_are_shown_elsewhere_in_short(name: str) -> None:
    report = table.play(name, short=True, how={})
    assert report.holds, report.table()


def test_every_failpoint_has_its_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = type("Crew", (), {"stage": type("Stage", (), {"shops": None})()})()
    places = crash_places.Places(crew, None, [])  # type: ignore[arg-type]
    assert set(places.every) == set(failpoints.PLACES)


def test_a_database_in_use_is_left_alone(postgres_url: str, empty_postgres_url: str) -> None:
    with pytest.raises(Refused, match=r"is in use \(\d+ tables\)"):
        table.play("poison", short=True, how={}, database=postgres_url)
    with pytest.raises(Refused, match="--database is DATABASE_URL"):
        table.play("poison", short=True, how={}, database=empty_postgres_url, configured=empty_postgres_url)


@pytest.mark.parametrize(
    "given", ["postgresql", "sqlite:///data/capi.db", "mysql://a@b/c", "postgresql://a@127.0.0.1:1/b"]
)
def test_what_is_no_database_for_a_drill_is_refused(given: str) -> None:
    with pytest.raises(CoreError) as error:
        table.play("poison", short=True, how={}, database=given)
    assert "127.0.0.1:1/b cannot be used" in str(error.value) or isinstance(error.value, SettingsError)


def test_an_option_of_another_drill_is_refused() -> None:
    done = CliRunner().invoke(app, ["drill", "wave", "--kills", "3"])
    assert (done.exit_code, "--kills is nothing that the drill wave knows" in done.stderr) == (1, True)


@pytest.mark.parametrize(("holds", "code"), [(True, 0), (False, 1)])
def test_the_verdict_is_printed_written_and_the_exit_code(
    holds: bool, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report(holds, exchanges={"fp_1": 2, "fp_2": 1}, cut_short={"fp_1": 1}, alert_after=3.21, backlog_after=9.0)
    assert report.twice == []
    monkeypatch.setitem(DRILLS, "storm", replace(DRILLS["storm"], play=lambda *_: report))
    done = CliRunner().invoke(app, ["drill", "storm", "--short", "--json", str(tmp_path / "storm.json")])
    assert done.exit_code == code
    assert done.stdout.splitlines()[-1].split() == ["verdict", "holds" if holds else "BROKEN"]
    assert "1 tokens once, 1 tokens twice, whoever mended one was killed 1 times" in done.stdout
    facts = json.loads((tmp_path / "storm.json").read_text())
    assert (facts["drill"], facts["short"], facts["holds"], facts["first_alert_after"]) == ("storm", True, holds, 3.21)


def test_what_never_comes_is_a_verdict_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Report:
        raise AssertionError("not within 60 s")

    monkeypatch.setitem(DRILLS, "storm", Drill("never ends", never, None, None))
    monkeypatch.setattr(table, "replace", lambda plan, **_: plan)
    report = table.play("storm", short=True, how={})
    assert (report.holds, "not within 60 s" in report.table()) == (False, True)


def test_a_second_exchange_that_no_kill_excuses_is_one_too_many() -> None:
    report = Report(True, exchanges={"fp_1": 2, "fp_2": 2, "fp_3": 1}, cut_short={"fp_1": 1})
    assert report.twice == ["fp_2"]
    assert "too often: 1" in report.table()


def test_what_was_promised_and_is_nowhere_is_lost(sqlite_engine: Engine, meta: Sandbox) -> None:
    world = World(sqlite_engine, meta)
    shop = world.an_app(meta.create_token())
    sent, waiting = world.an_event(shop), None
    world.deliver(shop)
    waiting = world.an_event(shop)
    assert reckon(sqlite_engine, [sent, waiting], meta.events()).balances
    found = reckon(sqlite_engine, [sent, waiting, "never-seen"], meta.events())
    assert (found.lost, found.balances) == ({"never-seen"}, False)
    unasked = reckon(sqlite_engine, [sent], meta.events())
    assert (unasked.unasked, unasked.balances) == ({waiting}, False)
    twice = [*meta.events(), *meta.events()]
    assert Counter([reckon(sqlite_engine, [sent, waiting], twice).extra]) == Counter([1])


def test_what_the_account_lacks_breaks_a_drill(sqlite_engine: Engine, meta: Sandbox) -> None:
    """Sent and heard of, and never counted when it came in: neither side of the drill's own books shows it."""
    world = World(sqlite_engine, meta)
    shop = world.an_app(meta.create_token())
    sent = world.an_event(shop)
    world.deliver(shop)
    with writing(sqlite_engine) as conn:
        conn.execute(delete(capi_taken))
    found = reckon(sqlite_engine, [sent], meta.events())
    assert (found.balances, list(found.broken.values())) == (False, ["1 event stands there and did not come in"])
    assert f"app {shop.id} on " in Report(found.balances, found).table()
    assert reckon(sqlite_engine, [sent], meta.events(), now=world.clock() + 30 * DAY).balances, "not looked at any more"


class Stand:
    """A crew and a trade of which one part fails."""

    def __init__(self, fails: str) -> None:
        self.fails, self.kills, self.running = fails, Counter[str](), {}
        self.stage = SimpleNamespace(
            tell=lambda _: None,
            shops=SimpleNamespace(an_app=lambda *_, **__: None, meta=self),
            meta=SimpleNamespace(sandbox=self),
        )
        self.front = Storefront([])
        self.front.call = lambda _: self.does("shop")  # type: ignore[method-assign]

    def does(self, part: str) -> None:
        if part == self.fails:
            raise RuntimeError(f"the {part} fell")
        time.sleep(0.01)

    def create_token(self, **_: object) -> str:
        return "token"

    def up(self, *_: str) -> None:
        pass

    def answers(self, _: str) -> bool:
        return True

    def kill(self, name: str) -> None:
        self.does("killer")
        self.kills[name] += 1

    def start(self, _: str) -> None:
        pass


@pytest.mark.parametrize("part", ["killer", "shop"])
def test_a_drill_whose_own_hands_fail_fails(part: str) -> None:
    stand, plan = Stand(part), crash.Plan(kills=500, shops=1, every=60)
    trade = crash.Trade(stand.stage, stand.front, plan)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=f"the {part} fell"):
        crash._at_random(stand, trade, plan)  # type: ignore[arg-type]
    assert stand.front.stopped.is_set()


@pytest.mark.parametrize(("killed", "answered", "holds"), [(500, 1, True), (499, 1, False), (500, 0, False)])
def test_a_drill_that_hardly_took_place_shows_nothing(killed: int, answered: int, holds: bool) -> None:
    assert crash.played(Report(True), crash.Plan(), killed, answered).holds is holds
    assert not crash.played(Report(False), crash.Plan(), killed, answered).holds


def test_what_was_played_otherwise_than_promised_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "play", lambda *_, **__: Report(True))
    for options, how in (["--kills", "3", "--times", "1"], {"kills": 3, "times": 1}), ([], {}):
        CliRunner().invoke(app, ["drill", "crash", *options, "--json", str(tmp_path / "crash.json")])
        assert json.loads((tmp_path / "crash.json").read_text())["how"] == how


def test_a_drill_that_is_stopped_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "core.doors.cli", "drill", "storm", "--short"]
    env = environment(f"sqlite:///{tmp_path / 'mine.db'}", "http://127.0.0.1:9", TMPDIR=str(tmp_path))
    with subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL) as drill:
        whole = psutil.Process(drill.pid)

        def born() -> list[psutil.Process]:
            found = whole.children(recursive=True)
            return found if len(found) > 4 else []

        children = eventually(born, within=60)
        drill.send_signal(signal.SIGTERM)
        assert drill.wait(60) == 143
    eventually(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))
    assert list(tmp_path.iterdir()) == [], "neither the scratch database nor the configured one"
