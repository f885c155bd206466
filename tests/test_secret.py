"""A secret can be carried about but not shown."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from core.secret import Secret, SecretLeak

PLAIN = "EAA-marked-token"


def test_it_prints_as_its_fingerprint() -> None:
    secret = Secret(PLAIN)
    shown = [str(secret), repr(secret), f"{secret}", f"{secret:>30}", "%s" % secret, str([secret]), str({"a": secret})]  # noqa: UP031
    assert all(secret.fingerprint in one and PLAIN not in one for one in shown)


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_cannot_be_copied_out(way: object) -> None:
    with pytest.raises(SecretLeak):
        way(Secret(PLAIN))  # type: ignore[operator]


def test_it_cannot_be_made_json() -> None:
    with pytest.raises(TypeError):
        json.dumps(Secret(PLAIN))


def test_equal_secrets_are_equal_and_name_the_same() -> None:
    assert Secret(PLAIN) == Secret(PLAIN) != Secret("other")
    assert Secret(PLAIN) != PLAIN
    assert len({Secret(PLAIN), Secret(PLAIN)}) == 1


def test_an_empty_secret_is_none_at_all() -> None:
    with pytest.raises(ValueError, match="empty"):
        Secret("")
