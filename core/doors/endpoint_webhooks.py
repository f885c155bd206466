"""`/webhooks/…`: Shopify's deliveries. 401 for a bad signature, 503 without a database, else always 200.

Shopify deletes a subscription after eight refusals in a row, so whatever a genuine delivery lacks is answered with
200 and noted as a receipt (https://shopify.dev/docs/apps/build/webhooks/subscribe).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from core.doors.endpoint_apps import Apps
from core.doors.endpoint_http import Gone, TooLarge, answer, body_of, busy
from core.doors.endpoint_track import accepted
from core.doors.intake import PATIENCE, Entry, Intake, StoreBusy, Unstorable
from core.doors.sampling import Sampler
from core.errors import BadInput
from core.inbound import shopify, shopify_duties, shopify_events
from core.inbound.reading import WEBHOOK_DEPTH, read_object
from core.secret import Secret
from core.store import apps
from core.store.apps import App
from core.store.database import reading

log = logging.getLogger("webhooks")

BODY_CAP = 5 * 1024 * 1024


class Webhooks:
    """The handler of every topic; one for a process."""

    def __init__(self, apps: Apps, intake: Intake, *, secrets: Sequence[Secret], clock: Callable[[], datetime]) -> None:
        self.apps, self.intake, self.secrets, self.clock = apps, intake, secrets, clock
        self._warned = False
        # Neither strangers nor a chatty subscription may fill the disk with receipts.
        self.worth_noting = Sampler()

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
        topic = sent.topic or route
        if topic == shopify.ANY_TOPIC:
            return answer({"error": str(shopify.MissingHeaders())}, 400)
        # Looking up and writing together: Shopify hangs up after five seconds and would not hear "later".
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._take(body, sent, topic, route)
        except TimeoutError:
            raise StoreBusy() from None

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

    async def _take(self, body: bytes, sent: shopify.Delivery, topic: str, route: str) -> Response:
        reason = shopify.why_not(topic, route)
        if reason is not None:
            return await self._set_aside(topic if route == shopify.ANY_TOPIC else route, reason, sent)
        try:
            if topic in shopify.DUTIES:
                return await self._do_duty(body, sent, topic)
            return await self._store(body, sent, topic)
        except BadInput as error:
            return await self._set_aside(topic, _REASONS.get(type(error), "broken_json"), sent)

    async def _store(self, body: bytes, sent: shopify.Delivery, topic: str) -> Response:
        now = self.clock()
        app = await self._known(sent)
        if sent.is_stale(now):
            raise Stale()
        payload = read_object(body, depth=WEBHOOK_DEPTH)
        shopify.check_shop(payload, sent.shop)
        event = shopify_events.to_event(app, topic, payload, sent, now=now)
        new = (await self.intake.write(Entry((event,))))[0]
        return answer(accepted(event, new))

    async def _known(self, sent: shopify.Delivery) -> App:
        app = await self.apps.by_shop(sent.shop)
        if app is None:
            raise UnknownShop()
        return app

    async def _do_duty(self, body: bytes, sent: shopify.Delivery, topic: str) -> Response:
        """What compliance asks for is done however late it comes: the time's header is not signed, so that it holds up
        no forger, and the duty does not lapse. An old word of an uninstall might stop a shop that has come back."""
        app_ids = await self._apps_of(sent.shop)
        if not app_ids:
            raise UnknownShop()
        if topic == shopify.UNINSTALLED and sent.is_stale(self.clock()):
            raise Stale()
        payload = read_object(body, depth=WEBHOOK_DEPTH)
        digest = hashlib.sha256(body).hexdigest()
        work = shopify_duties.duty(topic, payload, shop=sent.shop, app_ids=app_ids, digest=digest)
        await self.intake.write(Entry(also=(work,)))
        log.info("Shopify's order was taken", extra={"topic": topic, "shop": sent.shop})
        return answer({"success": True, "accepted": 1, "dropped": []})

    async def _apps_of(self, shop: str) -> list[str]:
        try:
            return await asyncio.to_thread(self._look, shop)
        except SQLAlchemyError:
            raise StoreBusy() from None

    def _look(self, shop: str) -> list[str]:
        with reading(self.intake.engine) as conn:
            return apps.ids_of_shop(conn, shop)

    async def _set_aside(self, source: str, reason: str, sent: shopify.Delivery) -> Response:
        """Answered with 200; kept as a receipt that says why, some of many alike, and each that concerns a duty."""
        if shopify.DUTIES & {source, sent.topic} or self.worth_noting((sent.shop, source, reason)):
            app = await self.apps.by_shop(sent.shop)
            about = {"topic": None if sent.topic == source else sent.topic, "webhook": sent.webhook_id}
            receipt = {
                "source": source,
                "reason": reason,
                "status": 200,
                "app_id": app.id if app else None,
                "shop_domain": sent.shop,
                "detail": ", ".join(f"{what} {value}" for what, value in about.items() if value) or None,
            }
            await self.intake.write(Entry(receipts=(receipt,)))
            log.info("a webhook was set aside", extra={"topic": source, "shop": sent.shop, "reason": reason})
        return answer({"success": True, "accepted": 0, "dropped": [{"i": 0, "reason": reason}]})

    async def _note_stranger(self, route: str) -> None:
        """A receipt for some of the unsigned deliveries; their headers prove nothing and are not kept."""
        if not self.worth_noting(route):
            return
        reason = "bad_signature" if self.secrets else "no_secret"
        log.warning("a webhook without a good signature was refused", extra={"topic": route, "reason": reason})
        try:
            await self.intake.write(Entry(receipts=({"source": route, "reason": reason, "status": 401},)))
        except (StoreBusy, BadInput):
            log.debug("the receipt of a refused webhook was not stored")


class UnknownShop(BadInput):
    """No app is installed in this shop"""


class Stale(BadInput):
    """Older than Shopify's own retries"""


_REASONS: dict[type[BadInput], str] = {
    UnknownShop: "unknown_shop",
    Stale: "stale",
    shopify.OtherShop: "shop_mismatch",
    shopify_events.WrongShape: "wrong_shape",
    shopify_events.OtherTopic: "other_topic",
    Unstorable: "unstorable",
}
