"""Through which door of a shop an order came, and whether the app takes orders from there.

Meta wants the truth about where an event happened, `action_source`:
https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/server-event#action-source
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from core.inbound.values import text

Json = dict[str, Any]

WEBSITE = "website"
# In an app's list: every order made by another app through Shopify's API, whose source is that app's number.
ANY_API_APP = "api_apps"

# source_name → Meta's word for the place, our word where the app does not take it. What is not here came from another
# app (its number, or a name it chose): a shop's website to Meta, once the app says that it takes such orders.
# Meta's `app` would need the phone's details (2804043), which no order has. Renewals are not a visitor's doing; their
# name has changed unannounced: https://community.shopify.dev/t/order-paid-webhook-sourcename-property-changed-for-subscription/23868
_PLACES: dict[str, tuple[str, str]] = {
    "pos": ("physical_store", "pos"),
    "shopify_draft_order": ("other", "draft_order"),
    "iphone": ("other", "other_channel"),
    "android": ("other", "other_channel"),
    "subscription_contract": ("system_generated", "other_channel"),
    "subscription_contract_checkout_one": ("system_generated", "other_channel"),
}
_ELSEWHERE = (WEBSITE, "other_channel")


def channel_of(body: Json) -> str:
    """Its source; the web where none is said, as with every cart."""
    return text(body.get("source_name")) or "web"


def action_source(channel: str) -> str:
    return _PLACES.get(channel, _ELSEWHERE)[0]


def not_taken(channel: str, listed: Container[str]) -> str | None:
    """Why this app sends no events of this channel; None where it does."""
    by_an_app = channel.isascii() and channel.isdigit()
    if channel == "web" or channel in listed or (by_an_app and ANY_API_APP in listed):
        return None
    return _PLACES.get(channel, _ELSEWHERE)[1]
