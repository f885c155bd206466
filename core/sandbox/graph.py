"""Meta's rules as facts about one request: tokens, exchange, debug, and what makes a batch refused.

Each function returns a `Refusal` or None, or the answer's body; nothing here knows HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from core.sandbox.refusals import (
    BAD_APP,
    BAD_APP_TOKEN,
    BAD_PROOF,
    BAD_SECRET,
    NO_PROOF,
    NO_SCOPE,
    NO_TOKEN,
    OTHER_APP,
    UNKNOWN_TOKEN,
    Refusal,
    invalid,
    no_pixel,
)
from core.sandbox.state import SIXTY_DAYS, State, Token
from core.secret import Secret

MOST_EVENTS: Final = 1_000
_PROOF_SECONDS: Final = 300
_DAY: Final = 86_400
_EVENT_KEYS: Final = {
    *("event_name", "event_time", "event_id", "event_source_url", "action_source", "user_data", "custom_data"),
    *("app_data", "opt_out", "data_processing_options", "data_processing_options_country"),
    *("data_processing_options_state", "advanced_measurement_table", "customer_segmentation"),
    *("original_event_data", "referrer_url", "attribution_data", "messaging_channel"),
}
_HASHED: Final = ("em", "ph", "fn", "ln", "ge", "db", "ct", "st", "zp", "country")
_HASH: Final = re.compile(r"(?:[0-9a-fA-F]{64}|[0-9a-fA-F]{32})(?:\.[\w-]{1,8})?")
_WEAK: Final = (
    frozenset({"ct", "country", "st", "zp", "ge", "client_user_agent"}),
    frozenset({"db", "client_user_agent"}),
    frozenset({"fn", "ge"}),
    frozenset({"ln", "ge"}),
)


def admit(state: State, value: str | None, pixel: str, given: Mapping[str, Any]) -> Token | Refusal:
    """The token of a call on a pixel, or why it may not."""
    if not value:
        return NO_TOKEN
    token = state.tokens.get(value)
    if token is None:
        return UNKNOWN_TOKEN
    refusal = state.trouble(token) or _proof(state, token, given)
    if refusal:
        return refusal
    if token.pixels is not None and pixel not in token.pixels:
        return no_pixel(pixel)
    return token if "ads_management" in token.scopes else NO_SCOPE


def _proof(state: State, token: Token, given: Mapping[str, Any]) -> Refusal | None:
    proof, moment = given.get("appsecret_proof"), given.get("appsecret_time")
    if not proof:
        return NO_PROOF if state.require_proof and token.app_id == state.app_id else None
    message = token.value if moment is None else f"{token.value}|{moment}"
    if moment is not None and not (str(moment).isdigit() and abs(state.now() - int(moment)) <= _PROOF_SECONDS):
        return BAD_PROOF
    ours = token.app_id == state.app_id and state.app_secret.sign(message.encode()).hex() == str(proof).lower()
    return None if ours else BAD_PROOF


def exchange(state: State, given: Mapping[str, str]) -> dict[str, Any] | Refusal:
    """fb_exchange_token: a new string for a token that still works; the old one lives to its own end."""
    if given.get("grant_type") != "fb_exchange_token":
        return invalid(f"Invalid grant_type: {given.get('grant_type')}")
    refusal = refuse_client(state, given)
    if refusal:
        return refusal
    token = state.tokens.get(given.get("fb_exchange_token", ""))
    if token is None:
        return UNKNOWN_TOKEN
    if token.app_id != state.app_id:
        return Refusal(190, "Error validating access token: The token was issued for another application.")
    return state.trouble(token) or _exchanged(state, token, sixty_days="set_token_expires_in_60_days" in given)


def refuse_client(state: State, given: Mapping[str, str]) -> Refusal | None:
    """Whoever asks for a token must know our app's id and secret."""
    if given.get("client_id") != state.app_id:
        return BAD_APP
    known = given.get("client_secret") and Secret(given["client_secret"]) == state.app_secret
    return None if known else BAD_SECRET


def _exchanged(state: State, token: Token, *, sixty_days: bool) -> dict[str, Any]:
    never = token.type == "SYSTEM_USER" and not sixty_days and not token.expires_at
    expires_at = 0.0 if never else state.now() + SIXTY_DAYS
    if token.mode in ("same_token", "same_expiry"):
        expires_at = token.expires_at
    elif token.mode == "shorter_expiry":
        expires_at = (state.now() + token.expires_at) / 2
    fresh = token
    if token.mode != "same_token":
        scopes = token.scopes[:-1] if token.mode == "fewer_scopes" else token.scopes
        user = f"9{token.meta_user_id}" if token.mode == "other_user" else token.meta_user_id
        kept: dict[str, Any] = {"meta_user_id": user, "type": token.type, "scopes": scopes}
        kept |= {"pixels": token.pixels, "mode": token.mode}
        fresh = state.add_token(None, app_id=token.app_id, expires_at=expires_at, **kept)
    answer: dict[str, Any] = {"access_token": fresh.value, "token_type": "bearer"}
    if token.mode != "no_expires_in" and expires_at:
        answer["expires_in"] = max(0, int(expires_at - state.now()))
    return answer


