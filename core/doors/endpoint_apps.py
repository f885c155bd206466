"""Apps by their public id and by their shop, remembered for two seconds: a hot shop costs no query an event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from core.doors.intake import StoreBusy
from core.store import apps
from core.store.apps import App
from core.store.database import reading

# A change written by anybody to AppSettings is seen after this long.
SECONDS = 2.0
_MOST = 20_000
_LONGEST_KEY = 255

Look = Callable[[Connection, str], App | None]


class Apps:
    """Two lookups with a short memory; unknown names are remembered as well. StoreBusy without a database."""

    def __init__(self, engine: Engine, *, seconds: float = SECONDS) -> None:
        self.engine, self.seconds = engine, seconds
        self._known: dict[tuple[Look, str], tuple[float, App | None]] = {}
        self._unknown: dict[tuple[Look, str], tuple[float, App | None]] = {}
        self._asking: dict[tuple[Look, str], asyncio.Task[App | None]] = {}

    async def by_public_id(self, public_id: str) -> App | None:
        return await self._get(apps.by_public_id, public_id)

    def remembers(self, public_id: str) -> bool:
        """Whether this app was asked for a moment ago and is there."""
        known = self._known.get((apps.by_public_id, public_id))
        return known is not None and known[1] is not None

    async def by_shop(self, domain: str) -> App | None:
        return await self._get(apps.by_shop, domain)

    async def _get(self, look: Look, name: str) -> App | None:
        if len(name) > _LONGEST_KEY:
            return None
        known = self._known.get((look, name)) or self._unknown.get((look, name))
        if known is not None and known[0] > time.monotonic():
            return known[1]
        asking = self._asking.get((look, name))
        if asking is None:
            asking = asyncio.create_task(self._ask(look, name))
            self._asking[look, name] = asking
        # Shielded: the one who hangs up must not take the answer from those who wait beside it.
        return await asyncio.shield(asking)

    async def _ask(self, look: Look, name: str) -> App | None:
        try:
            found = await asyncio.to_thread(self._look, look, name)
        except SQLAlchemyError:
            raise StoreBusy() from None
        finally:
            self._asking.pop((look, name), None)
        # Names that nobody has must not push out those of shops.
        memory = self._known if found is not None else self._unknown
        if len(memory) >= _MOST:
            memory.clear()
        memory[look, name] = (time.monotonic() + self.seconds, found)
        return found

    def _look(self, look: Look, name: str) -> App | None:
        with reading(self.engine) as conn:
            return look(conn, name)
