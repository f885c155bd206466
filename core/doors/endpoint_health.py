"""`/healthz`: the process lives. `/readyz`: it can do its work, or words why not."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from core.doors.endpoint_http import answer
from core.errors import CoreError
from core.store import migrate
from core.store.database import reading

log = logging.getLogger("health")

_PATIENCE = 3.0


async def healthz(_request: Request) -> Response:
    return answer({"status": "ok"})


class Readiness:
    """Whether the database answers and has the tables this program was written for."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def __call__(self, _request: Request) -> Response:
        try:
            async with asyncio.timeout(_PATIENCE):
                problem = await asyncio.to_thread(self._problem)
        except (SQLAlchemyError, CoreError, TimeoutError, OSError) as error:
            log.warning("the database cannot be used", extra={"error": type(error).__name__})
            problem = "the database cannot be reached"
        if problem:
            return answer({"status": "unavailable", "reason": problem}, 503)
        return answer({"status": "ready"})

    def _problem(self) -> str | None:
        with reading(self.engine) as conn:
            at = migrate.current(conn)
        return None if migrate.serves(at) else "the database is not migrated: run `capi-console migrate`"
