from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.inbound.shopify import MissingHeaders, delivery, signed_by
from core.secret import Secret
from tests.inbound.bodies import SECRET, SHOP, order, raw, signature

BODY = raw(order(created_at="2026-11-23T10:00:00Z"))
GOOD = signature(BODY)
NEW = Secret("the_new_one")
OLD = Secret(SECRET)


def test_the_secret_that_matched_is_named() -> None:
    assert signed_by(BODY, [GOOD], [OLD]) == 0
    assert signed_by(BODY, [GOOD], [NEW, OLD]) == 1
    assert signed_by(BODY, [GOOD], [NEW]) is None
    assert signed_by(BODY, [GOOD], []) is None


@settings(max_examples=500)
@given(st.integers(0, len(BODY) - 1), st.integers(1, 255), st.integers(0, 5))
def test_a_changed_body_is_never_accepted(place: int, bits: int, extra: int) -> None:
    changed = bytearray(BODY)
    changed[place] ^= bits
    assert signed_by(bytes(changed) + b" " * extra, [GOOD], [OLD]) is None


@settings(max_examples=500)
@given(st.integers(0, 43), st.characters(max_codepoint=255) | st.sampled_from(["", "==", "\u20ac", "\n", " "]))
def test_a_changed_signature_is_never_accepted(place: int, letter: str) -> None:
    changed = GOOD[:place] + letter + GOOD[place + 1 :]
    assert (signed_by(BODY, [changed], [OLD]) is None) is (changed != GOOD)


@pytest.mark.parametrize(
    "signatures",
    [
        [],
        [""],
        [GOOD, GOOD],
        [GOOD.lower()],
        [GOOD.rstrip("=")],
        [GOOD + "="],
        [f" {GOOD}"],
        [GOOD[:-2] + "/="],
        [base64.b64decode(GOOD).hex()],
        [base64.urlsafe_b64encode(base64.b64decode(GOOD)).decode() + "\n"],
        [signature(BODY[:-1])],
        [signature(b"")],
        ["A" * 10_000],
    ],
)
def test_no_other_spelling_of_the_signature_is_accepted(signatures: list[str]) -> None:
    assert signed_by(BODY, signatures, [OLD, NEW]) is None


@pytest.mark.parametrize("prefix", ["x-shopify-", "shopify-"])
def test_both_families_of_headers_are_read(prefix: str) -> None:
    sent = delivery(
        {
            f"{prefix}shop-domain": SHOP.upper(),
            f"{prefix}topic": "orders/create",
            f"{prefix}triggered-at": "2026-11-23T10:00:00Z",
        }
    )
    assert (sent.shop, sent.topic) == (SHOP, "orders/create")
    assert sent.triggered_at is not None


@pytest.mark.parametrize("shop", ["", "no-dot", "a/b.com", "x" * 260 + ".com", "-.com "])
def test_a_delivery_names_its_shop(shop: str) -> None:
    with pytest.raises(MissingHeaders):
        delivery({"x-shopify-shop-domain": shop})
