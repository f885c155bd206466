from __future__ import annotations

import logging

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from core.doors.engine import OneLine


def test_a_lost_connection_is_told_once_in_a_while_and_without_a_traceback(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 0.0, 0.1, 29.9, 31.0, 31.0])
    monkeypatch.setattr("core.doors.engine.time.monotonic", lambda: next(seconds))
    log = logging.Logger("queue")
    log.addFilter(OneLine())
    log.addHandler(caplog.handler)
    lost = psycopg.OperationalError("the connection is closed\nwith details")
    for error in (lost, OperationalError("SELECT 1", {}, lost), psycopg.errors.AdminShutdown("it stops"), lost):
        log.error("Flush failed, requeuing %d items", 3, exc_info=error)
    log.warning("something else")
    assert [line.getMessage() for line in caplog.records] == [
        *["connections to the database are lost"] * 2,
        "something else",
    ]
    assert all(line.exc_info is None for line in caplog.records)
    assert vars(caplog.records[0])["error"] == "the connection is closed"


def test_trouble_with_a_statement_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.Logger("queue")
    log.addFilter(OneLine())
    log.addHandler(caplog.handler)
    stuck = psycopg.errors.DeadlockDetected("deadlock detected")
    late = psycopg.errors.QueryCanceled("canceling statement due to statement timeout")
    for error in (stuck, late, OperationalError("UPDATE x", {}, stuck), ValueError("odd")):
        log.error("Exception while processing", exc_info=error)
    assert [line.getMessage() for line in caplog.records] == ["Exception while processing"] * 4
    assert all(line.exc_info for line in caplog.records)
