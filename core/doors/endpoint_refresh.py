"""`POST /api/refresh`: the platform's order to refresh every token of a user, for holders of an API key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from core.doors.endpoint_http import TooLarge, answer, body_of, busy
from core.doors.intake import StoreBusy
from core.errors import BadInput, CoreError, NotFound
from core.inbound.reading import read_object
from core.inbound.values import text
from core.store import api_keys
from core.store.database import reading

log = logging.getLogger("refresh")

BODY_CAP = 64 * 1024
INTENT = "refresh-facebook-token"
SCOPE = "refresh"


class Refresh:
    """`{"intent": "refresh-facebook-token", "userId": …}` with `Authorization: Bearer` or `X-API-Key`."""

    def __init__(
        self, engine: Engine, refresh_user: Callable[[str], int] | None, *, clock: Callable[[], datetime]
    ) -> None:
        self.engine, self.refresh_user, self.clock = engine, refresh_user, clock

    async def __call__(self, request: Request) -> Response:
        try:
            body = await body_of(request, BODY_CAP)
            if not await asyncio.to_thread(self._may, _key(request)):
                return _failed("Unauthorized", 401, {"WWW-Authenticate": "Bearer"})
            order = read_object(body)
        except (SQLAlchemyError, StoreBusy):
            return busy()
        except BadInput as error:
            return _failed(str(error), 413 if isinstance(error, TooLarge) else 400)
        return await self._carry_out(order)

    async def _carry_out(self, order: dict[str, object]) -> Response:
        user = text(order.get("userId"))
        if order.get("intent") != INTENT or user is None:
            return _failed("Invalid intent" if user else "Missing required fields", 400)
        if self.refresh_user is None:
            return _failed("Tokens cannot be refreshed from here", 503)
        try:
            count = await asyncio.to_thread(self.refresh_user, user)
        except NotFound:
            return _failed("User not found", 404)
        except SQLAlchemyError:
            return busy()
        except CoreError as error:
            return _failed(str(error), 502)
        return answer({"success": True, "message": f"Successfully refreshed {count} token(s)"})

    def _may(self, key: str | None) -> bool:
        if not key:
            return False
        with reading(self.engine) as conn:
            return api_keys.check(conn, key, SCOPE) is not None


def _key(request: Request) -> str | None:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key")


def _failed(words: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return answer({"success": False, "error": words}, status, headers)
