"""What we promise: the figure, and the tests, benchmarks and drills that show it.

A promise without a proof that can fail is not made: `tests/test_promises.py` looks for every proof named here.
"""

from __future__ import annotations

from dataclasses import dataclass

_D, _S, _N, _I, _ST, _P, _B = (
    f"tests/{room}" for room in ("doors", "services", "desk", "inbound", "store", "pages", "browser")
)


@dataclass(frozen=True, slots=True)
class Promise:
    """`shown` holds tests as `file::function`; `runs` what has a figure of its own: `bench NAME`, or a key of RUNS."""

    name: str
    words: str
    aim: str
    shown: tuple[str, ...]
    runs: tuple[str, ...] = ()


NOTHING_LOST = (
    Promise(
        "R1",
        "kill -9 anywhere loses nothing that was acknowledged",
        "500 random SIGKILLs and every failpoint × 20: 0 lost, every duplicate with its twin's event id",
        (
            "tests/trials/test_main_road.py::test_a_worker_that_is_killed_leaves_everything_to_the_next",
            "tests/trials/test_tracking.py::test_a_thousand_tracking_calls_and_a_killed_worker",
            "tests/trials/test_machines.py::test_processes_are_killed_and_refused_and_the_ledger_balances",
        ),
        ("crash", "crash on PostgreSQL", "many machines"),
    ),
    Promise(
        "R2",
        "We answer only after the commit, and quickly; what cannot be stored is a 503, never a 200",
        "p99 ≤ 50 ms at 50 calls/s on SQLite, ≤ 150 ms while a backlog of 100,000 drains, none above 5 s",
        (
            f"{_D}/test_endpoint_intake.py::test_what_waits_together_is_committed_together_and_stands_when_answered",
            f"{_D}/test_endpoint_app.py::test_a_locked_database_is_answered_503_and_never_200",
            f"{_D}/test_endpoint_app.py::test_a_full_database_is_answered_503",
            f"{_D}/test_endpoint_app.py::test_a_read_only_database_is_answered_503_and_used_again_afterwards",
            f"{_D}/test_endpoint_app.py::test_a_database_that_is_away_is_not_ready_and_takes_nothing",
            "tests/trials/test_database_away.py::test_a_lock_held_long_loses_nothing",
        ),
        ("bench intake",),
    ),
    Promise(
        "R3",
        "Many refusals at once cost one exchange for each token",
        "500 handlers in 4 processes: 1 exchange; 100 tokens × 20: 100; a stopped owner overwrites nothing",
        (
            f"{_S}/test_flight.py::test_a_crowd_in_four_processes_costs_one_exchange_for_each_token",
            f"{_S}/test_flight.py::test_an_owner_that_stands_still_is_overtaken_and_overwrites_nothing",
        ),
        ("storm", "storm on PostgreSQL"),
    ),
    Promise(
        "R4",
        "A newer token is never replaced by an older one",
        "10,000 random interleavings: 0 violations",
        (f"{_S}/test_interleavings.py::test_no_interleaving_replaces_a_newer_token_or_leaves_an_event_behind",),
        ("interleavings",),
    ),
    Promise(
        "R5",
        "A 200 without a later end is not success",
        "at most 2 exchanges a day for a token whose end does not move",
        (
            f"{_S}/test_refresh.py::test_a_200_is_only_success_when_the_end_moved",
            f"{_S}/test_ladder.py::test_an_end_that_does_not_move_costs_two_exchanges_a_day_at_most",
        ),
    ),
    Promise(
        "R6",
        "No loops",
        "one refresh on error for a token in 10 minutes; refused again after it: parked",
        (
            f"{_S}/test_ladder.py::test_a_storm_of_refusals_is_one_refresh_of_a_token_in_ten_minutes",
            f"{_S}/test_ladder.py::"
            "test_a_token_that_refreshes_well_and_is_refused_all_the_same_is_parked_after_one_retry",
        ),
    ),
    Promise(
        "R7",
        "Nothing is sent after its deadline, nothing dies silently",
        "0 requests with an event older than 7 days (62 in a store); alerts 24 and 6 hours before",
        (
            f"{_S}/test_delivery.py::test_an_event_past_its_deadline_is_never_sent",
            f"{_S}/test_recovery.py::test_nothing_is_sent_after_its_deadline_and_every_death_has_a_reason",
            f"{_S}/test_alerts.py::test_events_near_their_deadline_are_told_of_at_24_and_6_hours",
        ),
    ),
    Promise(
        "R8",
        "One bad event does not sink a batch",
        "1 bad of 1,000: 999 accepted in at most 21 requests; 3 bad: at most 60",
        (f"{_S}/test_delivery.py::test_bad_events_do_not_sink_the_batch",),
        ("poison", "poison on PostgreSQL"),
    ),
    Promise(
        "R9",
        "A noisy shop does not delay the others",
        "a backlog of 50,000 of one shop: others' fresh events at most 5 s later (p99)",
        ("tests/trials/test_machines.py::test_a_backlog_of_one_shop_does_not_hold_up_the_others",),
        ("noisy", "noisy on PostgreSQL"),
    ),
    Promise(
        "R10",
        "Meta away for two hours",
        "0 lost; calls at most 5 % of normal meanwhile; drained within 30 min; at most 1.5 × normal rate"
        " (two hours are time-lapsed in a test, the drill is in real time)",
        (
            "tests/trials/test_machines.py::test_two_hours_without_meta_cost_few_calls_and_no_event",
            f"{_S}/test_incidents.py::test_meta_away_for_an_hour_costs_few_calls_and_nothing_is_lost",
        ),
        ("outage",),
    ),
    Promise(
        "R11",
        "Bulk is exact",
        "previewed = executed + listed skips; kill -9 resumes with no row twice; a double click is one job",
        (
            f"{_S}/test_bulk.py::test_a_job_that_must_stop_is_finished_by_the_next_worker",
            f"{_N}/test_commands.py::test_a_double_click_is_one_job_and_one_line",
            f"{_P}/test_retry_all.py::test_what_comes_after_the_question_is_not_among_it",
        ),
        ("bulk", "bulk on PostgreSQL"),
    ),
    Promise(
        "R12",
        "One schedule among many workers",
        "each token once; missed runs caught up once; clock jumps of 2 h harmless",
        (
            f"{_S}/test_schedule.py::test_two_workers_schedules_refresh_each_token_once",
            f"{_S}/test_schedule.py::test_runs_that_were_missed_are_caught_up_once",
            f"{_S}/test_schedule.py::test_a_clock_that_jumps_stops_nothing_and_sets_off_nothing_at_once",
        ),
    ),
    Promise(
        "R13",
        "A wave of ends",
        "10,000 tokens ending on one day: under the cap, none below 7 days untouched",
        (f"{_S}/test_wave.py::test_a_wave_stays_under_the_cap_and_leaves_no_token_untouched",),
        ("wave",),
    ),
    Promise(
        "R14",
        "Alerts are bounded and honest",
        "1,000 tokens failing in 5 min: at most 3 messages a channel; a channel away 1 h gets its message after",
        (
            f"{_S}/test_telling.py::test_a_thousand_tokens_that_fail_within_five_minutes_are_three_messages_at_most",
            f"{_S}/test_telling.py::test_a_channel_that_is_away_for_an_hour_gets_everything_afterwards_in_one_message",
            f"{_S}/test_alerts.py::test_a_worker_that_falls_silent_is_noticed_by_the_others",
            "tests/trials/test_story.py::test_from_the_dead_token_to_the_recovery_notice",
        ),
    ),
    Promise(
        "R16",
        "No forged webhook is accepted, no odd body is a server error",
        "10,000 mutations: 0 accepted; the endpoint answers as its OpenAPI document says",
        (
            f"{_I}/test_shopify.py::test_no_forgery_is_accepted_and_the_original_is",
            f"{_I}/test_shopify.py::test_the_mutations_are_many",
            f"{_D}/test_openapi.py::test_whatever_comes_is_answered_as_the_document_says",
        ),
    ),
    Promise(
        "R19",
        "The ledger balances",
        "received = accepted + duplicate + skipped + dead + parked + due, for each app and day",
        (
            f"{_S}/test_accounts.py::test_the_account_balances_along_the_main_road_and_back",
            f"{_S}/test_accounts.py::test_a_line_that_is_gone_is_found_told_and_named",
            f"{_S}/test_accounts.py::test_a_line_that_nobody_counted_is_found_too",
            f"{_S}/test_alerts.py::test_the_ledger_and_the_outbox_must_tell_the_same",
            "tests/trials/test_machines.py::test_processes_are_killed_and_refused_and_the_ledger_balances",
        ),
    ),
    Promise(
        "R20",
        "Upgrade",
        "a database of the first release with 100,000 events: migrated within 10 s, nothing missing",
        (
            f"{_ST}/test_upgrade.py::test_it_is_migrated_in_seconds_with_every_row",
            f"{_ST}/test_upgrade.py::test_what_waited_goes_out_once_its_token_is_mended",
            f"{_ST}/test_rolling_upgrade.py::test_a_database_that_a_newer_program_has_migrated_is_used",
        ),
        ("rolling",),
    ),
)

