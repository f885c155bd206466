"""`/api/track`: the storefront's tracking contract, answered after the commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from core.doors.endpoint_apps import Apps
from core.doors.endpoint_http import TooLarge, answer, body_of, busy, cors, image, preflight, visit
from core.doors.intake import Entry, Intake, StoreBusy
from core.errors import BadInput, CoreError, NotFound, Refused
from core.inbound import track
from core.inbound.policy import Network, origin_allowed
from core.inbound.reading import read_base64_object, read_object
from core.store.acceptance import NewEvent

log = logging.getLogger("track")

BODY_CAP = 64 * 1024


class Track:
    """The route's handler; one for a process."""

    def __init__(
        self, apps: Apps, intake: Intake, *, trusted: Sequence[Network], clock: Callable[[], datetime]
    ) -> None:
        self.apps, self.intake, self.trusted, self.clock = apps, intake, trusted, clock

    async def __call__(self, request: Request) -> Response:
        match request.method:
            case "POST":
                return await self.post(request)
            case "OPTIONS":
                return preflight(request)
            case "GET":
                return await self.get(request)
        return image()  # HEAD: nothing happened

    async def post(self, request: Request) -> Response:
        headers = cors(request)
        try:
            call = track.read_call(read_object(await body_of(request, BODY_CAP)))
            event, new = await self._accept(call, request)
        except StoreBusy:
            return busy(headers)
        except CoreError as error:
            return answer({"error": str(error)}, _status(error), headers)
        return answer(accepted(event, new), headers=headers)

    async def get(self, request: Request) -> Response:
        """The image fallback: always a picture, since nobody reads another answer."""
        try:
            query = request.query_params
            body = read_base64_object(query["d"]) if "d" in query else {}
            if "e" in query and not body.get("eventName"):
                body["eventName"] = query["e"]
            await self._accept(track.read_call(body), request)
        except CoreError as error:
            log.debug("an image call was not taken", extra={"reason": type(error).__name__})
        return image()

    async def _accept(self, call: track.Call, request: Request) -> tuple[NewEvent, bool]:
        app = await self.apps.by_public_id(call.app_id)
        if app is None:
            raise NotFound("App not found")
        if not origin_allowed(app, request.headers.get("origin"), call.url):
            raise Refused("Origin not allowed")
        event = track.to_event(app, call, visit(request, self.trusted), now=self.clock())
        return event, (await self.intake.write(Entry((event,))))[0]


def accepted(event: NewEvent, new: bool) -> dict[str, object]:
    """The platform's answer, with our counts beside it."""
    reason = event.skipped if new else "duplicate"
    dropped = [{"i": 0, "reason": reason}] if reason else []
    return {"success": True, "eventId": event.event_id, "accepted": 0 if reason else 1, "dropped": dropped}


def _status(error: CoreError) -> int:
    if isinstance(error, TooLarge):
        return 413
    if isinstance(error, BadInput):
        return 400
    return 404 if isinstance(error, NotFound) else 403 if isinstance(error, Refused) else 503
