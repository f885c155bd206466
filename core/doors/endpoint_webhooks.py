"""`/webhooks/…`: Shopify's deliveries. 401 for a bad signature, 503 without a database, else always 200.

Shopify deletes a subscription after eight refusals in a row, so whatever a genuine delivery lacks is answered with
200 and noted as a receipt (https://shopify.dev/docs/apps/build/webhooks/subscribe).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.doors.endpoint_apps import Apps
from core.doors.endpoint_http import Gone, TooLarge, answer, body_of, busy
from core.doors.endpoint_track import accepted
from core.doors.intake import Entry, Intake, StoreBusy, Unstorable
from core.errors import BadInput
from core.inbound import shopify, shopify_events
from core.inbound.reading import WEBHOOK_DEPTH, read_object
from core.secret import Secret
from core.store.apps import App

log = logging.getLogger("webhooks")

BODY_CAP = 5 * 1024 * 1024
# Receipts of deliveries that nobody signed, a second: strangers must not fill the disk.
_STRANGERS = 5


class Webhooks:
    """The handler of every topic; one for a process."""

    def __init__(self, apps: Apps, intake: Intake, *, secrets: Sequence[Secret], clock: Callable[[], datetime]) -> None:
        self.apps, self.intake, self.secrets, self.clock = apps, intake, secrets, clock
        self._warned = False
        self._second, self._noted = 0, 0

    def of(self, topic: str) -> Callable[[Request], Any]:
        """The route of one topic."""

        async def handle(request: Request) -> Response:
            try:
                return await self._receive(request, topic)
            except StoreBusy:
                return busy()

        return handle

    async def _receive(self, request: Request, route: str) -> Response:
        try:
            body = await body_of(request, BODY_CAP)
        except TooLarge as error:
            return answer({"error": str(error)}, 413)
        except Gone as error:
            return answer({"error": str(error)}, 400)
        if not self._signed(request, body):
            await self._note_stranger(route)
            return answer({"error": "Unauthorized"}, 401)
        try:
            sent = shopify.delivery(request.headers)
        except shopify.MissingHeaders as error:
            return answer({"error": str(error)}, 400)
        return await self._take(body, sent, route)

    def _signed(self, request: Request, body: bytes) -> bool:
        if not self.secrets and not self._warned:
            self._warned = True
            log.warning(
                "webhooks are refused because SHOPIFY_API_SECRET is not set: "
                "put the client secret of your Shopify app there"
            )
        signatures = [line for name in shopify.SIGNATURE_HEADERS for line in request.headers.getlist(name)]
        index = shopify.signed_by(body, signatures, self.secrets)
        if index is not None and index > 0:
            log.info("a webhook was signed with the second secret", extra={"secret": index + 1})
        return index is not None

    async def _take(self, body: bytes, sent: shopify.Delivery, route: str) -> Response:
        now = self.clock()
        app = await self.apps.by_shop(sent.shop)
        topic = sent.topic or route
        reason = _unwanted(app, sent, topic, route, now)
        if reason is not None or app is None:
            return await self._set_aside(route, reason or "unknown_shop", sent, app)
        try:
            payload = read_object(body, depth=WEBHOOK_DEPTH)
            event = shopify_events.to_event(app, topic, payload, sent, now=now)
            new = (await self.intake.write(Entry((event,))))[0]
        except BadInput as error:
            return await self._set_aside(topic, _REASONS.get(type(error), "broken_json"), sent, app)
        return answer(accepted(event, new))

    async def _set_aside(self, source: str, reason: str, sent: shopify.Delivery, app: App | None) -> Response:
        """Answered with 200, kept as a receipt that says why."""
        receipt = {
            "source": source,
            "reason": reason,
            "status": 200,
            "app_id": app.id if app else None,
            "shop_domain": sent.shop,
            "detail": f"webhook {sent.webhook_id}" if sent.webhook_id else None,
        }
        await self.intake.write(Entry(receipts=(receipt,)))
        log.info("a webhook was set aside", extra={"topic": source, "shop": sent.shop, "reason": reason})
        return answer({"success": True, "accepted": 0, "dropped": [{"i": 0, "reason": reason}]})

    async def _note_stranger(self, route: str) -> None:
        """A receipt for some of the unsigned deliveries; their headers prove nothing and are not kept."""
        second = int(time.monotonic())
        self._second, self._noted = second, (self._noted + 1 if second == self._second else 1)
        if self._noted > _STRANGERS:
            return
        reason = "bad_signature" if self.secrets else "no_secret"
        log.warning("a webhook without a good signature was refused", extra={"topic": route, "reason": reason})
        try:
            await self.intake.write(Entry(receipts=({"source": route, "reason": reason, "status": 401},)))
        except (StoreBusy, BadInput):
            log.debug("the receipt of a refused webhook was not stored")


_REASONS: dict[type[BadInput], str] = {
    shopify_events.WrongShape: "wrong_shape",
    shopify_events.OtherTopic: "other_topic",
    Unstorable: "unstorable",
}


def _unwanted(app: App | None, sent: shopify.Delivery, topic: str, route: str, now: datetime) -> str | None:
    if shopify.TOPICS.get(topic) != shopify.TOPICS[route]:
        return "topic_mismatch"
    if app is None:
        return "unknown_shop"
    return "stale" if sent.is_stale(now) else None
