import hashlib
import json
from datetime import date
from pathlib import Path

import pytest

from core.meta.hashing import KEYS, hashed, normalize
from core.meta.places import COUNTRY_CODES, STATES

CASES = json.loads(Path(__file__).with_name("hashing_cases.json").read_text())
DIGEST = hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['key']}-{case['raw']!r}")
def test_a_value_has_one_form(case):
    text = case["normalized"]
    assert normalize(case["key"], case["raw"]) == text
    expected = None if text is None else hashlib.sha256(text.encode()).hexdigest()
    assert hashed(case["key"], case["raw"]) == expected


def test_every_key_has_cases():
    assert {case["key"] for case in CASES} == set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_a_hash_passes_through(key):
    assert hashed(key, f" {DIGEST} ") == DIGEST
    assert hashed(key, DIGEST.upper()) == DIGEST
    assert hashed(key, f"{DIGEST}.AQICAQMC") == f"{DIGEST}.AQICAQMC"
    assert normalize(key, DIGEST) is None


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", [None, True, [], {}, 1.5, b"x", "", "\u200b", "\ud800\udfff"])
def test_what_cannot_be_used_is_dropped(key, value):
    assert hashed(key, value) is None


@pytest.mark.parametrize(
    ("raw", "country", "digits"),
    [
        ("650 253 0000", "US", "16502530000"),
        ("+44 20 7946 0958", "US", "442079460958"),
        ("020 7946 0958", "GB", "442079460958"),
        ("+49 (0)30 123456", "DE", "4930123456"),
        ("01 23 45 67 89", "fr", "33123456789"),
        ("02 1234 5678", "IT", "390212345678"),
        ("090-1234-5678", "Japan", "819012345678"),
        ("650 253 0000", "Atlantis", "6502530000"),
    ],
)
def test_a_country_completes_a_phone_number(raw, country, digits):
    assert normalize("ph", raw, country=country) == digits


def test_a_state_is_shortened_only_where_it_is_one():
    assert normalize("st", "Ontario", country="CA") == "on"
    assert normalize("st", "Ontario", country="GB") == "ontario"


def test_a_birthday_may_be_a_date():
    assert normalize("db", date(1984, 3, 9)) == "19840309"


def test_the_tables_are_whole():
    assert len(COUNTRY_CODES) == 249
    assert all(len(code) == 2 and code.islower() for code in COUNTRY_CODES)
    assert len(set(STATES.values())) == 50 + 13
