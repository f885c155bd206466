"""A peer that is gone without a word is missed: by us of the database, by the database of us."""

from __future__ import annotations

import socket
import sys
import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from core.store import database
from core.store.database import CONNECT, open_engine, reading, writing
from tests.drills.relay import relay


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such option: see sys.platform")
def test_a_silent_database_is_given_up_after_twenty_seconds(postgres_url: str) -> None:
    with relay(postgres_url) as wire:
        engine = open_engine(wire.url)
        with engine.connect() as conn:
            wired = socket.socket(fileno=conn.connection.driver_connection.fileno())  # type: ignore[union-attr]
            asked = {
                "tcp_user_timeout": wired.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                "keepalives_idle": wired.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                "keepalives_interval": wired.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
                "keepalives_count": wired.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
            }
            wired.detach()
        engine.dispose()
    assert asked == {name: CONNECT[name] for name in asked}, sys.platform


def test_a_writer_that_stands_still_holds_its_locks_half_a_minute_at_most(postgres_url: str) -> None:
    """The server ends it; what it had begun is undone, and the next one need not wait for ever."""
    engine = open_engine(postgres_url)

    def stand_still() -> None:
        with writing(engine) as conn:
            conn.execute(text("SET LOCAL idle_in_transaction_session_timeout = 100"))
            conn.execute(text("INSERT INTO capi_pixel (pixel_id) VALUES ('1')"))
            time.sleep(0.5)
            conn.execute(text("SELECT 1"))

    with pytest.raises(OperationalError):  # as when the database is away
        stand_still()
    with writing(engine) as conn:
        assert conn.scalar(text("SELECT count(*) FROM capi_pixel")) == 0
    engine.dispose()


def test_a_reader_may_take_his_time(postgres_url: str) -> None:
    engine = open_engine(postgres_url)
    with reading(engine) as conn:
        assert conn.scalar(text("SHOW idle_in_transaction_session_timeout")) == "0"
    with writing(engine) as conn:
        assert conn.scalar(text("SHOW idle_in_transaction_session_timeout")) == "30s"
    engine.dispose()


def test_a_connection_that_has_rested_is_asked_before_it_is_used(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ended it meanwhile. One that was used a moment ago is not asked: what it meets is an error, once."""
    engine, other = open_engine(postgres_url), open_engine(postgres_url)

    def ended() -> None:
        with writing(engine) as conn:
            pid = conn.scalar(text("SELECT pg_backend_pid()"))
        with writing(other) as conn:
            assert conn.scalar(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    def used() -> int:
        with writing(engine) as conn:
            return int(conn.scalar(text("SELECT 1")) or 0)

    monkeypatch.setattr(database, "_RESTED", 3_600.0)
    ended()
    with pytest.raises(OperationalError):
        used()
    assert used() == 1
    monkeypatch.setattr(database, "_RESTED", 0.0)
    ended()
    assert used() == 1
    engine.dispose()
    other.dispose()
