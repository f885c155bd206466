"""How much one app and one visitor may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.inbound.rates import Buckets, Rates

VISITOR, OTHER = "93.184.216.34", "93.184.216.35"


def passed(rates: Rates, times: int, *, app: str = "a", address: str | None = VISITOR, now: float = 0.0) -> int:
    return sum(rates.wait(app, address, events=1, now=now) is None for _ in range(times))


def guesses(rates: Rates, times: int, address: str | None) -> int:
    let = 0
    for _ in range(times):
        if rates.wait_guess(address, now=0.0) is None:
            rates.guessed_wrong(address, now=0.0)
            let += 1
    return let


def test_an_app_may_burst_and_then_send_at_its_rate() -> None:
    rates = Rates(app=10, address=0)
    assert passed(rates, 100) == 40
    assert passed(rates, 100, now=1.0) == 10
    assert passed(rates, 100, app="b", now=1.0) == 40


def test_one_visitor_does_not_use_up_the_apps_share_for_the_others() -> None:
    rates = Rates(app=1000, address=5)
    assert passed(rates, 100) == 30
    assert passed(rates, 100, address=OTHER) == 30
    assert passed(rates, 100, app="b") == 30


def test_a_refused_visitor_is_told_when_to_come_again() -> None:
    rates = Rates(app=0, address=0.5)
    assert passed(rates, 10) == 3
    assert rates.wait("a", VISITOR, events=1, now=0.0) == 2
    assert rates.wait("a", VISITOR, events=1, now=2.0) is None


def test_a_batch_counts_its_events_and_never_waits_for_ever() -> None:
    rates = Rates(app=0, address=1)
    assert rates.wait("a", VISITOR, events=20, now=0.0) is None
    assert rates.wait("a", VISITOR, events=20, now=0.0) == 20
    assert rates.wait("a", VISITOR, events=20, now=19.9) == 1
    assert rates.wait("a", VISITOR, events=20, now=20.0) is None


def test_who_is_refused_has_used_up_nothing() -> None:
    rates = Rates(app=10, address=1)
    assert passed(rates, 100, address=None) == 40
    assert passed(rates, 10) == 0, "the app's share is used up"
    assert passed(rates, 10, now=1.0) == 6, "and the visitor's is whole"
    assert passed(rates, 100, address=None, now=1.0) == 4, "whose refused calls cost the app nothing"


def test_a_household_is_one_visitor() -> None:
    rates = Rates(app=0, address=1)
    assert passed(rates, 10, address="2606:4700:1:2::1") == 6
    assert passed(rates, 10, address="2606:4700:1:2:ffff::9") == 0
    assert passed(rates, 10, address="2606:4700:1:3::1") == 6


@pytest.mark.parametrize("address", [None, "127.0.0.1", "10.0.0.7", "::1", "fd00::1", "unknown", ""])
def test_an_address_that_may_be_a_proxys_is_not_counted(address: str | None) -> None:
    rates = Rates(app=0, address=1)
    assert passed(rates, 100, address=address) == 100
    assert guesses(rates, 100, address) == 100


def test_guessing_apps_is_slow() -> None:
    rates = Rates(app=0, address=0)
    assert guesses(rates, 100, VISITOR) == 10
    assert rates.wait_guess(VISITOR, now=0.0) == 1
    assert rates.wait_guess(VISITOR, now=1.0) is None
    assert rates.wait_guess(OTHER, now=0.0) is None


def test_what_is_remembered_is_bounded() -> None:
    buckets = Buckets(1, 1, most=10)
    for key in range(100):
        buckets.take(key, 1, now=0.0)
    assert len(buckets._held) == 10


@given(
    rate=st.floats(0.1, 100),
    burst=st.floats(1, 500),
    calls=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), max_size=60),
)
def test_never_more_than_the_burst_and_the_rate(rate: float, burst: float, calls: list[tuple[float, int]]) -> None:
    buckets, now, let = Buckets(rate, burst), 0.0, [(0.0, 0.0)]
    for pause, cost in calls:
        now += pause
        if buckets.lacks("k", cost, now) == 0:
            buckets.take("k", cost, now)
            let.append((now, cost))
    for start, (began, _) in enumerate(let):
        through = sum(cost for at, cost in let[start:] if at >= began)
        assert through <= max(burst, *(cost for _, cost in let)) + rate * (now - began) + 1e-6
