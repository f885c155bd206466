import pytest

from core.meta.limits import LONGEST, retry_after

BUSINESS = "X-Business-Use-Case-Usage"
ACCOUNT = "X-Ad-Account-Usage"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({BUSINESS: '{"1":[{"estimated_time_to_regain_access":3}]}'}, 180),
        (
            {
                BUSINESS: '{"1":[{"estimated_time_to_regain_access":3},{"estimated_time_to_regain_access":7}],'
                '"2":[{"call_count":90}]}'
            },
            420,
        ),
        ({BUSINESS: '{"1":[{"estimated_time_to_regain_access":0}]}', "Retry-After": "30"}, 30),
        ({ACCOUNT: '{"acc_id_util_pct":40,"reset_time_duration":90}'}, 90),
        (
            {
                BUSINESS: '{"1":[{"estimated_time_to_regain_access":1}]}',
                ACCOUNT: '{"acc_id_util_pct":100,"reset_time_duration":500}',
            },
            60,
        ),
        ({"Retry-After": "12.5"}, 12.5),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"Retry-After": "-4"}, None),
        ({"Retry-After": "nan"}, None),
        ({BUSINESS: "not json", ACCOUNT: "[1]"}, None),
        ({BUSINESS: '{"1":{"a":2}}'}, None),
        ({BUSINESS: '{"1":[{"estimated_time_to_regain_access":999999}]}'}, LONGEST),
    ],
)
def test_meta_says_how_long_to_wait(headers, seconds):
    assert retry_after(headers, refused=True) == seconds


def test_the_account_clock_counts_on_a_success_only_when_used_up():
    assert retry_after({ACCOUNT: '{"acc_id_util_pct":40,"reset_time_duration":90}'}, refused=False) is None
    assert retry_after({ACCOUNT: '{"acc_id_util_pct":100,"reset_time_duration":90}'}, refused=False) == 90
