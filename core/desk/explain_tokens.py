"""What is found about tokens, in words: what happened, whose it is, what to do. One line for each word."""

from __future__ import annotations

from core.desk.explain import MERCHANT, META, NOBODY, US, Explanation, explain

_E = Explanation

# What `core.services.findings` finds about a token that still works.
FINDINGS: dict[str, Explanation] = {
    "missing_scope": _E(
        "The token lacks a permission that Meta wants for sending events",
        MERCHANT,
        "Send the reconnect link; the merchant leaves every permission ticked at Facebook's login",
    ),
    "pixel_unreachable": _E(
        "Meta does not let this token use the app's pixel",
        MERCHANT,
        "Compare the pixel's id with Events Manager; if it is right, have the merchant give the account that connected"
        " Facebook full control of the data set (Business settings, Data sources, Datasets)",
    ),
    "no_pixel": _E(
        "An app that holds this token has no pixel, so its events are skipped",
        MERCHANT,
        "Put the pixel's id from Events Manager into the app's settings",
    ),
    "short_lived": _E(
        "The token lives for an hour or two: it came straight from a login and was never exchanged",
        US,
        "Nothing if our Meta app made it: it is exchanged at once. Else store a system user's token, which has no end",
    ),
    "wrong_app": _E(
        "Another Meta app made this token: it can send, but it is neither looked up nor refreshed here",
        US,
        "Fine for a system user's token without an end (Events Manager, Settings, Generate access token)."
        " For any other, send the reconnect link before it ends",
    ),
    "data_access_over": _E(
        "The merchant has not used your Meta app for about 90 days, so its access to their data has ended;"
        " whether that stops events Meta does not say",
        MERCHANT,
        "Send the reconnect link: a login renews it. A system user's token is the lasting cure",
    ),
    "data_access_soon": _E(
        "The merchant has not used your Meta app for long: its access to their data ends within two weeks",
        MERCHANT,
        "Nothing yet. A login by the reconnect link renews it; a system user's token is the lasting cure",
    ),
}

# What is wrong for all tokens at once.
INCIDENTS: dict[str, Explanation] = {
    "app_config": _E(
        "Meta refuses our own app id or app secret",
        US,
        "Put the right FACEBOOK_APP_ID and FACEBOOK_APP_SECRET into the settings and start the worker again;"
        " then run capi-console doctor",
    ),
    "rate_limited": _E(
        "Our Meta app has made more calls than Meta allows it",
        NOBODY,
        "Wait: calls go on by themselves. If it comes every day, lower CAPI_REFRESHES_A_MINUTE",
    ),
    "meta_away": _E(
        "Meta is in trouble, or cannot be reached from here",
        META,
        "Look at metastatus.com. If Meta is well, check this machine's way out: DNS, proxy, firewall",
    ),
}

# Why an alert is sent.
ALERTS: dict[str, Explanation] = {
    "deadline": _E(
        "Events still wait and are lost soon: Meta takes nothing older than seven days",
        US,
        "Look why they wait (Failed events, Reconnect) and mend that first; ring the merchant rather than write",
    ),
    "worker_silent": _E(
        "A worker has died or hangs: it gave no sign of life and did not say good-bye",
        US,
        "Start it again and read its last log lines; the others go on with its work meanwhile",
    ),
    "incident": _E(
        "Something is wrong for all tokens at once: refreshes pause and events wait until it is over",
        US,
        "Read Meta's words below; it ends by itself as soon as Meta answers again",
    ),
    "needs_reconnect": _E(
        "Only the merchant can mend these tokens; their events wait, and no try is spent on them",
        MERCHANT,
        "Send each merchant the reconnect link (page Reconnect, or capi-console cases)",
    ),
    "refresh_failed": _E(
        "The refresh of these tokens came to nothing; it is tried again by itself",
        US,
        "Read Meta's words; capi-console doctor tells what it is about",
    ),
    "expiring": _E(
        "These tokens end soon and were not extended",
        MERCHANT,
        "Send the reconnect link before the end: after it, events wait",
    ),
    "ledger": _E(
        "The ledger, the outbox and what came in do not tell the same of some events",
        US,
        "Was a backup restored, or a table changed by hand? Keep a copy of the database and report it",
    ),
    "orders_missing": _E(
        "Meta has accepted fewer than nine in ten of a day's orders, of ten or more that it should have had",
        US,
        "Read the likely cause below, and what became of each order at the app (page Apps)",
    ),
    "silent_shop": _E(
        "Nothing comes from these shops, though it should by their own weekly rhythm",
        US,
        "Read the likely cause below: the shop, its webhooks, or the way from its browsers to us",
    ),
}

