"""Group commit: what waits is written in one transaction, then everybody is answered.

A commit costs a disk's flush; shared by the requests of two milliseconds it costs each of them little. On SQLite the
group is written on the event loop itself (a thread would fight for the interpreter's lock at every row), on PostgreSQL
in a thread. While another process holds SQLite's write lock it is asked for again and again, every few milliseconds:
SQLite's own patience sleeps up to a tenth of a second at a time, and a busy worker would always be there first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError, StatementError

from core import failpoints
from core.errors import BadInput, StoreError
from core.store import acceptance, receipts, visitors
from core.store.acceptance import NewEvent
from core.store.database import is_embedded
from core.store.visitors import Visitor

log = logging.getLogger("intake")

LINGER = 0.002
GROUP = 500
BACKLOG = 5_000
# A call of a few hundred bytes may be twenty events of many kilobytes each, by what they share.
BACKLOG_BYTES = 64 * 1024 * 1024
# Shopify hangs up after 5 seconds: whoever waits longer than this hears "later" instead.
PATIENCE = 4.0
_LOOK = 0.1
_LOCK_WAIT, _LOCK_LOOK = 1.5, 0.001
_TRIES = 3
# Data, integrity, program limits: https://www.postgresql.org/docs/current/errcodes-appendix.html
_ABOUT_THE_ROW = ("22", "23", "54")
_LOST_RACE = "40"


class StoreBusy(StoreError):
    """Service unavailable"""


class Unstorable(BadInput):
    """The values cannot be stored"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one request wants written: its events, receipts as keyword arguments of `receipts.record`, the browsers
    it showed, and whatever else belongs into the same transaction."""

    events: Sequence[NewEvent] = ()
    receipts: Sequence[dict[str, Any]] = ()
    visitors: Sequence[Visitor] = ()
    also: Sequence[Callable[[Connection, datetime], None]] = ()


@dataclass(slots=True)
class _Waiting:
    entry: Entry
    size: int
    since: float
    answer: asyncio.Future[list[bool]] = field(repr=False)


class Intake:
    """The one writer of an endpoint process. `start` and `stop` belong to the event loop's lifespan."""

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], datetime],
        linger: float = LINGER,
        group: int = GROUP,
        backlog: int = BACKLOG,
        backlog_bytes: int = BACKLOG_BYTES,
    ) -> None:
        self.engine, self.clock, self.linger, self.group = engine, clock, linger, group
        self.backlog, self.backlog_bytes = backlog, backlog_bytes
        self._waiting: deque[_Waiting] = deque()
        self._in_hand: list[_Waiting] = []
        self._bytes = 0
        self._connection: Connection | None = None
        self._writer: asyncio.Task[None] | None = None
        self._bell = asyncio.Event()
        self.groups = 0
        self.written = 0

    async def start(self) -> None:
        self._thread = ThreadPoolExecutor(1, "intake")
        self._bell = asyncio.Event()
        self._writer = asyncio.create_task(self._run(), name="intake")
        self._watch = asyncio.create_task(self._refuse_late(), name="intake's patience")

    async def stop(self) -> None:
        """Write what still waits, then close."""
        while self._waiting and self._writer is not None and not self._writer.done():
            await asyncio.sleep(self.linger)
        if self._writer is not None:
            self._writer.cancel()
            self._watch.cancel()
            await asyncio.gather(self._writer, self._watch, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)
        self._drop()

    async def write(self, entry: Entry) -> list[bool]:
        """True for each event that is new, once everything is committed.

        StoreBusy when it cannot be written now, Unstorable when the database will never take it.
        """
        size = sum(len(event.payload) for event in entry.events)
        full = len(self._waiting) >= self.backlog or self._bytes + size > self.backlog_bytes
        if full or self._writer is None or self._writer.done():
            raise StoreBusy()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(entry, size, loop.time(), loop.create_future())
        self._waiting.append(waiting)
        self._bytes += size
        self._bell.set()
        return await waiting.answer

    async def _refuse_late(self) -> None:
        """Who has waited for too long hears so: one watch for all is cheaper than a timer for each."""
        while True:
            await asyncio.sleep(_LOOK)
            late = asyncio.get_running_loop().time() - PATIENCE
            for waiting in self._in_hand:
                if waiting.since <= late:
                    _refuse(waiting, StoreBusy())
            while self._waiting and self._waiting[0].since <= late:
                waiting = self._waiting.popleft()
                self._bytes -= waiting.size
                _refuse(waiting, StoreBusy())

    @property
    def backed_up(self) -> int:
        """How many requests wait for their commit."""
        return len(self._waiting)

    async def _run(self) -> None:
        while True:
            await self._bell.wait()
            if len(self._waiting) < self.group:
                await asyncio.sleep(self.linger)
            batch = self._group()
            if not self._waiting:
                self._bell.clear()
            self._in_hand = [waiting for waiting in batch if not waiting.answer.done()]
            await self._settle(self._in_hand)
            self._in_hand = []
            self._bytes -= sum(waiting.size for waiting in batch)

    def _group(self) -> list[_Waiting]:
        """Who waits longest, as long as they bring together no more than a group's worth of events."""
        batch: list[_Waiting] = []
        room = self.group
        while self._waiting and room > 0:
            batch.append(self._waiting.popleft())
            room -= max(1, len(batch[-1].entry.events))
        return batch

    async def _settle(self, batch: list[_Waiting]) -> None:
        try:
            answers = await self._insist([waiting.entry for waiting in batch]) if batch else []
        except Exception as error:
            await self._settle_failed(batch, error)
            return
        for waiting, answer in zip(batch, answers, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(answer)

    async def _settle_failed(self, batch: list[_Waiting], error: Exception) -> None:
        """Nobody can write: all hear so. One row cannot be written: the others are, one by one."""
        if is_away(error):
            log.error("events could not be stored, the store is away", extra={"requests": len(batch), **_why(error)})
            for waiting in batch:
                _refuse(waiting, StoreBusy())
            return
        for waiting in batch:
            try:
                answer = (await self._insist([waiting.entry]))[0]
            except Exception as own:
                log.error("a request could not be stored", extra=_why(own))
                _refuse(waiting, Unstorable() if is_bad_row(own) else StoreBusy())
            else:
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)

    async def _insist(self, entries: list[Entry]) -> list[list[bool]]:
        """Again when an id was taken (they are drawn anew, `core.store.acceptance.new_ids`) or a deadlock was lost."""
        for _ in range(_TRIES - 1):
            try:
                return await self._commit(entries)
            except (IntegrityError, OperationalError) as error:
                # Not what is locked: that was waited for, and who asked will not wait once more.
                if not isinstance(error, IntegrityError) and _class_of(error) != _LOST_RACE:
                    raise
        return await self._commit(entries)

    async def _commit(self, entries: list[Entry]) -> list[list[bool]]:
        loop = asyncio.get_running_loop()
        if not is_embedded(self.engine):
            return await loop.run_in_executor(self._thread, self._write, entries)
        give_up = loop.time() + _LOCK_WAIT
        while True:
            try:
                return self._write(entries)
            except OperationalError as error:
                if not _is_locked(error) or loop.time() > give_up:
                    raise
            await asyncio.sleep(_LOCK_LOOK)

    def _write(self, entries: list[Entry]) -> list[list[bool]]:
        now = self.clock()
        events = [event for entry in entries for event in entry.events]
        try:
            conn = self._connected()
            with conn.begin():
                new = iter(acceptance.accept(conn, events, now=now))
                visitors.remember(conn, [one for entry in entries for one in entry.visitors], now=now)
                for entry in entries:
                    for receipt in entry.receipts:
                        receipts.record(conn, **receipt, now=now)
                    for more in entry.also:
                        more(conn, now)
                failpoints.hit("intake.before_commit")
            failpoints.hit("intake.after_commit")
        except Exception as error:
            # A lock that somebody else holds says nothing against our connection.
            if not (isinstance(error, OperationalError) and _is_locked(error)):
                self._drop()
            raise
        self.groups += 1
        self.written += len(entries)
        return [[next(new) for _ in entry.events] for entry in entries]

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self.engine.connect().execution_options(capi_writes=True)
            if is_embedded(self.engine):
                self._connection.connection.cursor().execute("PRAGMA busy_timeout=0")
        return self._connection

    def _drop(self) -> None:
        conn, self._connection = self._connection, None
        if conn is None:
            return
        try:
            conn.invalidate()  # its patience differs from the pool's
            conn.close()
        except SQLAlchemyError as error:
            log.warning("a connection did not close", extra=_why(error))


def is_away(error: Exception) -> bool:
    """Whether the database as a whole cannot be used: unreachable, locked, full, read-only."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if _class_of(error):
        return _class_of(error) not in _ABOUT_THE_ROW
    return isinstance(error, OperationalError | StoreError | TimeoutError | OSError) or type(error) is SQLAlchemyError


def is_bad_row(error: Exception) -> bool:
    """Whether the database will never take these values."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError) or _class_of(error) in _ABOUT_THE_ROW
    return isinstance(error, StatementError | ValueError | TypeError | OverflowError)


def _class_of(error: Exception) -> str:
    """PostgreSQL's class of the error, empty elsewhere: psycopg calls a value too long for an index operational."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")[:2]


def _is_locked(error: OperationalError) -> bool:
    return "locked" in str(error.orig) or "busy" in str(error.orig)


def _refuse(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)


def _why(error: Exception) -> dict[str, str]:
    """The kind of error and the driver's first line; never the statement's values."""
    words = str(error.orig).splitlines() if isinstance(error, DBAPIError) else []
    return {"error": type(error).__name__, "words": words[0][:200] if words else ""}
