"""The endpoint's OpenAPI document: a table of operations, served at `/openapi.json` and compared with the routes by a
test. What it says of bodies is what is looked at; whatever else stands in them is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from core import __version__
from core.inbound.track import MOST_EVENTS

Json = dict[str, Any]

# One letter at least that is no blank: ECMAScript, whose patterns these are, knows fewer blanks than we take off.
_WORDS: Final = {"type": ["string", "number"], "pattern": r"[^\s\u0000-\u001f\u0085]", "maxLength": 2000}
_ANY_OBJECT: Final = {"type": "object"}

# status → what it means, the schema of its body
_ANSWERS: Final[dict[int, tuple[str, str | None]]] = {
    200: ("taken; `dropped` says which events Meta will not hear of, and why", "Taken"),
    204: ("the preflight passes", None),
    400: ("the body or a header cannot be read", "Error"),
    401: ("the signature or the key is wrong", "Error"),
    403: ("the app does not take events from this page", "Error"),
    404: ("there is no such app or user", "Error"),
    413: ("the body is too large", "Error"),
    429: ("too many events; `Retry-After` says when to try again, in seconds", "Error"),
    502: ("Meta refused, or could not be reached", "Error"),
    503: ("the database cannot write now; try again", "Error"),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route. `answers`: the statuses it gives; `special`: those whose body differs from the table."""

    path: str
    method: str
    summary: str
    answers: tuple[int, ...]
    body: Json | None = None
    parameters: tuple[Json, ...] = ()
    secured: bool = False
    special: dict[int, Json] = field(default_factory=dict)


