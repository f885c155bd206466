"""Transactions that touch the same rows at once wait for each other; none is chosen as a deadlock's victim."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select, text

from core.store import acceptance, outbox
from core.store.acceptance import NewEvent
from core.store.database import LOCK_ORDER, writing
from core.store.schema import capi_event, capi_outbox
from tests.lock_order import LockOrder

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ROUNDS, EVENTS = 15, 60


def _events(round_: int) -> list[NewEvent]:
    ends = NOW + timedelta(days=7)
    return [
        NewEvent("app", "900", "PageView", f"{round_}-{n}", "track", NOW, ends, b"{}", skipped=None)
        for n in range(EVENTS)
    ]


def _together(*works: Callable[[], object]) -> None:
    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(work) for work in works]:
            done.result()


def test_the_same_events_taken_by_two_endpoints_in_opposite_order_are_stored_once(engine: Engine) -> None:
    def take(events: list[NewEvent]) -> None:
        with writing(engine) as conn:
            acceptance.accept(conn, events, now=NOW)

    for round_ in range(ROUNDS):
        events = _events(round_)
        _together(lambda events=events: take(events), lambda events=events: take(events[::-1]))  # type: ignore[misc]
    with engine.connect() as conn:
        assert len(conn.execute(select(capi_event.c.id)).all()) == ROUNDS * EVENTS
        assert len(conn.execute(select(capi_outbox.c.id)).all()) == ROUNDS * EVENTS


def test_release_and_expiry_of_the_same_parked_events_leave_each_in_one_state(engine: Engine) -> None:
    with writing(engine) as conn:
        for round_ in range(ROUNDS):
            acceptance.accept(conn, _events(round_), now=NOW + timedelta(milliseconds=round_))
        ids = list(conn.scalars(select(capi_event.c.id)))
        outbox.move(conn, "park", ids, parked_by="fp_old", failure="token_expired")

    def again(once: Callable[[], int]) -> None:
        while once():
            pass

    def release() -> int:
        with writing(engine) as conn:
            return outbox.release(conn, ["app"], "fp_old", now=NOW)

    def expire() -> int:
        try:
            with writing(engine) as conn:
                return outbox.expire(conn, now=NOW + timedelta(days=8))
        except outbox.Conflict:  # released a moment ago: looked at once more
            return 1

    _together(lambda: again(release), lambda: again(release), lambda: again(expire))
    with engine.connect() as conn:
        assert {state for (state,) in conn.execute(select(capi_event.c.state))} <= {"due", "dead"}
        unequal = "SELECT count(*) FROM capi_event e JOIN capi_outbox o ON o.id = e.id WHERE o.state <> e.state"
        assert conn.scalar(text(unequal)) == 0


def test_the_watch_sees_a_broken_order(sqlite_engine: Engine) -> None:
    order = LockOrder()
    order.watch(sqlite_engine)
    pixel, token = (
        text(f"DELETE FROM {table} WHERE {key} = 'x'")
        for table, key in (("capi_pixel", "pixel_id"), ("capi_token", "fingerprint"))
    )
    with writing(sqlite_engine) as conn:
        conn.execute(pixel)
        conn.execute(token)
    assert order.broken == []
    with writing(sqlite_engine) as conn:
        conn.execute(token)
        conn.execute(pixel)
    assert len(order.broken) == 1
    assert LOCK_ORDER.index("capi_pixel") < LOCK_ORDER.index("capi_token")


@pytest.mark.parametrize("table", LOCK_ORDER)
def test_the_order_names_tables_that_exist(sqlite_engine: Engine, table: str) -> None:
    with sqlite_engine.connect() as conn:
        assert conn.execute(text(f'SELECT count(*) FROM "{table}"')).scalar_one() == 0
