import pytest

from core.meta.failures import (
    NO_RULE,
    NOT_JSON,
    OUTSIDE_THE_TABLE,
    RULES,
    TOKEN_FAILURES,
    Failure,
    Scope,
    classify,
    scope_of,
)

CASES = [
    # code, subcode, message, failure
    (190, 463, "", "token_expired"),
    (190, "463", "", "token_expired"),
    ("190", 467, "", "token_expired"),
    (190, 452, "", "token_soft"),
    (190, 458, "", "token_dead"),
    (190, 459, "", "token_dead"),
    (190, 460, "", "token_dead"),
    (190, 464, "", "token_dead"),
    (190, 465, "", "token_dead"),
    (190, 492, "", "token_dead"),
    (190, None, "Session has expired on Monday", "token_expired"),
    (190, None, "Invalid OAuth access token - Cannot parse access token", "token_dead"),
    (190, None, "The access token could not be decrypted", "token_dead"),
    (190, None, "Malformed access token AAA", "token_dead"),
    (190, None, "something new", "token_expired"),
    (190, 999, "", "token_expired"),
    (102, None, "", "token_dead"),
    (104, None, "", "app_config"),
    (101, None, "", "app_config"),
    (100, None, "Invalid appsecret_proof provided in the API argument", "app_config"),
    (100, 33, "Unsupported post request", "permission"),
    (100, 2804132, "", "permission"),
    (3, None, "", "permission"),
    (10, None, "", "permission"),
    (200, None, "", "permission"),
    (299, None, "", "permission"),
    (4, 1504022, "", "rate_limited"),
    (17, 2446079, "", "rate_limited"),
    (32, None, "", "rate_limited"),
    (341, None, "", "rate_limited"),
    (368, None, "", "rate_limited"),
    (613, 1996, "", "rate_limited"),
    (613, None, "", "rate_limited"),
    (80000, None, "", "rate_limited"),
    (80004, 2446079, "", "rate_limited"),
    (80014, None, "", "rate_limited"),
    (1, None, "An unknown error occurred", "transient"),
    (2, None, "", "transient"),
    (5000, None, "", "transient"),
    (21009, None, "", "transient"),
    (-3, None, "", "transient"),
    (100, 2804003, "", "invalid_event"),
    (100, 2804009, "", "invalid_event"),
    (100, 2804016, "", "invalid_event"),
    (100, 2804043, "", "invalid_event"),
    (100, 2804050, "", "invalid_event"),
    (100, 2804063, "", "invalid_event"),
    (100, 2804066, "", "invalid_event"),
    (100, 2804072, "", "invalid_event"),
    (100, 2804087, "", "invalid_event"),
    (100, 2804116, "", "invalid_event"),
    (100, 2804118, "", "invalid_event"),
    (100, 2804777, "", "invalid_event"),
    (100, None, "Unexpected key", "invalid_event"),
    (105, None, "", "invalid_event"),
    (506, None, "", "invalid_event"),
    (80015, None, "", "unknown"),
    (300, None, "", "unknown"),
    (777777, None, "", "unknown"),
]


def refusal(code, subcode=None, message="", **more):
    return {"error": {"code": code, "error_subcode": subcode, "message": message, **more}}


@pytest.mark.parametrize(("code", "subcode", "message", "failure"), CASES)
def test_a_code_means(code, subcode, message, failure):
    assert classify(refusal(code, subcode, message), 400).failure == failure


def test_every_rule_is_reached_by_a_case():
    endpoints = ("1/events", "debug_token", "oauth/access_token")
    more = [
        (100, None, "The App_id in the input_token did not match the Viewing App", ""),
        (1, None, "Error validating client secret.", ""),
    ]
    reached = {
        classify(refusal(code, subcode, message), 400, endpoint=endpoint)
        for code, subcode, message, _ in CASES + more
        for endpoint in endpoints
    }
    assert [rule.name for rule in RULES if rule not in reached] == []


@pytest.mark.parametrize("body", [None, "<html>502</html>", b"", [], 7])
@pytest.mark.parametrize("status", [200, 400, 403, 502])
def test_what_is_not_a_json_object_is_transient_whatever_the_status(body, status):
    assert classify(body, status) is NOT_JSON
    assert NOT_JSON.failure is Failure.TRANSIENT


def test_a_known_code_goes_before_is_transient_and_status():
    assert classify(refusal(4, is_transient=True), 403).failure is Failure.RATE_LIMITED
    assert classify(refusal(190, 460, is_transient=True), 500).failure is Failure.TOKEN_DEAD


@pytest.mark.parametrize("flag", [True, 1])
def test_an_unknown_code_that_calls_itself_transient_is(flag):
    assert classify(refusal(424242, is_transient=flag), 400).failure is Failure.TRANSIENT


@pytest.mark.parametrize(
    ("status", "failure"), [(429, "rate_limited"), (500, "transient"), (503, "transient"), (400, "unknown")]
)
def test_without_a_code_the_status_decides(status, failure):
    assert classify({}, status).failure == failure
    assert classify({"error": "strange"}, status).failure == failure


def test_a_wrong_app_secret_is_ours_to_mend():
    body = refusal(1, None, "Error validating client secret.")
    assert classify(body, 400, endpoint="oauth/access_token").failure is Failure.APP_CONFIG
    assert classify(body, 400, endpoint="1/events").failure is Failure.TRANSIENT
    assert classify(refusal(190, None, "Invalid OAuth"), 400, endpoint="debug_token").failure is Failure.APP_CONFIG


def test_every_rule_has_a_short_name_and_a_failure():
    assert all(0 < len(rule.name) <= 40 for rule in (*RULES, *OUTSIDE_THE_TABLE))
    assert {rule.failure for rule in (*RULES, NO_RULE)} == set(Failure)
    assert {"token_expired", "token_dead", "token_soft"} == TOKEN_FAILURES


@pytest.mark.parametrize(
    ("scope", "codes"),
    [(Scope.APP, (4, 341)), (Scope.TOKEN, (17, 32, 368)), (Scope.PIXEL, (613, 80000, 80004, 80014, None, 190))],
)
def test_a_limit_counts_for_our_app_the_user_or_the_pixel(scope, codes):
    assert [scope_of(code) for code in codes] == [scope] * len(codes)