# Where a reconnect case stands, and why a login was not taken.
CASES: dict[str, Explanation] = {
    "made": _E("The token cannot be mended without the merchant, and nobody has asked them yet", US, "Send the link"),
    "sent": _E("The merchant has a link and has not used it yet", MERCHANT, "Wait; ask again when the reminder is due"),
    "opened": _E(
        "Somebody pressed the link's button, and no login has been taken yet",
        MERCHANT,
        "Wait, or read why the last login was not taken",
    ),
    "expired": _E("The link's seven days are over and it was not used", US, "Send a new link"),
    "done": _E("The merchant's apps hold a working token again", NOBODY, "Nothing"),
    "cancelled": _E(
        "The merchant left Facebook's dialog with Cancel",
        MERCHANT,
        "Ask what kept them; the same link still works",
    ),
    "dialog_error": _E(
        "Facebook's dialog ended with an error",
        US,
        "Read Meta's words. If it says that the app is not active or the address is not allowed, put it right at"
        " developers.facebook.com: the app is live, and the callback's address is a Valid OAuth Redirect URI",
    ),
    "no_code": _E("Facebook sent the merchant back without a code", META, "Have the merchant try the same link again"),
    "code_refused": _E(
        "Meta did not give a token for the login's code",
        META,
        "Have the merchant try the same link again; if it stays, compare CAPI_PUBLIC_URL with the Valid OAuth"
        " Redirect URIs of your Meta app",
    ),
    "wrong_app": _E(
        "The token that came of the login belongs to another Meta app",
        US,
        "Check that FACEBOOK_APP_ID and FACEBOOK_APP_SECRET belong together",
    ),
    "token_refused": _E(
        "Meta calls the token that came of the login invalid",
        META,
        "Have the merchant open facebook.com, follow what it asks, and try the same link again",
    ),
    "other_user": _E(
        "Another Meta user logged in than the one who connected before",
        MERCHANT,
        "Ask the merchant whether that is right (a new employee, another account). If so, accept another user for"
        " this case, and have them try the same link again",
    ),
    "missing_scope": _E(
        "The merchant gave the login without a permission that sending needs",
        MERCHANT,
        "Have them try the same link again and leave every permission ticked",
    ),
    "pixel_unreachable": _E(
        "The account that logged in may not use the pixel",
        MERCHANT,
        "Have the merchant choose the business that owns the pixel, or give the account access to it (Business"
        " settings, Data sources, Datasets); if the pixel's id is wrong, put it right. Then the same link again",
    ),
    "our_setup": _E(
        "Meta refuses our own app id or app secret",
        US,
        "Check FACEBOOK_APP_ID and FACEBOOK_APP_SECRET and start the endpoint again; the same link works then",
    ),
    "meta_away": _E(
        "Meta was in trouble, or limits our calls, while the login was checked",
        META,
        "Have the merchant try the same link again in a few minutes",
    ),
    "busy": _E(
        "A worker held the old token while the login was to be stored",
        US,
        "Have the merchant try the same link again",
    ),
}


def explain_token(word: str | None) -> Explanation:
    """The line for a finding, an incident, an alert or a case, else for a failure or a reason."""
    key = word or ""
    return FINDINGS.get(key) or INCIDENTS.get(key) or ALERTS.get(key) or CASES.get(key) or explain(word)
