"""PgQueuer as our engine: on PostgreSQL for workers on any number of machines, in memory on the embedded default."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from pgqueuer import PgQueuer
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.adapters.inmemory import InMemoryQueries
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from sqlalchemy import Engine

from core.store.database import is_embedded
from core.store.wake import URGENCY, Work, dedupe_key, queue_settings


@asynccontextmanager
async def open_queue(engine: Engine) -> AsyncIterator[PgQueuer]:
    """The queue for this database; on PostgreSQL with a connection of its own, closed at the end."""
    if is_embedded(engine):
        yield PgQueuer.in_memory()
        return
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(
        url, autocommit=True, connect_timeout=5, application_name="capi-console"
    ) as connection:
        settings = queue_settings()
        driver = PsycopgDriver(connection)
        queries = Queries(
            driver,
            qbe=QueryBuilderEnvironment(settings=settings),
            qbq=QueryQueueBuilder(settings=settings),
            qbs=QuerySchedulerBuilder(settings=settings),
        )
        yield PgQueuer(connection=driver, channel=settings.channel, queries=queries)


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
