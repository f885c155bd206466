from __future__ import annotations

import base64
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from core.inbound.reading import read_base64_object, read_object


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":1e-999}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' * 11 + b"1" + b"}" * 11,
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'\xff{"a":1}',
        b'{"a":"\x00"}',
        b"{'a':1}",
        b'{"a":1}{',
        b'{"a":01}',
    ],
)
def test_what_is_not_a_plain_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput):
        read_object(body)


def test_numbers_keep_their_digits() -> None:
    body = read_object(b'{"id": 18446744073709551617, "price": 10.10, "bom": "\\ud83d\\ude00"}')
    assert body == {"id": 18446744073709551617, "price": Decimal("10.10"), "bom": "\U0001f600"}


def test_text_that_no_database_takes_is_mended() -> None:
    body = read_object(b'{"a\\u0000b": ["x\\ud800y", "\\u0000"]}')
    assert body == {"ab": ["x\ufffdy", ""]}


def test_ten_levels_are_read_and_a_byte_order_mark_is_forgiven() -> None:
    assert read_object(b"\xef\xbb\xbf" + b'{"a":' * 10 + b"1" + b"}" * 10)["a"]


@given(st.binary(max_size=200))
def test_any_bytes_give_an_object_or_a_refusal(body: bytes) -> None:
    try:
        found: object = read_object(body)
    except BadInput:
        found = {}
    assert isinstance(found, dict)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=30), max_size=5))
def test_base64_is_read_in_either_alphabet(body: dict[str, str]) -> None:
    plain = json.dumps(body).encode()
    for encoded in (base64.b64encode(plain), base64.urlsafe_b64encode(plain).rstrip(b"=")):
        assert read_base64_object(encoded.decode().replace("+", " ")) == read_object(plain)
