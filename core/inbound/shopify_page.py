"""The page a Shopify order began on, fit to be shown to Meta."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

from core.inbound import browser
from core.store.apps import App

# Behind these a path goes on with a token that opens somebody's order, cart or account.
_PRIVATE = frozenset({"account", "cart", "checkout", "checkouts", "gift_cards", "invoices", "orders"})


def source_url(app: App, shop: str, landing: str | None) -> str:
    """The landing page on the shop's own host, with its click id and campaign only; any other becomes the shop's root.

    `order_status_url` and `abandoned_checkout_url` hold access keys, `referring_site` is another's page: never those.
    """
    home = f"https://{app.shop_domain or shop}/"
    try:
        parts = urlsplit(landing or "")
        host = parts.hostname
    except ValueError:
        return home
    own = {shop, app.shop_domain, *(entry.lower() for entry in app.allowed_origins)}
    if (host is not None and host not in own) or not parts.path.startswith("/") or _is_private(parts.path):
        return home
    page = f"https://{host or app.shop_domain or shop}{parts.path}"
    return browser.page_url(page + _campaign(parts.query)) or home


def _is_private(path: str) -> bool:
    """Orders and checkouts of the shop stand behind its number, `/548380009/orders/…`, or behind a language."""
    return not _PRIVATE.isdisjoint(path.lower().split("/")[1:3])


def _campaign(query: str) -> str:
    pairs = parse_qsl(query) if query.count("&") < 200 else []
    kept = [(key, value) for key, value in pairs if key == "fbclid" or key.startswith("utm_")]
    return f"?{urlencode(kept)}" if kept else ""