def _json(schema: str | Json) -> Json:
    return {
        "application/json": {
            "schema": {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema
        }
    }


def _parameter(name: str, where: str, about: str, *, required: bool = False, **schema: Any) -> Json:
    return {
        "name": name,
        "in": where,
        "required": required,
        "description": about,
        "schema": {"type": "string", **schema},
    }


def _of_any_type(media_type: str) -> Json:
    return {media_type: {"schema": {"type": "string", "format": "binary"}}}


_TRACKED: Final = {
    "required": True,
    "description": "JSON, whatever Content-Type says: beacons send it as text/plain to save the preflight",
    "content": _json("Tracked"),
}
_OPERATIONS: Final = (
    Operation(
        "/api/track",
        "post",
        "One tracking call of a storefront, with one event or several; answered once it is stored",
        (200, 400, 403, 404, 413, 429, 503),
        body=_TRACKED,
    ),
    Operation(
        "/api/track",
        "get",
        "The same as an image, for pages without script; always a picture",
        (200,),
        parameters=(
            _parameter("e", "query", "the event's name"),
            _parameter("d", "query", "the body of the POST, as base64"),
        ),
        special={200: _of_any_type("image/gif")},
    ),
    Operation("/api/track", "options", "The browser's preflight", (204,)),
    Operation(
        "/api/refresh",
        "post",
        "Refresh every token of a user",
        (200, 400, 401, 404, 413, 502, 503),
        body={"required": True, "content": _json("RefreshOrder")},
        secured=True,
        special={200: _json("Refreshed")},
    ),
    Operation(
        "/pixel.js",
        "get",
        "The storefront script for one app",
        (200, 400),
        parameters=(
            _parameter("id", "query", "the app's public appId", required=True, pattern="^[A-Za-z0-9_-]{1,64}$"),
        ),
        special={200: _of_any_type("application/javascript")},
    ),
    Operation("/healthz", "get", "The process lives", (200,), special={200: _json(_ANY_OBJECT)}),
    Operation(
        "/readyz",
        "get",
        "It can do its work, or why not",
        (200, 503),
        special={200: _json(_ANY_OBJECT), 503: _json(_ANY_OBJECT)},
    ),
    Operation("/openapi.json", "get", "This document", (200,), special={200: _json(_ANY_OBJECT)}),
)
_SHOPIFY_HEADERS: Final = (
    _parameter("X-Shopify-Hmac-Sha256", "header", "base64 of HMAC-SHA256 over the raw body; or `shopify-hmac-sha256`"),
    _parameter("X-Shopify-Shop-Domain", "header", "the shop; or `shopify-shop-domain`"),
    _parameter("X-Shopify-Topic", "header", "the topic; or `shopify-topic`"),
)

_SCHEMAS: Final[Json] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}, "success": {"const": False}},
    },
    "Taken": {
        "type": "object",
        "required": ["success", "accepted", "dropped"],
        "properties": {
            "success": {"const": True},
            "eventId": {"type": "string", "description": "the (first) event's id, for the browser's own pixel"},
            "eventIds": {"type": "array", "items": {"type": ["string", "null"]}},
            "accepted": {"type": "integer", "minimum": 0},
            "dropped": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["i", "reason"],
                    "properties": {"i": {"type": "integer", "minimum": 0}, "reason": {"type": "string"}},
                },
            },
        },
    },
    "TrackedEvent": {
        "type": "object",
        "required": ["eventName"],
        "properties": {
            "eventName": _WORDS | {"description": "Meta's name or a storefront's spelling of it", "maxLength": 100},
            "event_id": {"description": "1 to 128 of letters, digits and _ . : - ; one is made without it"},
            "timestamp": {"description": "when it happened: ISO 8601, or seconds or milliseconds since 1970"},
            "sentAt": {"description": "the sender's clock when it sent; a wrong one is made good"},
            "url": {"description": "the page"},
            "fbp": {"description": "Meta's cookie _fbp"},
            "fbc": {"description": "Meta's cookie _fbc; without it, it is made from the page's fbclid"},
            "cartToken": {"description": "ties the browser to Shopify's webhook of the same cart"},
            "checkoutToken": {"description": "ties the browser to Shopify's webhooks of the same checkout"},
            "order_id": {"description": "the order; a webhook of the same order is then no second event"},
            "value": {"description": "a number; in hundredths with moneyUnit cents"},
            "moneyUnit": {"description": "major (default) or cents"},
            "currency": {"description": "ISO 4217"},
            "products": {"description": "list of {id or product_id or variant_id or sku, quantity, price}"},
            "consent": {"description": "{marketing, saleOfData}, true or false each"},
            "userData": {
                "description": "em ph fn ln ge db ct st zp country external_id or their long names; hashed here"
            },
            "customData": {"description": "the event's own properties once more"},
        },
    },
    "TrackedOne": {
        "allOf": [{"$ref": "#/components/schemas/TrackedEvent"}],
        "type": "object",
        "required": ["appId"],
        "properties": {"appId": _WORDS | {"maxLength": 255, "description": "the app's public id"}},
    },
    "TrackedMany": {
        "type": "object",
        "required": ["appId", "events"],
        "properties": {
            "appId": _WORDS | {"maxLength": 255, "description": "the app's public id"},
            "events": {
                "type": "array",
                "minItems": 1,
                "maxItems": MOST_EVENTS,
                "items": {"$ref": "#/components/schemas/TrackedEvent"},
            },
        },
    },
    "Tracked": {"anyOf": [{"$ref": "#/components/schemas/TrackedOne"}, {"$ref": "#/components/schemas/TrackedMany"}]},
    "RefreshOrder": {
        "type": "object",
        "required": ["intent", "userId"],
        "properties": {"intent": {"const": "refresh-facebook-token"}, "userId": _WORDS},
    },
    "Refreshed": {
        "type": "object",
        "required": ["success", "message"],
        "properties": {"success": {"const": True}, "message": {"type": "string"}},
    },
}


def document(topics: Iterable[str]) -> Json:
    """The OpenAPI 3.1 document; `topics`: the webhook routes below `/webhooks/`."""
    webhooks = (
        Operation(
            f"/webhooks/{topic}",
            "post",
            f"Shopify's webhook {topic}" if "/" in topic else "Shopify's webhooks of every topic, by their header",
            (200, 400, 401, 413, 503),
            body={"required": True, "content": _json(_ANY_OBJECT)},
            parameters=_SHOPIFY_HEADERS,
        )
        for topic in topics
    )
    paths: Json = {}
    for one in (*_OPERATIONS, *webhooks):
        paths.setdefault(one.path, {})[one.method] = _described(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "capi-console endpoint", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(one: Operation) -> Json:
    about: Json = {"summary": one.summary, "operationId": f"{one.method} {one.path}"}
    if one.parameters:
        about["parameters"] = list(one.parameters)
    if one.body:
        about["requestBody"] = one.body
    if one.secured:
        about["security"] = [{"key": []}]
    about["responses"] = {str(status): _answer(one, status) for status in one.answers}
    return about


def _answer(one: Operation, status: int) -> Json:
    words, schema = _ANSWERS[status]
    content = one.special.get(status) or (_json(schema) if schema else None)
    return {"description": words} | ({"content": content} if content else {})
