"""What a merchant may be told of an order or their shop: in their words, without a person, a token or our insides."""

from __future__ import annotations

import re
from datetime import datetime

from core.desk.alert_lines import plural
from core.desk.detail import EventDetail
from core.desk.explain import MERCHANT, META, NOBODY, SHOP, explain

# What stands in a ledger was written by strangers: only what can be nothing but a number or a name is handed on.
_NUMBER = re.compile(r"#?[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 _]{0,39}")
_CODE = re.compile(r"[A-Z]{3}")
_NOTHING = "There is nothing for you to do."
_ORDER_STANDS = "The order itself is not affected."

_CONNECT = "Please open the link that we send you and log in to Facebook once."
# failure → (because …, what to do)
_WORDS = {
    "token_dead": ("the connection between your shop and Facebook has ended", _CONNECT),
    "no_token": ("your shop is not connected to Facebook yet", "Please connect Facebook in the app."),
    "permission": (
        "Facebook does not let the connected account use your pixel",
        "Please compare the pixel's id with Events Manager, and give the account that connected Facebook access to it"
        " (Business settings, Data sources).",
    ),
    "no_pixel": ("no pixel is set for your shop", "Please put the pixel's id into the app's settings."),
    "pixel_disabled": ("the pixel is switched off for your shop", "Please switch it on if events should be sent."),
}
_RENEWING = ("the connection between your shop and Facebook is being renewed", _NOTHING)
_OURS = ("something has to be put right on our side", _NOTHING)
_AWAY = ("Facebook is in trouble at the moment", _NOTHING)


def of_event(seen: EventDetail, number: str | None, *, lost_token: bool, now: datetime) -> str:
    """About one event. `number`: what the shop calls the order; `lost_token`: only the merchant can mend it."""
    came = f"It came in on {_moment(seen.received_at)}."
    return "\n".join([f"{_what(seen, number)}:", came, *_STATES[seen.state](seen, lost_token, now)])


def _delivered(seen: EventDetail, _lost: bool, _now: datetime) -> list[str]:
    waited = " It had waited until the connection to Facebook was renewed." if seen.after_refresh else ""
    at = f" on {_moment(seen.delivered_at)}" if seen.delivered_at else ""
    return [f"Facebook accepted it{at}.{waited}", f"Nothing is lost. {_NOTHING}"]


def _waits(seen: EventDetail, lost: bool, now: datetime) -> list[str]:
    if seen.deadline_at <= now:
        return _too_late(seen, lost, now)
    why, do = _because(seen.failure, lost)
    because = f" because {why}" if seen.failure else ""
    once = " once that is put right" if seen.failure else ""
    return [
        f"It has not been passed on to Facebook yet{because}.",
        f"It is not lost: it is kept and goes out by itself{once}. Facebook takes it until {_moment(seen.deadline_at)},"
        " and not later.",
        do if seen.failure else _NOTHING,
    ]


def _dead(seen: EventDetail, lost: bool, now: datetime) -> list[str]:
    if seen.failure == "past_deadline" or seen.deadline_at <= now:
        return _too_late(seen, lost, now)
    why = explain(seen.failure)
    if why.whose == NOBODY:
        return [f"It is not passed on to Facebook: {_small(why.what)}.", f"{_ORDER_STANDS} {_NOTHING}"]
    because, do = (_small(why.what), _ask(SHOP)) if why.whose == SHOP else _because(seen.failure, lost)
    return [
        f"It has not been taken by Facebook: {because}.",
        f"It is kept, and we can send it again until {_moment(seen.deadline_at)} once that is put right.",
        f"{_ORDER_STANDS} {do}",
    ]


def _too_late(seen: EventDetail, _lost: bool, _now: datetime) -> list[str]:
    return [
        f"It could not be passed on to Facebook until {_moment(seen.deadline_at)}, and Facebook takes nothing later:"
        " Facebook will not count it.",
        f"{_ORDER_STANDS} {_NOTHING}",
    ]


def _skipped(seen: EventDetail, _lost: bool, _now: datetime) -> list[str]:
    why = explain(seen.failure)
    known = _WORDS.get(seen.failure or "")
    because = known[0] if known else _small(why.what) if why.whose in (SHOP, NOBODY) else _OURS[0]
    return [
        f"It was not passed on to Facebook: {because}.",
        f"{_ORDER_STANDS} {known[1] if known else _ask(why.whose)}",
    ]


_STATES = {"delivered": _delivered, "parked": _waits, "due": _waits, "dead": _dead, "skipped": _skipped}


def of_app(shop: str, *, waiting: int, first_lost_at: datetime | None, failure: str | None, lost_token: bool) -> str:
    """About a whole shop: what waits, why, until when, what to do."""
    why, do = _because(failure, lost_token)
    if not waiting or first_lost_at is None:
        now = f"At the moment {why}." if failure else "Everything that comes in is passed on to Facebook."
        return "\n".join([f"{shop}:", now, do if failure else _NOTHING])
    wait = f"{plural(waiting, 'event')} of your shop {'waits' if waiting == 1 else 'wait'}"
    return "\n".join(
        [
            f"{shop}:",
            f"{wait} to be passed on to Facebook because {why}.",
            f"Nothing is lost yet: what waits is kept and goes out by itself. Facebook takes the first of it until"
            f" {_moment(first_lost_at)}, and nothing later.",
            do,
        ]
    )


def _because(failure: str | None, lost_token: bool) -> tuple[str, str]:
    word = failure or ""
    if word in ("token_expired", "token_soft") or (word == "token_dead" and not lost_token):
        return _WORDS["token_dead"] if lost_token else _RENEWING
    return _WORDS.get(word) or (_AWAY if explain(word).whose == META else _OURS)


def _ask(whose: str) -> str:
    asks = {
        SHOP: "Please have whoever looks after your shop's pages or its connection to us correct it.",
        MERCHANT: "Please look at the app's settings.",
    }
    return asks.get(whose, _NOTHING)


def _what(seen: EventDetail, number: str | None) -> str:
    name = seen.event_name if _NAME.fullmatch(seen.event_name) else "an event of your shop"
    money = ""
    if seen.value is not None and _CODE.fullmatch(seen.currency or ""):
        money = f", {seen.value:,.2f} {seen.currency}"
    order = next((one for one in (number, seen.order_id) if one and _NUMBER.fullmatch(one)), None)
    return f"Your order {order} ({name}{money})" if order else f"Your shop's event ({name}{money})"


def _small(words: str) -> str:
    return words if words.startswith("Meta") else words[:1].lower() + words[1:]


def _moment(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"
