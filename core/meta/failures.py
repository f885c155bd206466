"""Meta's refusals, in nine words of our own.

The table is read from the top, most exact rule first; the body decides before the HTTP status,
because token errors come as 400, rate limits as 403 and gateways answer HTML with 200.

Sources: https://developers.facebook.com/docs/graph-api/guides/error-handling and
https://developers.facebook.com/docs/marketing-api/error-reference ; the 2804xxx rows are answers
seen in public issue trackers of Meta's SDKs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Failure(StrEnum):
    """Why Meta (or the way to Meta) refused; the value is what the database and exports hold."""

    TOKEN_EXPIRED = "token_expired"
    TOKEN_DEAD = "token_dead"
    TOKEN_SOFT = "token_soft"
    APP_CONFIG = "app_config"
    PERMISSION = "permission"
    RATE_LIMITED = "rate_limited"
    TRANSIENT = "transient"
    INVALID_EVENT = "invalid_event"
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """For whom Meta's limit counts: our app, the user behind the token, or the pixel's business."""

    APP = "app"
    TOKEN = "token"
    PIXEL = "pixel"


TOKEN_FAILURES: Final = frozenset({Failure.TOKEN_EXPIRED, Failure.TOKEN_DEAD, Failure.TOKEN_SOFT})


class _Any:
    def __contains__(self, value: object) -> bool:
        return True

    def __repr__(self) -> str:
        return "ANY"


ANY: Final = _Any()
Match = int | range | _Any


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table; `probes` are lower-case pieces of the message, one of which must be there.

    `scope` says who waits for a limit; `least` is the shortest wait in seconds, whatever the headers say.
    """

    code: Match
    subcode: Match
    failure: Failure
    name: str
    probes: tuple[str, ...] = ()
    endpoint: str = ""
    scope: Scope = Scope.PIXEL
    least: float = 0.0

    def fits(self, code: int, subcode: int | None, message: str, endpoint: str) -> bool:
        return (
            _in(code, self.code)
            and _in(subcode, self.subcode)
            and self.endpoint in endpoint
            and (not self.probes or any(probe in message for probe in self.probes))
        )


def _in(value: int | None, wanted: Match) -> bool:
    return value == wanted if isinstance(wanted, int) else value in wanted


_F, _S = Failure, Scope
_DEBUG, _EXCHANGE = "debug_token", "oauth/access_token"

RULES: Final[tuple[Rule, ...]] = (
    # On /debug_token the caller is `app-id|app-secret`: a refused caller is our settings, not the merchant's token.
    Rule(190, ANY, _F.APP_CONFIG, "app id or app secret is wrong", endpoint=_DEBUG),
    Rule(100, ANY, _F.PERMISSION, "token belongs to another app", ("did not match the viewing app",), _DEBUG),
    # The token: expired, gone, or perhaps only disturbed.
    Rule(190, 463, _F.TOKEN_EXPIRED, "token expired"),
    Rule(190, 467, _F.TOKEN_EXPIRED, "token no longer valid"),
    Rule(190, 452, _F.TOKEN_SOFT, "session mismatch"),
    Rule(190, 458, _F.TOKEN_DEAD, "app removed by the user"),
    Rule(190, 459, _F.TOKEN_DEAD, "user must pass a check at facebook.com"),
    Rule(190, 460, _F.TOKEN_DEAD, "password changed"),
    Rule(190, 464, _F.TOKEN_DEAD, "user not confirmed"),
    Rule(190, 465, _F.TOKEN_DEAD, "sessions not allowed for this user"),
    Rule(190, 492, _F.TOKEN_DEAD, "no role on the page"),
    Rule(190, ANY, _F.TOKEN_EXPIRED, "token expired", ("has expired",)),
    Rule(
        190,
        ANY,
        _F.TOKEN_DEAD,
        "stored token is damaged",
        ("cannot parse access token", "could not be decrypted", "malformed access token"),
    ),
    Rule(190, ANY, _F.TOKEN_EXPIRED, "token refused"),
    Rule(102, ANY, _F.TOKEN_DEAD, "session is over"),
    # Our own app id, secret or proof.
    Rule(104, ANY, _F.APP_CONFIG, "incorrect signature"),
    Rule(100, ANY, _F.APP_CONFIG, "app secret proof refused", ("appsecret_proof",)),
    Rule(1, ANY, _F.APP_CONFIG, "app secret is wrong", ("client secret",), _EXCHANGE),
    Rule(101, ANY, _F.APP_CONFIG, "app cannot be validated"),
    # What the token may not do.
    Rule(100, 33, _F.PERMISSION, "pixel not found or not allowed"),
    Rule(100, 2804132, _F.PERMISSION, "no WhatsApp account linked"),
    Rule(3, ANY, _F.PERMISSION, "capability missing"),
    Rule(10, ANY, _F.PERMISSION, "permission denied"),
    Rule(range(200, 300), ANY, _F.PERMISSION, "permission missing"),
    # Too much, too fast; calling on makes the wait longer.
    Rule(4, ANY, _F.RATE_LIMITED, "app request limit", scope=_S.APP),
    Rule(17, ANY, _F.RATE_LIMITED, "user request limit", scope=_S.TOKEN),
    Rule(32, ANY, _F.RATE_LIMITED, "page request limit", scope=_S.TOKEN),
    Rule(341, ANY, _F.RATE_LIMITED, "application limit", scope=_S.APP),
    Rule(368, ANY, _F.RATE_LIMITED, "blocked for policy reasons", scope=_S.TOKEN, least=3600),
    Rule(613, ANY, _F.RATE_LIMITED, "custom call limit"),
    Rule(range(80000, 80015), ANY, _F.RATE_LIMITED, "business use case limit"),
    # Meta's own trouble.
    Rule(1, ANY, _F.TRANSIENT, "unknown error at Meta"),
    Rule(2, ANY, _F.TRANSIENT, "service unavailable at Meta"),
    Rule(5000, ANY, _F.TRANSIENT, "unknown error code at Meta"),
    Rule(21009, ANY, _F.TRANSIENT, "data set not ready for uploads"),
    Rule(range(-999999, 0), ANY, _F.TRANSIENT, "internal error at Meta"),
    # The event itself; Meta refuses the whole request for one of them.
    Rule(100, 2804003, _F.INVALID_EVENT, "event too old"),
    Rule(100, 2804009, _F.INVALID_EVENT, "purchase without value"),
    Rule(100, 2804016, _F.INVALID_EVENT, "personal data not hashed"),
    Rule(100, 2804050, _F.INVALID_EVENT, "too little to match a person"),
    Rule(100, 2804043, _F.INVALID_EVENT, "extended device info invalid"),
    Rule(100, 2804063, _F.INVALID_EVENT, "messaging channel missing"),
    Rule(100, 2804066, _F.INVALID_EVENT, "event name not for messaging"),
    Rule(100, 2804072, _F.INVALID_EVENT, "page and click id differ"),
    Rule(100, 2804087, _F.INVALID_EVENT, "click id not real"),
    Rule(100, 2804116, _F.INVALID_EVENT, "page id missing"),
    Rule(100, 2804118, _F.INVALID_EVENT, "data set and WhatsApp account differ"),
    Rule(100, range(2804000, 2805000), _F.INVALID_EVENT, "event refused by the Conversions API"),
    Rule(100, ANY, _F.INVALID_EVENT, "invalid parameter"),
    Rule(105, ANY, _F.INVALID_EVENT, "too many parameters"),
    Rule(506, ANY, _F.INVALID_EVENT, "duplicate"),
)

