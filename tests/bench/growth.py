"""B3: what the work and the console cost with ten thousand and with millions of stored events."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from sqlalchemy import Connection, Engine, select

from core import clock
from core.store import outbox, ready
from core.store.database import open_engine, reading, writing
from core.store.schema import capi_outbox
from tests.bench import pages, places, stored
from tests.bench.report import Rounds, Row, interleaved

SIZES = (10_000, 1_000_000, 5_000_000)
SHORT = (10_000, 60_000)
APPS, ROUNDS, BATCH = 600, 15, 500
AIM = "≤ 1.5"

Work = Callable[[Engine, datetime], object]


class _Undone(Exception):
    """Ends a transaction whose work must not stay."""


def run(*, short: bool) -> list[Row]:
    rows: list[Row] = []
    for name, made in places.DATABASES.items():
        with made() as new:
            engines = {size: _filled(new(), size) for size in (SHORT if short else SIZES)}
            rows += _measured(name, engines, 3 if short else ROUNDS)
            for engine in engines.values():
                engine.dispose()
    return rows


def _filled(url: str, size: int) -> Engine:
    engine = open_engine(url)
    stored.fill(engine, now=clock.now(), apps=APPS, events=size)
    return engine


def _measured(database: str, engines: dict[int, Engine], rounds: int) -> list[Row]:
    now = clock.now()
    smallest, *larger = engines
    rows: list[Row] = []
    for what, work in WORK.items():

        def timed(engine: Engine, work: Work = work) -> float:
            started = time.perf_counter()
            work(engine, now)
            return (time.perf_counter() - started) * 1000

        for engine in engines.values():
            timed(engine)  # what is read for the first time is not what grows
        found: Rounds = interleaved(
            rounds,
            {f"{size:,}": lambda engine=engine: timed(engine) for size, engine in engines.items()},  # type: ignore[misc]
        )
        base = f"{smallest:,}"
        for size in larger:
            aim = AIM if size == max(engines) else ""
            note = f"{size:,} stored events"
            rows.append(found.row(what, f"{size:,}", "ms", on=database, against=base, aim=aim, note=note))
    return rows


def _claim(engine: Engine, now: datetime) -> None:
    with reading(engine) as conn:
        pixels = ready.pixels(conn, now=now)
        assert ready.take(conn, pixels[0], now=now, count=BATCH, size=800_000)


def _undone(engine: Engine, work: Callable[[Connection], None]) -> None:
    with suppress(_Undone), writing(engine) as conn:
        work(conn)
        raise _Undone


def _moved(state: str, verb: str) -> Work:
    def move(engine: Engine, now: datetime) -> None:
        changes = {"delivered_at": now} if verb == "deliver" else {"next_attempt_at": now}

        def work(conn: Connection) -> None:
            o = capi_outbox.c
            ids = conn.scalars(select(o.id).where(o.state == state).order_by(o.id).limit(BATCH)).all()
            assert len(ids) == BATCH
            outbox.move(conn, verb, ids, **changes)

        _undone(engine, work)

    return move


def _looked(look: Callable[[Connection, datetime], object]) -> Work:
    def work(engine: Engine, now: datetime) -> None:
        with reading(engine) as conn:
            look(conn, now)

    return work


WORK: dict[str, Work] = {
    "claim a batch": _claim,
    f"drain {BATCH} events": _moved("due", "deliver"),
    f"retry {BATCH} events": _moved("dead", "retry"),
    **{f"page {name}": _looked(look) for name, look in pages.DATA.items()},
}
