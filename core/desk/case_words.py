"""What a merchant is told about a lost connection: plain words, no codes, nothing about how we work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.services.reconnect import plain

# Why the connection was lost, by the case's failure; each follows on "can no longer report to Facebook: ".
WHY: dict[str, str] = {
    "token_expired": "the permission that was given to us has run out, as it does after about 60 days",
    "token_dead": "the connection was ended there, for example because a password was changed or our app was removed",
    "token_soft": "Facebook asks for a new login, as it does after a change to the account",
}
WHY_NOT_KNOWN = "Facebook asks for a new login"

# Why a login was not taken. {names}: the permissions or shops that it was about.
REFUSED: dict[str, str] = {
    "cancelled": "You left Facebook's window before the connection was made. Nothing was changed.",
    "dialog_error": "Facebook could not finish the login. Please try again; if it happens once more, tell us.",
    "no_code": "Facebook sent you back without an answer. Please try again.",
    "code_refused": "Facebook did not confirm the login; perhaps it took too long. Please try again.",
    "wrong_app": "The login went to another app than ours. This is our mistake: please tell us, we will put it right.",
    "token_refused": "Facebook itself does not accept this login. Please open facebook.com, follow what it asks you"
    " to do, and try again here.",
    "other_user": "This is another Facebook account than the one that was connected before. Please log in with the"
    " account that was used the first time. If the change is intended, tell us: we must allow it first, and then the"
    " same link works.",
    "missing_scope": "A permission that is needed was not given: {names}. Please try again and leave all permissions"
    " switched on.",
    "pixel_unreachable": "The account may not use the pixel of {names}. Please try again and choose all businesses"
    " that are offered, or log in with an account that manages the pixel.",
    "our_setup": "We could not finish the login because of a mistake on our side. Please tell us; this link will work"
    " again once it is put right.",
    "meta_away": "Facebook could not be reached just now. Please try again in a few minutes.",
    "busy": "We were busy with this connection at the same moment. Please try again.",
}


def why(failure: str) -> str:
    return WHY.get(failure, WHY_NOT_KNOWN)


def refused(word: str, names: str | None) -> str:
    """The sentence for the merchant; Meta's own words are not among it."""
    return REFUSED.get(word, REFUSED["dialog_error"]).replace("{names}", plain(names or "") or "not named")


def listed(shops: Sequence[str], *, most: int = 5) -> str:
    """`A`, `A and B`, `A, B and C`, `A, B, C, D and 9 more`."""
    names = [name for name in map(plain, shops) if name]
    if not names:
        return "your shop"
    named, more = names[:most], len(names) - most
    if more > 0:
        named = [*named[:-1], f"{more + 1} more"]
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def day(moment: datetime) -> str:
    """`Thursday, 3 December 2026, 14:05 UTC`."""
    return f"{moment:%A}, {moment.day} {moment:%B %Y, %H:%M} UTC"


def subject(shops: Sequence[str], *, again: bool) -> str:
    return f"{'Reminder: please' if again else 'Please'} connect Facebook again for {listed(shops, most=2)}"


def message(
    shops: Sequence[str], *, failure: str, link: str, ends_at: datetime, waiting: int, lost_at: datetime | None
) -> str:
    """The letter that goes with a link, for e-mail or chat."""
    kept = (
        f"What your customers do is kept in the meantime and sent once you are connected again. The first of it is"
        f" lost after {day(lost_at)}, because Facebook takes nothing older than seven days."
        if waiting and lost_at
        else "What your customers do is kept for seven days in the meantime, and sent once you are connected again."
    )
    return "\n\n".join(
        [
            "Hello,",
            f"{listed(shops)} can no longer report visits and orders to Facebook: {why(failure)}.",
            kept,
            "To connect again, open this link and press the button. You log in at facebook.com; we never see your"
            " password. Please use the same Facebook account as before, and leave all permissions switched on.",
            link,
            f"The link works once, until {day(ends_at)}. It is made for you: please do not pass it on.",
        ]
    )
