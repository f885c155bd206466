"""What a visitor has agreed to, and what an app does where nothing was said.

Shopify's names: https://shopify.dev/docs/api/web-pixels-api/standard-api/customerprivacy ; Meta has no field for
consent itself, only for limited data use, so what must not be sent is kept back here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

# What an app does with an event that carries no consent: send it, send it for limited use only, keep it back.
POLICIES = ("send", "limit", "require")
_MARKETING = ("marketing", "marketingAllowed", "ad_storage", "ads")
_SALE = ("sale_of_data", "saleOfData", "saleOfDataAllowed")
_WORDS = {"true": True, "granted": True, "yes": True, "false": False, "denied": False, "no": False}


@dataclass(frozen=True, slots=True)
class Consent:
    """None where the visitor was not asked, or nobody passed the answer on."""

    marketing: bool | None = None
    sale_of_data: bool | None = None


UNSAID = Consent()


def read_consent(given: Any) -> Consent:
    """Consent from a body's `consent` object; what is neither yes nor no counts as not said."""
    if not isinstance(given, dict):
        return UNSAID
    return Consent(_first(given, _MARKETING), _first(given, _SALE))


def keeps_back(policy: str, consent: Consent) -> bool:
    """Whether Meta must not hear of this visitor."""
    return consent.marketing is False or (consent.marketing is None and policy == "require")


def limits_use(policy: str, consent: Consent) -> bool:
    """Whether Meta may use the event only in the limited way (data_processing_options LDU)."""
    return consent.sale_of_data is False or (consent == UNSAID and policy == "limit")


def _first(given: Json, names: tuple[str, ...]) -> bool | None:
    for name in names:
        value = given.get(name)
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in _WORDS:
            return _WORDS[value.strip().lower()]
    return None