NOBODY_IN = (
    Promise(
        "S1",
        "Shopify's signature is checked on the raw bytes before they are parsed",
        "two secrets while they rotate; an unknown app answers like a bad signature",
        (
            f"{_I}/test_shopify.py::test_the_secret_that_matched_is_named",
            f"{_D}/test_endpoint_webhooks.py::test_a_bad_signature_is_refused_and_noted",
            f"{_D}/test_endpoint_webhooks.py::test_both_secrets_are_good_while_they_rotate",
        ),
    ),
    Promise(
        "S2",
        "A replay counts once",
        "the same body 100 times: one event",
        (
            f"{_D}/test_endpoint_track.py::test_a_hundred_replays_are_one_event",
            f"{_D}/test_endpoint_webhooks.py::test_a_redelivery_is_a_duplicate",
        ),
    ),
    Promise(
        "S3",
        "Origins, values and the client's address are checked by the endpoint itself",
        "a listed host or nothing; the address only from the connection or a named proxy",
        (
            f"{_D}/test_endpoint_track.py::test_listed_hosts_are_enforced_in_the_handler",
            f"{_D}/test_endpoint_track.py::test_an_untrusted_proxy_is_not_believed",
            f"{_D}/test_two_tenants.py::test_pages_of_one_shop_use_up_nothing_of_what_the_other_may_send",
        ),
    ),
    Promise(
        "S4",
        "Bodies are capped while they stream; odd JSON is a 400",
        "64 KiB for a call, 5 MiB for a webhook, ten levels",
        (
            f"{_D}/test_endpoint_track.py::test_a_streamed_body_is_cut_off_at_its_cap",
            f"{_D}/test_endpoint_track.py::test_odd_bodies_are_never_a_server_error",
            f"{_D}/test_endpoint_webhooks.py::test_five_megabytes_are_the_most",
            f"{_I}/test_reading.py::test_any_bytes_give_an_object_or_a_refusal",
        ),
    ),
    Promise(
        "S5",
        "Rates are bounded per app and per address",
        "429 with Retry-After; an IPv6 household is one visitor",
        (
            f"{_D}/test_endpoint_track.py::test_who_sends_too_much_is_told_when_to_come_again",
            f"{_I}/test_rates.py::test_a_household_is_one_visitor",
        ),
    ),
    Promise(
        "S6",
        "It fails closed",
        "an error of ours is never a 200",
        (
            f"{_D}/test_endpoint_app.py::test_a_locked_database_is_answered_503_and_never_200",
            f"{_D}/test_endpoint_races.py::test_a_value_that_the_database_never_takes_is_not_the_database_away",
        ),
    ),
    Promise(
        "S7",
        "Calls go where the settings say, and nowhere else",
        "https and a list of hosts; no redirect followed; no alert to a private address unless allowed",
        (
            "tests/test_settings.py::test_what_is_wrong_is_said_in_one_line",
            "tests/meta/test_graph.py::test_a_redirect_is_not_followed",
            f"{_S}/test_outgoing.py::test_an_alert_does_not_reach_a_private_address",
            f"{_S}/test_outgoing.py::test_nor_by_a_name_that_is_public_when_asked_and_private_when_connected",
        ),
    ),
    Promise(
        "S8",
        "TLS is verified, every call has a time limit",
        "no way to switch it off",
        (
            f"{_S}/test_outgoing.py::test_tls_is_verified_and_cannot_be_switched_off",
            "tests/sandbox/test_sandbox_faults.py::test_latency_outlasts_the_time_limit",
        ),
    ),
    Promise(
        "S9",
        "Tokens are encrypted at rest, each bound to its row",
        "on by default in databases that we make; a missing key ends the start and changes nothing",
        (
            f"{_ST}/test_sealing.py::test_no_plain_token_is_in_the_files_of_a_database_that_we_made",
            f"{_ST}/test_sealing.py::test_a_ciphertext_in_another_apps_row_does_not_open_and_spoils_no_list",
            f"{_ST}/test_keyring.py::test_a_missing_key_file_ends_the_start_and_changes_nothing",
            f"{_N}/test_keys.py::test_a_rotation_killed_in_the_middle_is_gone_on_with",
        ),
    ),
    Promise(
        "S10",
        "Screens show fingerprints; there is no way to reveal a token",
        "four files read a secret in the clear",
        (
            "tests/test_house.py::test_secrets_are_read_in_the_clear_in_four_files_only",
            f"{_P}/test_every_page.py::test_an_admin_sees_every_widget_of_every_page_and_there_is_no_other",
        ),
    ),
    Promise(
        "S11",
        "No secret in logs, errors, tables, exports, pages, frames or metrics",
        "marked secrets are looked for everywhere: 0 found",
        (
            "tests/trials/test_canary.py::test_nothing_marked_reaches_logs_tables_exports_or_answers",
            "tests/meta/test_canary.py::test_neither_is_found_in_exceptions_or_debug_lines",
            f"{_D}/test_reconnect.py::test_nothing_secret_reaches_a_page_a_log_or_an_address",
            f"{_B}/test_browser.py::test_nothing_is_asked_of_the_outside_and_no_token_is_on_the_wire",
        ),
    ),
    Promise(
        "S12",
        "Personal data is stored as hashes only, and forgotten in time or when asked",
        "payloads, events and history by class; Shopify's redactions reach every table",
        (
            f"{_I}/test_track.py::test_people_are_hashed_on_receipt",
            f"{_S}/test_privacy.py::test_from_the_webhook_to_the_last_table",
            f"{_S}/test_upkeep.py::test_events_go_by_age_and_what_waits_never",
            "tests/test_readme.py::test_what_is_kept",
        ),
    ),
    Promise(
        "S13",
        "A CSV is RFC 4180, and no cell of it is a formula",
        "cells that begin with = + - @ tab CR or LF are made text",
        (
            f"{_N}/test_exports.py::test_a_formula_becomes_text",
            f"{_N}/test_exports.py::test_cells_survive_the_way_there_and_back",
        ),
    ),
    Promise(
        "S14",
        "Foreign text is text",
        "names of shops and Meta's words steer no page, terminal or message",
        (
            f"{_D}/test_reconnect.py::test_the_names_of_shops_are_text",
            f"{_N}/test_cases.py::test_a_shops_name_steers_no_terminal_and_turns_no_line_round",
            f"{_S}/test_alerts.py::test_a_name_becomes_neither_a_link_nor_a_mention_and_stays_readable",
            f"{_B}/test_foreign_text_browser.py::test_what_others_write_is_text_on_every_page",
        ),
    ),
    Promise(
        "S15",
        "Values are bound, wildcards escaped, sort columns come from a list",
        "a search for % finds what holds a %",
        (f"{_N}/test_tokens.py::test_search_and_filter", f"{_N}/test_tokens.py::test_every_sort_lists_every_app"),
    ),
    Promise(
        "S16",
        "Nobody reaches the console without signing in, and no role does more than it may",
        "idle 30 min, 12 h at most; roles are checked in every command; open only on this machine without operators",
        (
            f"{_D}/test_sign_in.py::test_a_stranger_is_led_to_the_form_and_back_to_the_page",
            f"{_D}/test_sign_in.py::test_a_strangers_websocket_is_refused_whatever_it_claims",
            f"{_D}/test_sign_in.py::test_an_open_websocket_ends_with_its_session",
            f"{_D}/test_sign_in.py::test_twelve_hours_are_the_end_even_in_use",
            f"{_D}/test_oidc.py::test_who_is_not_proven_does_not_come_in",
            f"{_D}/test_oidc.py::test_a_way_back_is_good_once",
            f"{_S}/test_sign_in.py::test_after_five_failures_a_name_is_locked_from_everywhere_and_longer_each_time",
            f"{_N}/test_roles.py::test_a_command_refuses_every_role_below_its_own",
            f"{_N}/test_roles.py::test_what_writes_is_told_who_orders_it",
            f"{_P}/test_buttons_by_role.py::test_a_press_orders_what_the_role_may_order_and_nothing_else",
            f"{_B}/test_guarding_browser.py::test_signing_out_ends_one_browsers_session_and_its_cookie_opens_nothing_anywhere",
            f"{_B}/test_guarding_browser.py::test_a_cookie_that_was_planted_is_not_the_one_after_signing_in",
            f"{_B}/test_guarding_browser.py::test_who_is_disabled_is_thrown_out_of_an_open_page_and_nobody_else_is",
        ),
    ),
    Promise(
        "S17",
        "The console cannot be framed, sniffed or reached under a foreign name",
        "headers on every answer, allowed hosts, no socket without a host we know",
        (
            f"{_P}/test_server.py::test_every_answer_carries_the_headers",
            f"{_P}/test_server.py::test_a_foreign_host_name_is_not_served",
            f"{_D}/test_sign_in.py::test_a_form_of_another_page_signs_nobody_in_or_out",
            f"{_B}/test_guarding_browser.py::test_a_name_that_leads_here_is_served_no_console",
            f"{_B}/test_guarding_browser.py::test_no_page_of_ours_shows_in_a_frame_of_theirs",
            f"{_B}/test_guarding_browser.py::test_a_form_of_theirs_signs_nobody_in_or_out",
            f"{_B}/test_guarding_browser.py::test_a_script_of_theirs_reads_nothing_and_does_nothing",
            f"{_B}/test_guarding_browser.py::test_the_cookie_is_no_scripts_and_no_other_names_and_ends_with_the_browser",
        ),
    ),
    Promise(
        "S18",
        "Opening a link changes nothing",
        "only a button does",
        (
            f"{_D}/test_reconnect.py::test_opening_a_link_changes_nothing",
            f"{_D}/test_sign_in.py::test_opening_a_link_signs_nobody_out",
            f"{_B}/test_guarding_browser.py::test_a_form_of_theirs_begins_no_login_at_facebook",
        ),
    ),
    Promise(
        "S19",
        "API keys are long, scoped, stored as hashes and shown once",
        "128 bits",
        (
            f"{_ST}/test_keepers.py::test_an_api_key_is_shown_once_and_stored_hashed",
            f"{_D}/test_endpoint_app.py::test_a_refresh_needs_a_key",
            f"{_D}/test_two_tenants.py::test_what_names_anothers_is_answered_as_if_it_were_nobodys_and_changes_nothing",
            f"{_D}/test_two_tenants.py::test_the_platforms_refresh_of_one_user_calls_meta_for_nobody_else",
        ),
    ),
    Promise(
        "S20",
        "A bulk job asks for its orderer's right again when it runs",
        "who lost the right in the meantime: the job is cancelled, and the trail says why",
        (
            f"{_S}/test_rights.py::test_a_job_whose_orderer_lost_the_right_is_cancelled_and_costs_no_call",
            f"{_S}/test_rights.py::test_a_right_that_goes_while_the_job_runs_ends_it_after_the_round_under_way",
            f"{_S}/test_rights.py::test_who_still_may_is_served",
        ),
    ),
    Promise(
        "S21",
        "The audit trail can only grow, and tampering shows",
        "a changed or deleted line is found",
        (
            f"{_ST}/test_keepers.py::test_a_tampered_audit_line_is_found",
            f"{_ST}/test_keepers.py::test_a_deleted_audit_line_is_found",
        ),
    ),
    Promise(
        "S22",
        "Every move is made once, by whoever holds the lease",
        "a lost lease acknowledges nothing",
        (
            f"{_S}/test_delivery.py::test_only_legal_moves_are_made",
            f"{_S}/test_delivery.py::test_a_lost_lease_acknowledges_nothing",
            "tests/trials/test_machines.py::test_a_worker_that_is_cut_off_sends_nothing_twice_beyond_its_lease",
        ),
        ("network split",),
    ),
    Promise(
        "S23",
        "A reconnect link is signed, bound to one merchant, good once and for seven days",
        "state and cookie are checked on return",
        (
            f"{_S}/test_links.py::test_no_letter_of_a_link_can_be_changed",
            f"{_D}/test_reconnect.py::test_a_link_works_for_seven_days",
            f"{_D}/test_reconnect.py::test_a_login_counts_once_and_a_second_callback_is_answered_kindly",
            f"{_D}/test_reconnect.py::test_a_login_comes_back_to_the_browser_that_began_it",
            f"{_D}/test_reconnect.py::test_states_cannot_be_swapped_between_cases",
            f"{_D}/test_two_tenants.py::test_one_merchants_login_mends_their_own_token_alone",
            f"{_B}/test_guarding_browser.py::test_a_name_that_leads_to_the_endpoint_finishes_no_login",
        ),
    ),
    Promise(
        "S24",
        "Metrics and health carry no shop and no token, and have a door of their own",
        "bounded labels",
        (
            f"{_D}/test_metrics.py::test_the_snapshot_tells_nothing_of_shops_and_tokens",
            f"{_D}/test_two_tenants.py::test_what_names_anothers_is_answered_as_if_it_were_nobodys_and_changes_nothing",
            f"{_D}/test_metrics.py::test_a_scrape_reads_one_small_table_and_a_snapshot_no_event_that_arrived",
        ),
    ),
    Promise(
        "S25",
        "Little right on the platform's tables is enough",
        "the role of README, used in a test",
        (
            "tests/test_readme.py::test_the_rights_are_enough",
            f"{_D}/test_cli_keys.py::test_the_rights_on_two_columns_are_enough",
        ),
    ),
    Promise(
        "S26",
        "Nothing that is read can become code",
        "no pickle, no eval, no yaml.load",
        ("tests/test_house.py::test_nothing_that_is_read_becomes_code",),
    ),
    Promise(
        "S28",
        "Dependencies are bounded and audited",
        "pip-audit in every run of CI that reaches its data",
        ("tests/test_house.py::test_every_dependency_has_bounds_and_is_audited",),
    ),
)

