"""A wave of expiries, in short: `python -m tests.wave` is the long form."""

from __future__ import annotations

from sqlalchemy import Engine

from core.drills.timelapse import hasten
from core.drills.wave import simulate


def test_a_wave_stays_under_the_cap_and_leaves_no_token_untouched(sqlite_engine: Engine) -> None:
    """Meta is away for two hours besides; what was due meanwhile comes at the cap's pace, not at once."""
    hasten(sqlite_engine)
    wave = simulate(sqlite_engine, 60, cap=2, away=2)
    assert (wave.untouched, wave.exchanges, wave.outcomes["extended"]) == (0, 60, 60)
    assert wave.fastest <= 2
    assert wave.passed
