"""A newer token is never replaced by an older one, whoever comes between whom: the short form."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from core.drills.timelapse import hasten
from core.store import database
from tests.services.interleavings import machine, set_up


@pytest.mark.parametrize(("database_url", "examples"), [("sqlite", 30), ("postgresql", 6)], indirect=["database_url"])
def test_no_interleaving_replaces_a_newer_token_or_leaves_an_event_behind(database_url: str, examples: int) -> None:
    engine = database.open_engine(database_url)
    hasten(engine)
    logging.disable(logging.CRITICAL)
    short = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # the long form makes what it finds small
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine(engine, set_up(engine)), settings=short)
    logging.disable(logging.NOTSET)
    engine.dispose()
