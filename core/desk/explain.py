"""A failure in words: what happened, whose it is, what to do. A table, one line for each word the database may hold."""

from __future__ import annotations

from dataclasses import dataclass

from core.meta.failures import Failure, classify

MERCHANT, US, META, SHOP, NOBODY = "Merchant", "Us", "Meta", "Shop", "Nobody"


@dataclass(frozen=True, slots=True)
class Explanation:
    """`what` happened, `whose` move it is, what to `do`; each a short sentence."""

    what: str
    whose: str
    do: str
    retry_helps: bool = False


_E = Explanation

# Why Meta refused: one line for each Failure.
FAILURES: dict[str, Explanation] = {
    Failure.TOKEN_EXPIRED: _E(
        "Meta says the access token has expired",
        US,
        "Refresh the token; if that cannot mend it, the merchant connects again",
    ),
    Failure.TOKEN_DEAD: _E(
        "The access token is gone for good (password changed, app removed or token damaged)",
        MERCHANT,
        "Send the merchant the reconnect link; waiting events go out by themselves then",
    ),
    Failure.TOKEN_SOFT: _E(
        "Meta doubts the session behind the token, perhaps for a moment only",
        US,
        "Refresh the token; it is checked with Meta before anything else",
    ),
    Failure.APP_CONFIG: _E(
        "Meta refuses our own app id, app secret or proof",
        US,
        "Check FACEBOOK_APP_ID and FACEBOOK_APP_SECRET; no merchant can help",
    ),
    Failure.PERMISSION: _E(
        "The token may not use this pixel, or the pixel does not exist",
        MERCHANT,
        "Check the pixel id, and that the merchant's account may use it; then retry",
        retry_helps=True,
    ),
    Failure.RATE_LIMITED: _E(
        "Too many requests for Meta's taste",
        NOBODY,
        "Wait: sending goes on by itself, slower",
    ),
    Failure.TRANSIENT: _E(
        "Meta was in trouble or could not be reached",
        META,
        "Wait: it is tried again by itself; retry what has died",
        retry_helps=True,
    ),
    Failure.INVALID_EVENT: _E(
        "Meta refuses this event's content",
        SHOP,
        "Read Meta's words in the detail and correct what the shop sends; retrying the same changes nothing",
    ),
    Failure.UNKNOWN: _E(
        "Meta refused with words we do not know yet",
        US,
        "Read Meta's words in the detail; retry once, then report the trace id",
        retry_helps=True,
    ),
}

# Our own reasons to hold an event back, end it or not send it at all.
REASONS: dict[str, Explanation] = {
    "past_deadline": _E(
        "It waited until Meta would no longer take it", NOBODY, "Nothing can send it any more; see why it waited"
    ),
    "no_token": _E(
        "The app has no access token yet", MERCHANT, "Connect Facebook for this app; events go out by themselves then"
    ),
    "locked_token": _E(
        "The app's token is encrypted with a key that this process does not have",
        US,
        "Start it with that key: `capi-console keys list` names it; events go out by themselves then",
    ),
    "no_pixel": _E("The app has no pixel", MERCHANT, "Put the pixel's id into the app's settings"),
    "pixel_disabled": _E("The pixel is switched off for this app", MERCHANT, "Switch the pixel on if it should send"),
    "paused": _E("The app is paused", US, "End the pause when its reason is gone"),
    "app_gone": _E("The app was deleted on the platform", NOBODY, "Nothing to do: nobody can send for it any more"),
    "redacted": _E(
        "It was emptied because the shop or its customer asked to be forgotten", NOBODY, "Nothing: it must not be sent"
    ),
    "no_match_keys": _E(
        "Too little in it for Meta to recognise a person", SHOP, "Have the shop send e-mail, phone or browser ids"
    ),
    "not_hashed": _E("Personal data was not hashed", SHOP, "Have the sender hash personal data, or send it plainly"),
    "no_user_agent": _E("A website event without the browser's name", SHOP, "Have the shop send client_user_agent"),
    "no_source_url": _E("A website event without its page", SHOP, "Have the shop send the page's address"),
    "no_name": _E("The event has no name", SHOP, "Have the shop send a name"),
    "no_time": _E("The event has no time in whole seconds", SHOP, "Have the shop send Unix seconds"),
    "bad_action_source": _E("Meta does not know this action source", SHOP, "Have the shop send a known one"),
    "too_old": _E("It was older than Meta takes when it came in", SHOP, "Have the shop send events within seven days"),
    "in_future": _E("Its time lies in the future", SHOP, "Have the shop check its clock and send seconds"),
    "no_value": _E("A purchase without a value", SHOP, "Have the shop send the order's value"),
    "bad_value": _E("Its value is not a number", SHOP, "Have the shop send a plain number"),
    "no_currency": _E("A purchase without a currency", SHOP, "Have the shop send the order's currency"),
    "bad_currency": _E("Its currency is not an ISO code", SHOP, "Have the shop send a code such as EUR"),
    "bad_custom_data": _E("Its custom data is not an object", SHOP, "Have the shop correct custom_data"),
    "not_forwarded": _E("This app does not forward this event name", NOBODY, "List its name if Meta should hear it"),
    "bot": _E("A crawler or script sent it", NOBODY, "Nothing: Meta should not hear of bots"),
    "no_consent": _E("The visitor did not agree to marketing", NOBODY, "Nothing: it must not be sent"),
    "reported_by_browser": _E("The browser itself told of this cart", NOBODY, "Nothing: it is sent once"),
    "too_large": _E("It is larger than any real event", SHOP, "Have the shop send less in it"),
    "duplicate": _E("It was known already", NOBODY, "Nothing: it is sent once"),
    "test_order": _E("A test order", NOBODY, "Nothing: test orders are not sent"),
    "cancelled": _E("The order was cancelled or its payment failed", NOBODY, "Nothing: no purchase took place"),
    "pos": _E("The order was made at a till", NOBODY, "Nothing, or take such orders too: app set --channels pos"),
    "draft_order": _E(
        "The order was written by the merchant", NOBODY, "Nothing, or take such orders too: app set --channels"
    ),
    "draft": _E("The order is a draft", NOBODY, "Nothing: no purchase took place"),
    "other_channel": _E(
        "The order came through another channel", NOBODY, "Nothing, or list its source name: app set --channels"
    ),
    "empty": _E("There is nothing in the cart", NOBODY, "Nothing: there is nothing to tell"),
    "completed": _E("The checkout has become an order", NOBODY, "Nothing: the purchase is sent instead"),
}