def debug(state: State, input_token: str, caller: str) -> dict[str, Any] | Refusal:
    """/debug_token for an app token, or for any working token of the same app."""
    app_id, _, secret = caller.partition("|")
    asking = state.tokens.get(caller)
    is_app = app_id == state.app_id and bool(secret) and Secret(secret) == state.app_secret
    if not is_app and (asking is None or asking.app_id != state.app_id or state.trouble(asking)):
        return BAD_APP_TOKEN
    if is_app and input_token == caller:
        own = {"app_id": app_id, "type": "APP", "application": "Sandbox", "is_valid": True, "scopes": []}
        return {"data": own}
    token = state.tokens.get(input_token)
    if token is None:
        error = {"code": 190, "message": UNKNOWN_TOKEN.message}
        return {"data": {"error": error, "is_valid": False, "scopes": []}}
    return OTHER_APP if token.app_id != state.app_id else {"data": _facts(state, token)}


def _facts(state: State, token: Token) -> dict[str, Any]:
    trouble = state.trouble(token)
    facts: dict[str, Any] = {
        "app_id": token.app_id,
        "type": token.type,
        "application": "Sandbox",
        "user_id": token.meta_user_id,
        "is_valid": trouble is None,
        "expires_at": int(token.expires_at),
        "data_access_expires_at": int(token.issued_at + 90 * _DAY),
        "scopes": list(token.scopes),
    }
    if token.long_lived:
        facts["issued_at"] = int(token.issued_at)
    if trouble:
        facts["error"] = {"code": trouble.code, "message": trouble.message, "subcode": trouble.subcode}
    return facts


def refuse_batch(batch: Any, now: float) -> Refusal | None:
    """The first reason to refuse the whole request."""
    if not isinstance(batch, list) or not batch:
        return invalid("(#100) The parameter data is required")
    if len(batch) > MOST_EVENTS:
        return invalid(f"(#100) Param data must have no more than {MOST_EVENTS} elements")
    for index, event in enumerate(batch):
        refusal = _refuse_event(event, index, now)
        if refusal:
            return refusal
    return None


def _refuse_event(event: Any, index: int, now: float) -> Refusal | None:
    where = f"\"$['data'][{index}]\""
    if not isinstance(event, dict):
        return invalid(f"Server Side Api Parameter Error: Expected an object on param {where}")
    if not event.keys() <= _EVENT_KEYS:
        unknown = min(event.keys() - _EVENT_KEYS)
        return invalid(f'Server Side Api Parameter Error: Unexpected key "{unknown}" on param {where}')
    for key in ("event_name", "event_time", "user_data", "action_source"):
        if key not in event:
            return invalid(f'Server Side Api Parameter Error: Missing key "{key}" on param {where}')
    moment, person = event["event_time"], event["user_data"]
    if isinstance(moment, bool) or not isinstance(moment, int) or moment > 10**11 or not isinstance(person, dict):
        return invalid(f"Server Side Api Parameter Error: Unexpected value on param {where}")
    days = 62 if event["action_source"] == "physical_store" else 7
    if moment < now - days * _DAY:
        return invalid("The timestamp for this event is too far in the past.", 2804003, "Event Timestamp Too Old")
    return _refuse_person(person) or _refuse_value(event)


def _refuse_person(person: Mapping[str, Any]) -> Refusal | None:
    for key in _HASHED:
        for value in _each(person.get(key)):
            if not (isinstance(value, str) and _HASH.fullmatch(value)):
                return invalid(f"The {key} parameter isn't hashed.", 2804016, "User Parameter Not Hashed")
    keys = {key for key, value in person.items() if value}
    if any(keys <= weak for weak in _WEAK):
        words = "This event has not enough customer information parameters."
        return invalid(words, 2804050, "Not Enough Customer Information")
    return None


def _refuse_value(event: Mapping[str, Any]) -> Refusal | None:
    custom = event.get("custom_data") or {}
    if event["event_name"] != "Purchase":
        return None
    value = custom.get("value") if isinstance(custom, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return invalid("Purchase events need a value.", 2804009, "Missing Value for Purchase Event")
    if not re.fullmatch(r"[A-Za-z]{3}", str(custom.get("currency") or "")):
        return invalid("Purchase events need a currency.", 2804009, "Missing Currency for Purchase Event")
    return None


def _each(value: Any) -> Sequence[Any]:
    if isinstance(value, list):
        return value
    return () if value is None else (value,)