# Trouble at Meta of one pixel alone: it says nothing about Meta.
OF_ONE_PIXEL: Final = frozenset({21009})

NOT_JSON: Final = Rule(ANY, ANY, _F.TRANSIENT, "answer was not JSON")
UNREACHABLE: Final = Rule(ANY, ANY, _F.TRANSIENT, "Meta could not be reached")
SHORT_ACK: Final = Rule(ANY, ANY, _F.TRANSIENT, "short ack")
SAID_TRANSIENT: Final = Rule(ANY, ANY, _F.TRANSIENT, "temporary, says Meta")
BY_STATUS_RATE: Final = Rule(ANY, ANY, _F.RATE_LIMITED, "too many requests")
BY_STATUS_DOWN: Final = Rule(ANY, ANY, _F.TRANSIENT, "server error at Meta")
NO_RULE: Final = Rule(ANY, ANY, _F.UNKNOWN, "unknown refusal")
OUTSIDE_THE_TABLE: Final = (
    NOT_JSON,
    UNREACHABLE,
    SHORT_ACK,
    SAID_TRANSIENT,
    BY_STATUS_RATE,
    BY_STATUS_DOWN,
    NO_RULE,
)


def classify(body: object, status: int, *, endpoint: str = "") -> Rule:
    """The rule for an answer that is not a success.

    `body` is the parsed JSON, or anything else (None, text) when it was not a JSON object;
    `endpoint` the path called, such as `debug_token` or `123/events`.
    """
    if not isinstance(body, Mapping):
        return NOT_JSON
    error = body.get("error")
    if not isinstance(error, Mapping):
        return _by_status(status)
    code, subcode = numbers(error)
    message = f"{error.get('message') or ''} {error.get('error_user_msg') or ''}".lower()
    if code is not None:
        for rule in RULES:
            if rule.fits(code, subcode, message, endpoint):
                return rule
    return SAID_TRANSIENT if error.get("is_transient") in (True, 1, "1", "true") else _by_status(status)


def scope_of(code: int | None) -> Scope:
    """Who waits when Meta answers this code with a limit."""
    limits = (rule for rule in RULES if rule.failure is Failure.RATE_LIMITED and _in(code, rule.code))
    return next((rule.scope for rule in limits), Scope.PIXEL)


def numbers(error: Mapping[str, object]) -> tuple[int | None, int | None]:
    """Code and subcode of Meta's error object; /debug_token calls the latter `subcode`."""
    return _number(error.get("code")), _number(error.get("error_subcode") or error.get("subcode"))


def _number(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def _by_status(status: int) -> Rule:
    if status == 429:
        return BY_STATUS_RATE
    return BY_STATUS_DOWN if status >= 500 or status == 408 else NO_RULE
