"""Turns at what is slow on purpose: so many at once, so many more in line, and who comes then is sent away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

T = TypeVar("T")


class Busy(Exception):
    """The line is full; nothing was done"""


class Turns:
    """Who waits here holds none of the threads that everything else on the server shares."""

    def __init__(self, at_once: int, *, in_line: int) -> None:
        self._most, self._held = at_once + in_line, 0
        self._free = asyncio.Semaphore(at_once)

    async def take(self, work: Callable[[], T]) -> T:
        """What `work` comes to, in a thread; Busy, and what it raises."""
        if self._held >= self._most:
            raise Busy
        self._held += 1
        try:
            async with self._free:
                return await run_in_threadpool(work)
        finally:
            self._held -= 1
