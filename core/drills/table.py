"""Every drill by its name: what it shows, and how it is played in short and at length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.drills import bulk, crash, noisy, outage, outage_real, poison, storm, wave
from core.drills.report import Report
from core.drills.stage import SQLITE, Stage, stage
from core.drills.timelapse import hasten
from core.errors import BadInput

Play = Callable[[Stage, Any], Report]


@dataclass(frozen=True, slots=True)
class Drill:
    """`long` and `short`: the plans; `play`: the drill with one of them."""

    shows: str
    play: Play
    long: Any
    short: Any


def _noisy(on: Stage, plan: noisy.Plan) -> Report:
    return noisy.trial(on.engine, on.url, on.meta, on.folder, plan).report()


def _outage(on: Stage, plan: outage.Plan) -> Report:
    if plan.real:
        return outage_real.trial(on.engine, on.url, on.meta, on.folder, plan).report()
    hasten(on.engine)
    return outage.simulate(on.engine, plan).report()


def _wave(on: Stage, plan: wave.Plan) -> Report:
    hasten(on.engine)
    return wave.simulate(on.engine, plan.tokens, cap=plan.cap, away=plan.away).report()


DRILLS = {
    "crash": Drill(
        "kill -9 anywhere, at random and at each failpoint, loses nothing that was answered, exchanges no token twice",
        crash.trial,
        crash.Plan(),
        crash.SHORT,
    ),
    "storm": Drill(
        "many tokens that end at once cost one exchange each; those that only their owner can mend are told of",
        storm.trial,
        storm.Plan(),
        storm.SHORT,
    ),
    "outage": Drill(
        "while Meta is away it is hardly called, nothing is lost, and what waited goes out at a bearable pace",
        _outage,
        outage.Plan(before=12.0, away=10.0, real=True),
        outage.Plan(shops=3, every=20.0, before=13.0, tick=20.0),
    ),
    "wave": Drill(
        "many tokens with one end are renewed at the cap's pace, and none comes near its end",
        _wave,
        wave.Plan(),
        wave.Plan(tokens=60, cap=2, away=2.0),
    ),
    "poison": Drill(
        "events that Meta will never take end as dead, soon and by themselves, and hold nobody else's up",
        poison.trial,
        poison.Plan(),
        poison.SHORT,
    ),
    "noisy": Drill(
        "one shop's backlog does not hold up the fresh events of the others",
        _noisy,
        noisy.Plan(),
        noisy.Plan(backlog=3_000, shops=10, quiet=2.0, slow=0.7),
    ),
    "bulk": Drill(
        "a bulk job that is killed again and again does each row once, exactly as its preview said",
        bulk.trial,
        bulk.Plan(),
        bulk.SHORT,
    ),
}


def play(
    name: str,
    *,
    short: bool,
    how: Mapping[str, int],
    database: str = SQLITE,
    configured: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Play one drill on a scratch database. `how`: fields of its plan to be set otherwise; BadInput, Refused."""
    drill = DRILLS[name]
    plan = drill.short if short else drill.long
    unknown = [field for field in how if not hasattr(plan, field)]
    if unknown:
        raise BadInput(f"--{unknown[0]} is nothing that the drill {name} knows")
    with stage(database, configured=configured, tell=tell) as on:
        try:
            return drill.play(on, replace(plan, **how))
        except AssertionError as error:  # something never came: that is a verdict, too
            return Report(False, more={"it came to nothing": str(error)[-2_000:] or type(error).__name__})
