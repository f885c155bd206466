"""Signed links and states: what we have not written, letter for letter, is not read."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from core.secret import Secret
from core.services import links
from core.services.links import Link, Links

OURS, THEIRS = Links(Secret("app-secret")), Links(Secret("app-secret-2"))
ENDS = datetime(2026, 12, 3, 14, 5, tzinfo=UTC)
LINK = Link(7, ENDS, "00112233445566778899aabbccddeeff")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
made = st.builds(
    Link,
    st.integers(1, 2**62),
    st.datetimes(datetime(2026, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
        lambda moment: moment.replace(microsecond=0)
    ),
    st.binary(min_size=16, max_size=16).map(bytes.hex),
)


@given(made)
def test_a_link_says_what_was_written(link: Link) -> None:
    assert OURS.read(OURS.write(link)) == link
    assert THEIRS.read(OURS.write(link)) is None


@given(made, st.data())
def test_no_letter_of_a_link_can_be_changed(link: Link, data: st.DataObject) -> None:
    text = OURS.write(link)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from(LETTERS).filter(lambda other: other != text[at]))
    assert OURS.read(text[:at] + letter + text[at + 1 :]) is None


@given(st.one_of(st.text(max_size=200), st.text(LETTERS, min_size=86, max_size=107)))
def test_what_nobody_wrote_is_no_link_and_no_state(text: str) -> None:
    assert OURS.read(text) is None
    assert OURS.login_of(text, "browser") is None


def test_cut_off_and_grown_links_are_none() -> None:
    text = OURS.write(LINK)
    for changed in (text[:-1], text[1:], text + "A", text + "=", text + "\n", " " + text, text.lower()):
        assert OURS.read(changed) is None


def test_case_end_and_nonce_cannot_be_moved_to_another_link() -> None:
    raw = base64.urlsafe_b64decode(OURS.write(LINK) + "==")
    other = base64.urlsafe_b64decode(OURS.write(Link(8, ENDS, LINK.nonce)) + "==")
    spliced = base64.urlsafe_b64encode(other[:8] + raw[8:]).decode().rstrip("=")
    assert OURS.read(spliced) is None


def test_a_state_is_no_link_and_a_signature_made_for_something_else_opens_nothing() -> None:
    said = base64.urlsafe_b64decode(OURS.write(LINK) + "==")[:32]
    forged = base64.urlsafe_b64encode(said + Secret("app-secret").sign(said)).decode().rstrip("=")
    assert OURS.read(forged) is None
    assert OURS.read(OURS.new_state(LINK, "browser")) is None
    assert OURS.login_of(OURS.write(LINK), "browser") is None


@given(made, st.text(max_size=60), st.text(max_size=60))
def test_a_state_is_good_beside_its_own_cookie_only(login: Link, mine: str, other: str) -> None:
    state = OURS.new_state(login, mine)
    assert OURS.login_of(state, mine) == login
    assert OURS.login_of(state, other) == (login if mine == other else None)
    assert THEIRS.login_of(state, mine) is None


@given(made, st.data())
def test_no_letter_of_a_state_can_be_changed(login: Link, data: st.DataObject) -> None:
    """So its case, its end and its link's nonce stand fast."""
    text = OURS.new_state(login, "browser")
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from(LETTERS).filter(lambda other: other != text[at]))
    assert OURS.login_of(text[:at] + letter + text[at + 1 :], "browser") is None


def test_states_and_nonces_never_repeat() -> None:
    assert len({OURS.new_state(LINK, "b") for _ in range(200)}) == 200
    assert len({links.new_nonce() for _ in range(200)}) == 200


def test_a_link_prints_no_nonce() -> None:
    assert LINK.nonce not in repr(LINK)
