"""Every widget of every page: what changes when it is used, and which order it gives. A page draws no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Widget:
    """`needs`: the order it gives, by which it is open or closed to a role. `by`: the test, beside those of
    test_every_widget.py, that uses it."""

    changes: str
    needs: str = ""
    by: str = ""


_W = Widget


def _asked(needs: str) -> dict[str, Widget]:
    """What is drawn once a button of this order, or of one that the same roles may give, asks once more."""
    return {"yes": _W("the order is given", needs), "reason": _W("stands in the audit trail", needs)}


_PASTED: Final = {
    "paste_token.*": _W("what is verified", "set_token"),
    "paste_reason.*": _W("stands in the audit trail"),
    "paste_alone.*": _W("its owner's other apps keep theirs"),
    "paste_other.*": _W("another Meta user's is taken, too"),
    "paste_give.*": _W("the token is stored", "set_token"),
}

WIDGETS: Final[dict[str, dict[str, Widget]]] = {
    "overview": {},
    "find": {
        "q": _W("what is told of"),
        "found": _W("whose story is told"),
    },
    "tokens": {
        "token": _W("which apps are listed"),
        "left": _W("which apps are listed"),
        "health": _W("which apps are listed"),
        "bars": _W("what the calendar's bars show"),
        "sort": _W("in which order they are listed"),
        "page": _W("which part of them is listed"),
        "tokens": _W("what the buttons are about; one alone is told in full"),
        "refresh": _W("a job over the ticked tokens", "refresh_tokens"),
        "refresh_due": _W("a job over all that are due", "refresh_tokens"),
        "Expiry report (CSV)": _W("a file of what is listed"),
        "test_code": _W("a made-up event is sent, too"),
        "diagnose": _W("what Meta answers is listed", "diagnose"),
        **_asked("refresh_tokens"),
        **_PASTED,
    },
    "refresh_history": {
        "search": _W("which refreshes are listed"),
        "period": _W("from when on they are listed and drawn"),
        "bars_by": _W("what the chart tells apart"),
        "outcome": _W("which refreshes are listed"),
        "refreshes": _W("which one is told in full"),
        "refreshes.on": _W("older ones are listed"),
        "refreshes.back": _W("the newer ones again"),
        "Refresh history (CSV)": _W("a file of what is listed"),
    },
    "failed_events": {
        "event": _W("which events are listed"),
        "cause": _W("which events are listed"),
        "received": _W("from when on events are listed"),
        "show": _W("which states are listed"),
        "events": _W("what the button is about; one alone is told in full"),
        "events.on": _W("those with a later deadline are listed"),
        "events.back": _W("the more urgent ones again"),
        "retry": _W("a job over the ticked events", "retry_events"),
        "retry_all": _W("a job over all that are listed", "retry_events"),
        "Failed events (CSV)": _W("a file of what is listed"),
        **_asked("retry_events"),
    },
    "reconnect": {
        "case": _W("which cases are listed"),
        "show": _W("whether ended cases are listed, too"),
        "cases": _W("which one is told in full"),
        "make": _W("a link, shown with its message", "make_link"),
        "make_new": _W("another link; the one before ends", "make_link"),
        "remind": _W("the same link once more", "make_link"),
        "accept": _W("another Meta user may connect", "accept_other_user"),
        **_asked("make_link"),
    },
    "jobs": {
        "jobs": _W("whose results are listed"),
        "jobs.on": _W("older jobs are listed"),
        "jobs.back": _W("the newer ones again"),
        "pause": _W("nobody goes on with the job", "pause_job"),
        "resume": _W("the job goes on", "resume_job"),
        "Cancel this job": _W("the job ends", "cancel_job"),
        "Result (CSV)": _W("a file of the job's results"),
        **_asked("pause_job"),
    },
    "apps": {
        "app": _W("which apps are listed"),
        "show": _W("which apps are listed"),
        "page": _W("which part of them is listed"),
        "apps": _W("which one is told in full"),
        "new.name": _W("what the new app is called"),
        "new.email": _W("whose it is"),
        "new.shop_domain": _W("which shop it is in"),
        "new.pixel": _W("where its events go"),
        "Connect": _W("an app more", "add_app"),
        "pause": _W("its events are skipped, or taken again", "set_app"),
        "set_shop_domain.*": _W("the app's option of this name", "set_app"),
        "set_allowed_origins.*": _W("the app's option of this name", "set_app"),
        "set_forwarded_names.*": _W("the app's option of this name", "set_app"),
        "set_order_channels.*": _W("the app's option of this name", "set_app"),
        "set_content_id.*": _W("the app's option of this name", "set_app"),
        "set_purchase_topic.*": _W("the app's option of this name", "set_app"),
        "set_value_of.*": _W("the app's option of this name", "set_app"),
        "set_consent_policy.*": _W("the app's option of this name", "set_app"),
        "set_allow_null_origin.*": _W("the app's option of this name", "set_app"),
        "set_reason.*": _W("stands in the audit trail"),
        "Save": _W("the options are written", "set_app"),
        **_asked("set_app"),
        **_PASTED,
    },
    "system": {
        "test_alert": _W(
            "every address is sent a message", "test_alerts", "test_find_page.py::test_a_test_alert_is_sent_and_audited"
        ),
    },
    "people": {
        "operators": _W("which one is told in full"),
        "new.name": _W("what the new operator is called"),
        "new.role": _W("what they may do"),
        "new.password": _W("how they sign in"),
        "new.elsewhere": _W("they sign in elsewhere"),
        "Add": _W("an operator more", "add_operator"),
        "own.now": _W("proves who asks"),
        "own.new": _W("one's own password"),
        "Change it": _W("one's own password", "change_password"),
        "role.*": _W("which role they get", "set_operator_role"),
        "change.role": _W("they have this role", "set_operator_role"),
        "disable": _W("they are let in no more", "disable_operator"),
        "enable": _W("they are let in again", "enable_operator"),
        "new.password.*": _W("their password", "set_operator_password"),
        "Set it": _W("they have this password", "set_operator_password"),
        "who": _W("whose lines are listed"),
        "action": _W("which lines are listed"),
        "about": _W("which lines are listed"),
        "period": _W("from when on lines are listed"),
        "trail.on": _W("older lines are listed"),
        "trail.back": _W("the newer ones again"),
        "Audit trail (CSV)": _W("a file of what is listed"),
        **_asked("set_operator_role"),
    },
    "sandbox": {
        "victim": _W("which token dies", "", "test_practice.py::test_a_token_dies_as_it_was_asked_to"),
        "death": _W("how it dies", "", "test_practice.py::test_a_token_dies_as_it_was_asked_to"),
        "kill": _W("it dies", "refresh_tokens", "test_practice.py::test_a_token_dies_as_it_was_asked_to"),
        **{
            name: _W(changes, "refresh_tokens", "test_practice.py::test_trouble_for_everybody_until_it_is_ended")
            for name, changes in (
                ("trouble.0", "Meta is away"),
                ("trouble.1", "our app secret is wrong"),
                ("trouble.2", "Meta limits our app"),
                ("end_trouble", "all trouble is over"),
            )
        },
    },
}
# Where the page cannot be drawn at all.
STOPPED: Final = {"Look again": _W("the page is drawn, once it can be")}
# Orders that are given at the shell only.
AT_THE_SHELL: Final = {"rotate_keys", "add_api_key", "revoke_api_key"}