FAST = (
    Promise(
        "B1",
        "Durable intake",
        "≥ 0.35 of a no-op on SQLite, ≥ 0.5 on PostgreSQL, ≥ 10 × a commit for each",
        ("tests/test_bench.py::test_intake_is_compared_with_a_server_that_does_nothing",),
        ("bench intake",),
    ),
    Promise(
        "B2",
        "Delivery",
        "≥ 50 × the SDK one by one, ≥ 4 × (SQLite 3 ×) in batches, ≥ 0.3 of a bare loop",
        (
            f"{_S}/test_delivery.py::test_due_events_go_out_in_one_request_and_leave_the_outbox",
            "tests/meta/test_graph.py::test_send_joins_the_stored_bytes_and_keeps_the_token_in_the_header",
        ),
        ("bench delivery",),
    ),
    Promise(
        "B3",
        "Growth",
        "≤ 1.5 × from 10,000 to 5,000,000 stored events",
        (f"{_N}/test_events.py::test_pages_never_read_the_whole_ledger",),
        ("bench growth",),
    ),
    Promise(
        "B4",
        "Pages of the console",
        "data within 1 s (p95) at 20,000 apps and 5,000,000 events",
        (f"{_N}/test_events.py::test_pages_never_read_the_whole_ledger",),
        ("bench console",),
    ),
    Promise(
        "B5",
        "Workers side by side",
        "2 workers ≥ 1.9 ×, 4 workers ≥ 3.6 × one",
        ("tests/trials/test_workers.py::test_workers_come_and_go_while_there_is_work",),
        ("bench workers",),
    ),
    Promise(
        "B6",
        "Refreshing 10,000 tokens",
        "≥ 0.8 of parallelism ÷ latency",
        (f"{_S}/test_bulk.py::test_a_bulk_refresh_counts_what_worked_and_what_did_not",),
        ("bench refresh",),
    ),
    Promise(
        "B7",
        "Memory",
        "endpoint ≤ 60 MB, worker ≤ 120 MB, console ≤ 300 MB",
        (f"{_D}/test_endpoint_process.py::test_a_process_serves_at_once_finishes_on_sigterm_and_stays_light",),
        ("bench memory",),
    ),
)

PROMISES = (*NOTHING_LOST, *NOBODY_IN, *FAST)
