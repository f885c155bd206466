"""Why a shop may be silent, in words: what happened, whose it is, what to do. One line for each cause."""

from __future__ import annotations

from core.desk.explain import MERCHANT, SHOP, US, Explanation

_E = Explanation

SILENCES: dict[str, Explanation] = {
    "quiet": _E(
        "Neither storefront calls nor webhooks come, and none is refused: the shop is quiet or closed, or the app was"
        " taken out of it",
        MERCHANT,
        "Open the shop. If it sells, see whether the app is still installed there; if it is closed, pause the app",
    ),
    "webhooks_gone": _E(
        "Storefront calls come and webhooks do not: their subscriptions are gone, or lead elsewhere",
        US,
        "Look at the app's webhook subscriptions in Shopify, and register them again",
    ),
    "browser_blocked": _E(
        "Webhooks come and storefront calls do not: browsers cannot reach the endpoint from this shop",
        SHOP,
        "Open the shop with the browser's console: an ad blocker, its Content-Security-Policy, another domain or DNS"
        " stands in the way, or the theme lost our script",
    ),
    "refused": _E(
        "Requests come and none is taken",
        SHOP,
        "Read the commonest reason: `capi-console receipts --app` with this app tells of each",
    ),
    "everybody": _E(
        "Nothing comes from any shop: that is no shop's fault",
        US,
        "Look whether the endpoint runs and is reached from outside: its log, DNS, certificate, proxy",
    ),
}
