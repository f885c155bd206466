"""What counts as a yes, as a no, and as nothing said."""

from __future__ import annotations

from typing import Any

import pytest

from core.inbound.consent import UNSAID, Consent, read_consent


@pytest.mark.parametrize(
    ("given", "consent"),
    [
        ([None], UNSAID),
        ([{}], UNSAID),
        ([[]], UNSAID),
        (["perhaps"], UNSAID),
        ([{"marketing": 2}], UNSAID),
        ([{"analytics": True}], UNSAID),
        ([{"marketing": True}], Consent(True)),
        ([{"marketing": "GRANTED "}], Consent(True)),
        ([{"marketing": 0}], Consent(False)),
        ([{"marketing": "denied"}], Consent(False)),
        ([False], Consent(False)),
        (["denied"], Consent(False)),
        ([True], Consent(True)),
        ([{"marketingAllowed": False, "saleOfDataAllowed": False}], Consent(False, False)),
        ([{"marketing": True}, {"marketingAllowed": False}], Consent(False)),
        ([{"analytics": True}, {"marketingAllowed": False}], Consent(False)),
        ([None, {"sale_of_data": "no"}], Consent(None, False)),
    ],
)
def test_consent(given: list[Any], consent: Consent) -> None:
    assert read_consent(*given) == consent
