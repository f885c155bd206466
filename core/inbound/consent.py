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
_YES, _NO = ("true", "granted", "yes", "1"), ("false", "denied", "no", "0")
_WORDS = dict.fromkeys(_YES, True) | dict.fromkeys(_NO, False)


@dataclass(frozen=True, slots=True)
class Consent:
    """None where the visitor was not asked, or nobody passed the answer on."""

    marketing: bool | None = None
    sale_of_data: bool | None = None


UNSAID = Consent()


def read_consent(*given: Any) -> Consent:
    """Consent from what a body says of it: objects with one of the names, or one plain yes or no to marketing.

    What is neither yes nor no counts as not said; of several answers a no outweighs a yes.
    """
    objects = [one if isinstance(one, dict) else {"marketing": one} for one in given if one is not None]
    return Consent(_verdict(objects, _MARKETING), _verdict(objects, _SALE))


def keeps_back(policy: str, consent: Consent) -> bool:
    """Whether Meta must not hear of this visitor."""
    return consent.marketing is False or (consent.marketing is None and policy == "require")


def limits_use(policy: str, consent: Consent) -> bool:
    """Whether Meta may use the event only in the limited way (data_processing_options LDU)."""
    return consent.sale_of_data is False or (consent == UNSAID and policy == "limit")


def _verdict(objects: list[Json], names: tuple[str, ...]) -> bool | None:
    answers = [answer for one in objects for name in names if (answer := _answer(one.get(name))) is not None]
    return all(answers) if answers else None


def _answer(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    return _WORDS.get(str(value).strip().lower()) if isinstance(value, str | int) else None
