from __future__ import annotations

import base64
import hmac
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.inbound import shopify
from core.inbound.shopify import MissingHeaders, OtherShop, delivery, signed_by
from core.secret import Secret
from tests.inbound.bodies import SECRET, SHOP, order, raw, signature

BODY = raw(order(created_at="2026-11-23T10:00:00Z"))
GOOD = signature(BODY)
NEW = Secret("the_new_one")
OLD = Secret(SECRET)
DIGEST = base64.b64decode(GOOD)


def test_the_secret_that_matched_is_named() -> None:
    assert signed_by(BODY, [GOOD], [OLD]) == 0
    assert signed_by(BODY, [GOOD], [NEW, OLD]) == 1
    assert signed_by(BODY, [GOOD], [NEW]) is None
    assert signed_by(BODY, [GOOD], []) is None


def _flip(place: int, bit: int) -> bytes:
    changed = bytearray(BODY)
    changed[place % len(BODY)] ^= 1 << bit
    return bytes(changed)


def _swap_case(places: list[int]) -> str:
    letters = [place for place, letter in enumerate(GOOD) if letter.isalpha()]
    chosen = {letters[place % len(letters)] for place in places}
    return "".join(letter.swapcase() if place in chosen else letter for place, letter in enumerate(GOOD))


def _with_bit(place: int, bit: int) -> str:
    changed = bytearray(DIGEST)
    changed[place] ^= 1 << bit
    return base64.b64encode(changed).decode()


_PLACES, _BITS = st.integers(0, 10_000), st.integers(0, 7)
# Other spellings of the right 32 bytes, and what else is made of them.
_SPELLINGS = [
    GOOD.lower(),
    GOOD.upper(),
    GOOD.rstrip("="),
    GOOD + "=",
    GOOD + "==",
    GOOD + "\n",
    f"\t{GOOD}",
    f" {GOOD} ",
    f'"{GOOD}"',
    f"sha256={GOOD}",
    f"{GOOD},{GOOD}",
    f"{GOOD}, {GOOD}",
    GOOD[:20] + " " + GOOD[20:],
    GOOD[:20] + "\0" + GOOD[20:],
    GOOD.replace("=", "%3D"),
    base64.urlsafe_b64encode(DIGEST).decode() + "\n",
    base64.b64encode(GOOD.encode()).decode(),
    base64.b64encode(DIGEST.hex().encode()).decode(),
    base64.b32encode(DIGEST).decode(),
    DIGEST.hex(),
    DIGEST.hex().upper(),
    DIGEST.decode("latin-1"),
    signature(json.dumps(json.loads(BODY)).encode()),
    signature(BODY, "the_old_one"),
    signature(BODY, ""),
    base64.b64encode(hmac.digest(SECRET.encode(), BODY, "sha1")).decode(),
    base64.b64encode(hmac.digest(SECRET.encode(), BODY, "sha512")).decode(),
    base64.b64encode(hmac.digest(base64.b64encode(SECRET.encode()), BODY, "sha256")).decode(),
    *(GOOD[:-2] + last + "=" for last in "AEIMQUYcgkosw048" if last != GOOD[-2]),
]
_FORGED: st.SearchStrategy[tuple[bytes, list[str]]] = st.one_of(
    st.builds(lambda place, bit: (_flip(place, bit), [GOOD]), _PLACES, _BITS),
    st.builds(lambda cut: (BODY[: cut % len(BODY)], [GOOD]), _PLACES),
    st.builds(lambda cut: (BODY[cut % len(BODY) + 1 :], [GOOD]), _PLACES),
    st.builds(lambda more: (BODY + more, [GOOD]), st.binary(min_size=1, max_size=20)),
    st.builds(lambda more: (more + BODY, [GOOD]), st.sampled_from([b"\xef\xbb\xbf", b" ", b"\n", b"\0"])),
    st.builds(lambda body: (body, [GOOD]), st.binary(max_size=200)),
    st.builds(lambda cut: (BODY, [GOOD[: cut % len(GOOD)]]), _PLACES),
    st.builds(lambda cut: (BODY, [GOOD[cut % len(GOOD) + 1 :]]), _PLACES),
    st.builds(lambda places: (BODY, [_swap_case(places)]), st.lists(_PLACES, min_size=1, max_size=8)),
    st.builds(lambda place, bit: (BODY, [_with_bit(place, bit)]), st.integers(0, 31), _BITS),
    st.builds(
        lambda place, letter: (BODY, [GOOD[: place % 44] + letter + GOOD[place % 44 + 1 :]]),
        _PLACES,
        st.characters(max_codepoint=255) | st.sampled_from(["", "==", "\u20ac", "\n", " "]),
    ),
    st.builds(lambda spelling: (BODY, [spelling]), st.sampled_from(_SPELLINGS)),
    st.builds(lambda text: (BODY, [text]), st.text(max_size=60)),
    st.builds(lambda secret: (BODY, [signature(BODY, secret)]), st.text(max_size=40).filter(lambda s: s != SECRET)),
    st.builds(lambda others: (BODY, others), st.sampled_from([[], [""], [GOOD, GOOD], [GOOD, ""], ["", GOOD]])),
)


