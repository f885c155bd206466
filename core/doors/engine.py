"""PgQueuer as our engine: on PostgreSQL for workers on any number of machines, in memory on the embedded default."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import psycopg
from pgqueuer import PgQueuer
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.adapters.inmemory import InMemoryQueries
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.ports.driver import NotifyCallback
from sqlalchemy import Engine

from core.store import database
from core.store.database import is_embedded
from core.store.wake import URGENCY, Work, dedupe_key, queue_settings

# Connection exceptions, and a server that shuts down or is not up yet:
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_LOST = ("08", "57P")


def _is_lost(error: BaseException | None) -> bool:
    """Whether this is about the connection and not about a statement; what libpq says by itself has no code."""
    error = getattr(error, "orig", error)
    return isinstance(error, psycopg.OperationalError) and (error.sqlstate or _LOST[0]).startswith(_LOST)


class OneLine(logging.Filter):
    """A lost connection is one line: PgQueuer's tasks and every job that was under way tell of it with a traceback, and
    the worker says it too."""

    QUIET = 30.0  # seconds

    def __init__(self) -> None:
        super().__init__()
        self._told = -self.QUIET

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and _is_lost(error):
            if time.monotonic() - self._told < self.QUIET:
                return False
            self._told = time.monotonic()
            record.msg, record.args, record.exc_info = "connections to the database are lost", None, None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.error = str(error).splitlines()[0]
        return True


logging.getLogger("pgqueuer").addFilter(OneLine())


class Ears(PsycopgDriver):
    """Hears of wake-ups; when it can no longer, the queue's other connection is closed, so that everybody notices."""

    def __init__(self, connection: psycopg.AsyncConnection, other: psycopg.AsyncConnection) -> None:
        super().__init__(connection)
        self._other = other

    async def watch_notifies(self) -> None:
        try:
            await super().watch_notifies()
        except psycopg.OperationalError:
            await self._other.close()
            raise


class TwoConnections(PsycopgDriver):
    """Wake-ups come on a connection of their own: a connection that listens is locked until something comes, for up to
    a second, and on a single one every other statement would wait for that."""

    def __init__(self, connection: psycopg.AsyncConnection, listening: psycopg.AsyncConnection) -> None:
        super().__init__(connection)
        self._ears = Ears(listening, connection)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        await self._ears.add_listener(channel, callback)

    async def remove_listener(self, channel: str, callback: NotifyCallback) -> None:
        await self._ears.remove_listener(channel, callback)

    async def __aenter__(self) -> Self:
        await self._ears.__aenter__()
        return await super().__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await self._ears.__aexit__(*error)
        await super().__aexit__(*error)


@asynccontextmanager
async def open_queue(engine: Engine) -> AsyncIterator[PgQueuer]:
    """The queue for this database; on PostgreSQL with two connections of its own, closed at the end."""
    if is_embedded(engine):
        yield PgQueuer.in_memory()
        return
    async with _connected(engine) as connection, _connected(engine) as listening:
        settings = queue_settings()
        driver = TwoConnections(connection, listening)
        queries = Queries(
            driver,
            qbe=QueryBuilderEnvironment(settings=settings),
            qbq=QueryQueueBuilder(settings=settings),
            qbs=QuerySchedulerBuilder(settings=settings),
        )
        yield PgQueuer(connection=driver, channel=settings.channel, queries=queries)


@asynccontextmanager
async def _connected(engine: Engine) -> AsyncIterator[psycopg.AsyncConnection]:
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, **database.CONNECT) as connection:
        await connection.execute(database.SESSION)
        yield connection


async def forget_log(queue: PgQueuer) -> None:
    """The queue in memory would keep a line for every job it ever ran."""
    if isinstance(queue.queries, InMemoryQueries):
        await queue.queries.clear_queue_log()


async def enqueue(queue: PgQueuer, wanted: list[tuple[Work, str]]) -> None:
    """Ask for work; what is queued or running already is not asked for twice."""
    if not wanted or queue.queries is None:
        return
    await queue.queries.enqueue(
        [str(work) for work, _ in wanted],
        [subject.encode() for _, subject in wanted],
        [URGENCY[work] for work, _ in wanted],
        dedupe_key=[dedupe_key(work, subject) for work, subject in wanted],
        on_conflict="skip",
    )
