import pytest

from core.meta.failures import Scope
from core.meta.limits import LONGEST, UsedUp, retry_after, used_up

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


APP = "X-App-Usage"


@pytest.mark.parametrize(
    ("headers", "limit"),
    [
        ({}, None),
        ({APP: '{"call_count":28,"total_time":25,"total_cputime":25}'}, None),
        ({APP: '{"call_count":100,"total_time":25,"total_cputime":25}'}, UsedUp(Scope.APP, None)),
        ({APP: '{"call_count":3,"total_time":25,"total_cputime":104}'}, UsedUp(Scope.APP, None)),
        ({APP: '{"call_count":100}', "Retry-After": "30"}, UsedUp(Scope.APP, 30)),
        ({APP: "[100]"}, None),
        ({APP: '{"call_count":"many"}'}, None),
        ({BUSINESS: '{"1":[{"estimated_time_to_regain_access":2}]}'}, UsedUp(Scope.PIXEL, 120)),
        ({BUSINESS: '{"1":[{"call_count":100,"estimated_time_to_regain_access":0}]}'}, None),
        ({ACCOUNT: '{"acc_id_util_pct":100,"reset_time_duration":90}'}, UsedUp(Scope.PIXEL, 90)),
        ({ACCOUNT: '{"acc_id_util_pct":99.5,"reset_time_duration":90}'}, None),
    ],
)
def test_an_accepted_request_may_be_the_last_for_a_while(headers, limit):
    assert used_up(headers) == limit


@pytest.mark.parametrize(
    ("headers", "seconds"), [({}, 3600), ({"Retry-After": "5"}, 3600), ({"Retry-After": "5000"}, 5000)]
)
def test_a_policy_block_lasts_an_hour_at_least(headers, seconds):
    assert retry_after(headers, refused=True, least=3600) == seconds