@settings(max_examples=10_000, deadline=None, database=None)
@given(_FORGED)
def test_no_forgery_is_accepted_and_the_original_is(forged: tuple[bytes, list[str]]) -> None:
    body, signatures = forged
    genuine = (body, signatures) == (BODY, [GOOD])  # a mutation may change nothing
    assert (signed_by(body, signatures, [OLD]) is None) is not genuine
    assert (signed_by(body, signatures, [NEW, OLD]) is None) is not genuine
    assert signed_by(BODY, [GOOD], [OLD]) == 0


def test_the_mutations_are_many() -> None:
    """Ten thousand more, without a library that thinks twice: none is accepted."""
    chance = random.Random(7)
    accepted = 0
    for _ in range(10_000):
        body, given_ = bytearray(BODY), GOOD
        if chance.random() < 0.5:
            body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        else:
            given_ = _with_bit(chance.randrange(32), chance.randrange(8))
        accepted += signed_by(bytes(body), [given_], [OLD, NEW]) is not None
    assert accepted == 0


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


def test_a_header_of_any_length_is_cut() -> None:
    sent = delivery({"x-shopify-shop-domain": SHOP, "shopify-topic": "x" * 5000, "shopify-webhook-id": "y" * 5000})
    assert (len(sent.topic or ""), len(sent.webhook_id or "")) == (100, 100)


@pytest.mark.parametrize(
    ("topic", "route", "reason"),
    [
        ("orders/create", "orders/create", None),
        ("orders/paid", "orders/create", None),
        ("carts/create", "orders/create", "topic_mismatch"),
        ("refunds/create", "orders/create", "topic_mismatch"),
        ("no/such", "orders/create", "topic_mismatch"),
        ("orders/create", "shopify", None),
        ("shop/redact", "shopify", None),
        ("app/uninstalled", "shopify", None),
        ("refunds/create", "shopify", "ignored_topic"),
        ("carts/update", "shopify", "ignored_topic"),
        ("draft_orders/create", "shopify", "ignored_topic"),
        ("no/such", "shopify", "unknown_topic"),
        ("shopify", "shopify", "unknown_topic"),
        ("shop/redact", "customers/redact", None),
        ("shop/redact", "app/uninstalled", "topic_mismatch"),
        ("app/uninstalled", "shop/redact", "topic_mismatch"),
        ("shop/redact", "orders/create", "topic_mismatch"),
        ("orders/create", "shop/redact", "topic_mismatch"),
    ],
)
def test_which_topic_is_taken_where(topic: str, route: str, reason: str | None) -> None:
    assert shopify.why_not(topic, route) == reason


def test_no_topic_is_both_served_and_ignored() -> None:
    assert not shopify.IGNORED & {*shopify.ROUTES}
    assert {"orders/updated", "refunds/create", "checkouts/update"} <= shopify.IGNORED


@pytest.mark.parametrize(
    ("body", "good"),
    [
        ({}, True),
        ({"shop_domain": SHOP}, True),
        ({"shop_domain": SHOP.upper() + " "}, True),
        ({"shop_domain": None, "myshopify_domain": ""}, True),
        ({"shop_domain": "other.myshopify.com"}, False),
        ({"myshopify_domain": "other.myshopify.com"}, False),
        ({"shop_domain": SHOP, "myshopify_domain": "other.myshopify.com"}, False),
    ],
)
def test_a_body_names_the_shop_of_its_header_or_none(body: dict[str, object], good: bool) -> None:
    if good:
        shopify.check_shop(body, SHOP)
        return
    with pytest.raises(OtherShop):
        shopify.check_shop(body, SHOP)
