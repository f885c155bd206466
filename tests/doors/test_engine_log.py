from __future__ import annotations

import logging

import psycopg
import pytest

from core.doors.engine import OneLine


def test_a_lost_connection_is_told_once_in_a_while_and_without_a_traceback(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 0.0, 0.1, 29.9, 31.0, 31.0])
    monkeypatch.setattr("core.doors.engine.time.monotonic", lambda: next(seconds))
    log = logging.Logger("queue")
    log.addFilter(OneLine())
    log.addHandler(caplog.handler)
    for _ in range(4):
        try:
            raise psycopg.OperationalError("the connection is closed\nwith details")
        except psycopg.OperationalError:
            log.exception("Flush failed, requeuing %d items", 3)
    log.warning("something else")
    assert [line.getMessage() for line in caplog.records] == [
        *["the queue's connection is lost"] * 2,
        "something else",
    ]
    assert all(line.exc_info is None for line in caplog.records)
    assert vars(caplog.records[0])["error"] == "the connection is closed"
