"""`/api/track`: the storefront's tracking contract, answered after the commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from core.doors.endpoint_apps import Apps
from core.doors.endpoint_http import (
    Incoming,
    TooLarge,
    TooOften,
    answer,
    body_of,
    busy,
    cors,
    image,
    preflight,
    visit,
)
from core.doors.intake import Entry, Intake, StoreBusy
from core.doors.sampling import Lately, Sampler
from core.errors import BadInput, CoreError, NotFound, Refused
from core.inbound import track
from core.inbound.policy import Network, origin_allowed
from core.inbound.rates import Rates
from core.inbound.reading import clean, read_base64_object, read_object
from core.store.acceptance import NewEvent
from core.store.apps import App
from core.store.visitors import Visitor

log = logging.getLogger("track")
Json = dict[str, Any]

BODY_CAP = 64 * 1024
# A browser that says the same of itself need not be written at each of its clicks.
_REMEMBERED = 600.0


class OtherOrigin(Refused):
    """Origin not allowed"""

    def __init__(self, app_id: str) -> None:
        super().__init__()
        self.app_id = app_id


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call that is not taken is answered, and what its receipt says; most exact error first in the table."""

    error: type[CoreError]
    status: int
    reason: str | None


REFUSALS = (
    Refusal(TooLarge, 413, "too_large"),
    Refusal(TooOften, 429, "rate_limited"),
    Refusal(OtherOrigin, 403, "other_origin"),
    Refusal(NotFound, 404, "unknown_app"),
    Refusal(track.MissingFields, 400, track.MISSING_FIELDS),
    Refusal(track.TooMany, 400, "too_many"),
    Refusal(BadInput, 400, "unreadable"),
    Refusal(CoreError, 503, None),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of each event of a call: its id where it has one, and the reason where it was dropped."""

    ids: list[str | None]
    reasons: list[str | None]


class Track:
    """The route's ASGI app; one for a process."""

    def __init__(
        self,
        apps: Apps,
        intake: Intake,
        *,
        trusted: Sequence[Network],
        rates: Rates,
        clock: Callable[[], datetime],
    ) -> None:
        self.apps, self.intake, self.trusted, self.rates, self.clock = apps, intake, trusted, rates, clock
        self.worth_noting, self.lately = Sampler(), Lately(_REMEMBERED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(scope["method"], Incoming(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, method: str, request: Incoming) -> Response:
        match method:
            case "POST":
                return await self.post(request)
            case "OPTIONS":
                return preflight(request)
            case "GET":
                return await self.get(request)
        return image()  # HEAD: nothing happened

    async def post(self, request: Incoming) -> Response:
        headers = cors(request)

        async def read() -> Json:
            return read_object(await body_of(request, BODY_CAP))

        try:
            return answer(_told(await self._take(request, read)), headers=headers)
        except StoreBusy:
            return busy(headers)
        except CoreError as error:
            wait = {"Retry-After": str(error.wait)} if isinstance(error, TooOften) else {}
            return answer({"error": str(error)}, _refusal(error).status, headers | wait)

    async def get(self, request: Incoming) -> Response:
        """The image fallback: always a picture, since nobody reads another answer."""

        async def read() -> Json:
            query = QueryParams(request.scope["query_string"])
            body = read_base64_object(query["d"]) if "d" in query else {}
            return body if body.get("eventName") or "e" not in query else body | {"eventName": clean(query["e"])}

        try:
            await self._take(request, read)
        except CoreError as error:
            log.debug("an image call was not taken", extra={"reason": type(error).__name__})
        return image()

    async def _take(self, request: Incoming, read: Callable[[], Awaitable[Json]]) -> Outcome:
        try:
            return await self._accept(track.read_calls(await read()), request)
        except CoreError as error:
            refusal = _refusal(error)
            await self._note(getattr(error, "app_id", None), refusal.reason, refusal.status)
            raise

    async def _accept(self, calls: list[track.Call | None], request: Incoming) -> Outcome:
        readable = [call for call in calls if call is not None]
        seen, public_id = visit(request, self.trusted), readable[0].app_id
        if not self.apps.remembers(public_id):
            _slow_down(self.rates.wait_guess(seen.address, now=time.monotonic()))
        app = await self.apps.by_public_id(public_id)
        if app is None:
            self.rates.guessed_wrong(seen.address, now=time.monotonic())
            raise NotFound("App not found")
        # Before it is counted: pages of others use up nothing of what this app may send.
        if not origin_allowed(app, request.headers.get("origin"), readable[0].url):
            raise OtherOrigin(app.id)
        _slow_down(self.rates.wait(app.id, seen.address, events=len(readable), now=time.monotonic()), app.id)
        if len(readable) < len(calls):
            await self._note(app.id, track.MISSING_FIELDS, 200)
        return await self._write(app, calls, seen)

    async def _write(self, app: App, calls: list[track.Call | None], seen: track.Visit) -> Outcome:
        now = self.clock()
        taken = [None if call is None else track.take(app, call, seen, now=now) for call in calls]
        visitors = [one for found in taken if found for one in found.visitors if self._worth_writing(one)]
        events = [found.event for found in taken if found]
        new = iter(await self.intake.write(Entry(events, visitors=visitors)))
        for one in visitors:
            self.lately.note(_key(one), one)
        reasons = [track.MISSING_FIELDS if found is None else _reason(found.event, next(new)) for found in taken]
        return Outcome([found.event.event_id if found else None for found in taken], reasons)

    def _worth_writing(self, one: Visitor) -> bool:
        """Not what was written a moment ago; but a no always, since another process may have written a yes since."""
        denies = one.marketing is False or one.sale_of_data is False
        return denies or not self.lately.has(_key(one), one)

    async def _note(self, app_id: str | None, reason: str | None, status: int) -> None:
        """A receipt for some of what was refused."""
        if reason is not None and self.worth_noting((app_id, reason)):
            receipt: Json = {"source": "track", "reason": reason, "status": status, "app_id": app_id}
            await self.intake.write(Entry(receipts=(receipt,)))


def accepted(event: NewEvent, new: bool) -> dict[str, object]:
    """The platform's answer for one event, with our counts beside it."""
    return _told(Outcome([event.event_id], [_reason(event, new)]))


def _told(outcome: Outcome) -> dict[str, object]:
    dropped = [{"i": i, "reason": reason} for i, reason in enumerate(outcome.reasons) if reason]
    told: dict[str, object] = {
        "success": True,
        "eventId": next(id_ for id_ in outcome.ids if id_),
        "accepted": len(outcome.ids) - len(dropped),
        "dropped": dropped,
    }
    return told if len(outcome.ids) == 1 else told | {"eventIds": outcome.ids}


def _reason(event: NewEvent, new: bool) -> str | None:
    return event.skipped if new else "duplicate"


def _key(one: Visitor) -> tuple[str, str, str]:
    return one.app_id, one.kind, one.key


def _slow_down(wait: int | None, app_id: str | None = None) -> None:
    if wait is not None:
        raise TooOften(wait, app_id)


def _refusal(error: CoreError) -> Refusal:
    return next(one for one in REFUSALS if isinstance(error, one.error))