# Why a request was not taken, or taken without an event: what receipts say.
RECEIPTS: dict[str, Explanation] = {
    "bad_signature": _E(
        "A webhook that our Shopify app's secret did not sign", US, "Check SHOPIFY_API_SECRET, and who sends there"
    ),
    "no_secret": _E(
        "Webhooks are refused without a secret", US, "Put your Shopify app's secret into SHOPIFY_API_SECRET"
    ),
    "unknown_shop": _E("A webhook of a shop that no app names", US, "Add the app, or its shop: app set --shop"),
    "unknown_app": _E("A tracking call for an app that does not exist", SHOP, "Correct the appId in the storefront"),
    "other_origin": _E(
        "A tracking call from a page that is not the app's", SHOP, "List the page's host: app set --origins"
    ),
    "rate_limited": _E("More events than one app or address may send", SHOP, "See who sends; raise CAPI_RATE_APP"),
    "missing_fields": _E("A tracking call without appId or eventName", SHOP, "Correct what the storefront sends"),
    "too_many": _E("More than 20 events in one call", SHOP, "Send fewer events a call"),
    "too_large": _E("The body was too large", SHOP, "Send less a call"),
    "unreadable": _E("The body was not JSON that can be read", SHOP, "Correct what the storefront sends"),
    "broken_json": _E("A signed webhook whose body is not JSON", NOBODY, "Nothing, unless it comes again"),
    "wrong_shape": _E(
        "A webhook whose body is not what its topic says", US, "Check which topic is sent to which address"
    ),
    "other_topic": _E(
        "The app takes its purchases from another topic", NOBODY, "Nothing, or choose: app set --purchase-topic"
    ),
    "topic_mismatch": _E("A webhook that came to another topic's address", US, "Correct the subscription's address"),
    "shop_mismatch": _E("A webhook whose body names another shop than its header", US, "See who sends there"),
    "unknown_topic": _E("A webhook of a topic that is not known here", US, "End the subscription"),
    "ignored_topic": _E("A webhook of a topic that Meta needs not hear", NOBODY, "Nothing, or end the subscription"),
    "stale": _E(
        "A webhook older than Shopify's own retries", NOBODY, "Nothing: it was kept and sent again by somebody"
    ),
    "unstorable": _E("A webhook with values that no database takes", US, "Report the webhook's id"),
}

# What a refresh came to.
OUTCOMES: dict[str, Explanation] = {
    "extended": _E("A new token with a later end is stored", NOBODY, "Nothing: waiting events went out"),
    "new_token_same_expiry": _E(
        "Meta gave a new token that ends no later", US, "Nothing yet: the next try comes by itself"
    ),
    "not_extended": _E("Meta gave the same token again", US, "Nothing yet: Meta extends once a day"),
    "adopted": _E("A newer token of the same user was taken over", NOBODY, "Nothing: waiting events went out"),
    "reconnected": _E("Its owner gave a new token", NOBODY, "Nothing: waiting events went out"),
    "still_valid": _E("Meta says the token is valid", NOBODY, "Nothing: it is used on"),
    "needs_reconnect": _E(
        "Only the merchant can mend this token", MERCHANT, "Send the merchant the reconnect link (page Reconnect)"
    ),
    "refused": _E("Meta refused the refresh", US, "Read Meta's words in the refresh history"),
    "unreachable": _E("Meta could not be reached", META, "Wait: it is tried again by itself"),
}

_NOT_KNOWN = _E("A reason without an explanation yet", US, "Read the detail, and report this word")


def explain(word: str | None) -> Explanation:
    """The line for a failure, a reason, an outcome or a receipt."""
    key = word or ""
    return FAILURES.get(key) or REASONS.get(key) or OUTCOMES.get(key) or RECEIPTS.get(key) or _NOT_KNOWN


def meaning(code: int | None, subcode: int | None, words: str | None) -> str | None:
    """What Meta's numbers stand for, in our own few words: `190/460` is `password changed`; None without a code."""
    if code is None:
        return None
    error = {"code": code, "error_subcode": subcode, "message": words or ""}
    return classify({"error": error}, 400).name
