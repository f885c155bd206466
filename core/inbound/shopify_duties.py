"""What Shopify demands of an app beside listening: to stop where it was removed, to show and to forget personal data.

An answer of 200 says that the order was taken, thirty days are given to carry it out
(https://shopify.dev/docs/apps/build/privacy-law-compliance). So a delivery becomes a job, which the worker does
(`core.services.privacy`), in the transaction that is committed before the answer.

These orders destroy, and only the body is signed: a body that was made for one topic or shop and is sent again with
the headers of another must not pass. So each body is looked at for what only its own topic has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from core.inbound.shopify import COMPLIANCE, STALE_AFTER, UNINSTALLED, OtherShop, check_shop
from core.inbound.shopify_events import WrongShape
from core.inbound.values import exact_id, text
from core.meta.hashing import hashed
from core.store import apps, audit, jobs, redaction
from core.store.redaction import SHOP_PARTS, Subject

Json = dict[str, Any]
Work = Callable[[Connection, datetime], None]

BY = "shopify"
_ORDER_ID = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Shape:
    """The keys of a topic's body: one at least of `some`, none of `never`."""

    some: tuple[str, ...]
    never: tuple[str, ...] = ()


_RESOURCES = ("line_items", "token", "customer", "orders_requested", "orders_to_redact", "data_request")
_SHAPES: dict[str, Shape] = {
    # `shop/update` sends the very same body: whoever holds one could pause its shop, which a person can undo.
    UNINSTALLED: Shape(("myshopify_domain",), (*_RESOURCES, "shop_domain")),
    "customers/data_request": Shape(("orders_requested", "data_request"), ("line_items", "orders_to_redact")),
    "customers/redact": Shape(
        ("customer", "orders_to_redact"), ("line_items", "token", "orders_requested", "data_request")
    ),
    "shop/redact": Shape(("shop_id",), _RESOURCES),
}
# What a Shop has and nothing else does, for the body that does not name its own domain: Shopify's example has null.
_SHOP_KEYS = ("shop_owner", "plan_name", "money_format")


def duty(topic: str, body: Json, *, shop: str, app_ids: Sequence[str], digest: str) -> Work:
    """What to write for this delivery; WrongShape, OtherShop. `digest` is that of the body: twice is once."""
    _check(topic, body, shop)
    if topic == UNINSTALLED:
        return partial(_pause, app_ids=app_ids, shop=shop)
    asked = _asked(topic, body, shop)
    if not asked:
        raise WrongShape()
    subjects = sorted({str(Subject(what, value, app_id)) for what, value in asked for app_id in app_ids})
    return partial(_order, topic=topic, subjects=subjects, digest=digest)


def _check(topic: str, body: Json, shop: str) -> None:
    shape = _SHAPES[topic]
    if any(key in body for key in shape.never) or not any(key in body for key in shape.some):
        raise WrongShape()
    check_shop(body, shop)
    if topic == UNINSTALLED:
        _check_removed_shop(body, shop)
    elif text(body.get("shop_domain")) is None:
        raise WrongShape()


def _check_removed_shop(body: Json, shop: str) -> None:
    """Where a Shop does not name its own domain the header has to do, if all else speaks for it."""
    if text(body.get("myshopify_domain")) is not None:
        return
    if not all(key in body for key in _SHOP_KEYS):
        raise WrongShape()
    domain = (text(body.get("domain")) or "").lower()
    if domain.endswith(".myshopify.com") and domain != shop:
        raise OtherShop()


def _asked(topic: str, body: Json, shop: str) -> list[tuple[str, str]]:
    """(what, value) of each thing to be done for one app. Of a person only digests go further than this."""
    if topic == "shop/redact":
        return [(part, "all") for part in SHOP_PARTS]
    customer = body.get("customer")
    digests = _digests(customer, shop) if isinstance(customer, Mapping) else []
    listed = body.get("orders_requested" if topic == "customers/data_request" else "orders_to_redact")
    orders = [exact_id(item) for item in listed] if isinstance(listed, list) else []
    whole = [("order", order) for order in orders if order and _ORDER_ID.fullmatch(order)]
    return whole + ([("customer", ",".join(digests))] if digests else [])


def _digests(customer: Mapping[str, Any], shop: str) -> list[str]:
    """The digests under which the person stands in payloads (`core.inbound.shopify_people`, and as a storefront that
    sends the bare customer id has it)."""
    id_ = exact_id(customer.get("id"))
    found = (
        hashed("em", text(customer.get("email"))),
        hashed("ph", text(customer.get("phone"))),  # with its country in front, as Shopify stores a customer's
        hashed("external_id", f"{shop}:{id_}") if id_ else None,
        hashed("external_id", id_),
    )
    return sorted({digest for digest in found if digest})


def _pause(conn: Connection, now: datetime, *, app_ids: Sequence[str], shop: str) -> None:
    already = redaction.paused_for(conn, app_ids, UNINSTALLED)
    running = [app_id for app_id in sorted(app_ids) if app_id not in already]
    for app_id in running:
        apps.configure(conn, app_id, paused_at=now, paused_reason=UNINSTALLED)
    for app_id in running:
        reason = f"{UNINSTALLED} from {shop}"
        audit.write(conn, by=BY, action="pause_app", subject=f"app {app_id}", count=1, reason=reason, now=now)


def _order(conn: Connection, now: datetime, *, topic: str, subjects: Sequence[str], digest: str) -> None:
    """A delivery that comes again finds its job, done or not."""
    kind, reason = COMPLIANCE[topic], f"{topic} {digest[:16]}"
    if redaction.was_ordered(conn, kind, reason, since=now - STALE_AFTER):
        return
    job_id = jobs.order(conn, kind, subjects, dedupe_key=f"{kind}:{digest}", by=BY, reason=reason, now=now)
    job = jobs.progress(conn, job_id)
    if job is not None and job.created_at == now:
        audit.write(conn, by=BY, action=kind, subject=f"job {job_id}", count=len(subjects), reason=reason, now=now)
