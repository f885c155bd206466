"""The doctor's questions to Meta, and the rules that need no question: each comes back as a `Check`, nothing raised."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from core.clock import as_utc
from core.errors import Refused, SettingsError
from core.meta.answers import TokenFacts
from core.meta.app_answer import AppAnswer
from core.meta.events import encode
from core.meta.failures import Failure
from core.meta.graph import Graph, GraphError
from core.secret import Secret
from core.services.findings import missing_scopes
from core.services.ladder import PASSING
from core.services.policy import Policy

# When each version of the Graph API ends; None: Meta has not said.
# https://developers.facebook.com/docs/graph-api/changelog
VERSIONS_END: dict[str, date | None] = {
    "v20.0": date(2026, 9, 24),
    "v21.0": date(2027, 1, 21),
    "v22.0": date(2027, 5, 20),
    "v23.0": date(2027, 10, 8),
    "v24.0": date(2028, 2, 18),
    "v25.0": date(2028, 7, 29),
    "v26.0": None,
}
_WARN_BEFORE_END = timedelta(days=90)
# Meta takes a timed proof for five minutes, and refuses events from the future.
# https://developers.facebook.com/docs/graph-api/securing-requests
SKEW_WARNS, SKEW_FAILS = timedelta(seconds=60), timedelta(minutes=5)
_TEST_CODE = re.compile(r"[A-Za-z0-9_]{3,64}")
TEST_EVENT = "CapiConsoleTest"


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `ok` None: it could not be made, or was not asked for; `warning`: no fault, but worth knowing.

    `do` is what a person should do next, empty where there is nothing to do.
    """

    name: str
    ok: bool | None
    words: str
    do: str = ""
    warning: bool = False

    @property
    def state(self) -> str:
        if self.ok is None:
            return "not checked"
        if not self.ok:
            return "failed"
        return "warning" if self.warning else "ok"


def meta_app(graph: Graph, *, now: datetime) -> list[Check]:
    """Whether Meta can be reached and takes our id and secret, and how far our clock is from its."""
    try:
        answer = graph.about_app()
    except SettingsError as error:
        missing = str(error)
        return [
            Check("Meta app", False, missing, "Set it and start every process again"),
            Check("clock", None, "Meta was not asked"),
        ]
    return [_accepted(answer), clock_skew(answer.at, now + timedelta(milliseconds=answer.duration_ms))]


def _accepted(answer: AppAnswer) -> Check:
    error = answer.refusal
    if error is None:
        words = f"Meta takes our app id and secret ({answer.duration_ms} ms)"
        if answer.upgraded:
            return Check("Meta app", True, f"{words}; {answer.upgraded}", "Set CAPI_GRAPH_VERSION to a newer one", True)
        return Check("Meta app", True, words)
    if error.failure in PASSING:
        do = "See metastatus.com; if Meta is well, look at this machine's DNS, proxy and firewall (port 443 out)"
        return Check("Meta app", False, f"Meta did not answer well: {error}", do)
    do = (
        "Compare FACEBOOK_APP_ID and FACEBOOK_APP_SECRET with developers.facebook.com, App settings, Basic;"
        " a secret that was reset there must be put here, too"
    )
    return Check("Meta app", False, f"Meta refuses our app id or secret: {error}", do)


def clock_skew(at: datetime | None, now: datetime) -> Check:
    """Meta's Date header, which has whole seconds, against our clock."""
    if at is None:
        return Check("clock", None, "Meta's answer did not say what time it is")
    off = now - as_utc(at)
    seconds = round(abs(off.total_seconds()))
    if abs(off) <= SKEW_WARNS:
        return Check("clock", True, "our clock and Meta's agree")
    way = "ahead of" if off > timedelta(0) else "behind"
    words = f"our clock is {seconds} seconds {way} Meta's"
    do = "Set this machine's clock by NTP (timedatectl set-ntp true): ends, deadlines and event times depend on it"
    return Check("clock", abs(off) <= SKEW_FAILS, words, do, warning=True)


def graph_version(version: str, *, now: datetime) -> Check:
    if version not in VERSIONS_END:
        words = f"{version} is not known to this program"
        return Check("Graph version", True, words, "See developers.facebook.com/docs/graph-api/changelog", True)
    ends = VERSIONS_END[version]
    if ends is None:
        return Check("Graph version", True, f"{version}, whose end Meta has not named")
    newest = list(VERSIONS_END)[-1]
    if ends <= now.date():
        words = f"{version} ended on {ends}: Meta answers with another version"
        return Check("Graph version", False, words, f"Set CAPI_GRAPH_VERSION, for example to {newest}")
    soon = ends - now.date() <= _WARN_BEFORE_END
    do = f"Try a newer one before then: CAPI_GRAPH_VERSION={newest}" if soon else ""
    return Check("Graph version", True, f"{version}, until {ends}", do, soon)


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking about a token: `facts` None where /debug_token did not speak, `ours` for the proof."""

    checks: list[Check]
    facts: TokenFacts | None
    ours: bool


def token(graph: Graph, value: Secret, policy: Policy) -> Asked:
    """What /debug_token says of an app's token."""
    try:
        facts = graph.debug_token(value)
    except (GraphError, SettingsError) as error:
        return Asked([_unspoken(error), Check("permissions", None, "not known")], None, False)
    if not facts.is_valid:
        words = f"Meta does not take it: {facts.words or facts.failure}"
        do = "Refresh it (capi-console refresh --app); if that does not help, send the reconnect link"
        return Asked([Check("token at Meta", False, words, do)], facts, False)
    ours = facts.meta_app_id == policy.app_id
    return Asked([_spoken(facts), _permissions(facts)], facts, ours)


def _unspoken(error: GraphError | SettingsError) -> Check:
    if isinstance(error, GraphError) and error.failure is Failure.PERMISSION:
        words = "another Meta app made this token, so Meta tells us nothing about it"
        do = "Fine for a system user's token without an end; any other should be given anew by the reconnect link"
        return Check("token at Meta", True, words, do, warning=True)
    return Check("token at Meta", None, f"Meta could not be asked: {error}", "See the check of the Meta app")


def _spoken(facts: TokenFacts) -> Check:
    ends = (
        "never ends"
        if facts.never_expires
        else "ends "
        + (f"{facts.expires_at:%Y-%m-%d %H:%M} UTC" if facts.expires_at else "at a time that Meta does not name")
    )
    return Check(
        "token at Meta", True, f"valid, {facts.kind or 'of unknown kind'}, Meta user {facts.meta_user_id}, {ends}"
    )


def _permissions(facts: TokenFacts) -> Check:
    if missing := missing_scopes(" ".join(facts.scopes)):
        do = "Send the reconnect link; the merchant leaves every permission ticked at Facebook's login"
        return Check("permissions", False, f"missing: {', '.join(missing)}", do)
    return Check("permissions", True, ", ".join(facts.scopes))


def pixel(graph: Graph, pixel_id: str | None, value: Secret, *, ours: bool) -> Check:
    """Whether the token reaches the pixel."""
    if pixel_id is None:
        do = "Put the pixel's id from Events Manager into the app's settings: until then its events are skipped"
        return Check("pixel", False, "the app has no pixel", do)
    try:
        found = graph.probe_pixel(pixel_id, value, ours=ours)
    except GraphError as error:
        if error.failure in PASSING:
            return Check("pixel", None, f"Meta could not be asked: {error}", "Try again in a few minutes")
        do = (
            "Compare the pixel's id with Events Manager; if it is right, the merchant gives the account that connected"
            " Facebook the data set (Business settings, Data sources, Datasets)"
        )
        return Check("pixel", False, f"the token does not reach pixel {pixel_id}: {error}", do)
    return Check("pixel", True, f"pixel {pixel_id} is reached" + (f" ({found.name})" if found.name else ""))


def check_test_code(code: str) -> None:
    """Refused unless this may be a test event code."""
    if not _TEST_CODE.fullmatch(code):
        raise Refused("a test event needs the code that Events Manager shows under Test events, such as TEST12345")


def test_event(graph: Graph, pixel_id: str, value: Secret, code: str, *, ours: bool, now: datetime) -> Check:
    """Send one event with this test_event_code, past the outbox. Meta does not drop test events: they count.

    https://developers.facebook.com/docs/marketing-api/conversions-api/using-the-api#testEvents
    """
    check_test_code(code)
    event_id = f"doctor-{secrets.token_hex(8)}"
    event = {
        "event_name": TEST_EVENT,
        "event_id": event_id,
        "event_time": int(now.timestamp()),
        "action_source": "system_generated",
        "user_data": {"external_id": [secrets.token_hex(32)], "client_user_agent": "capi-console"},
    }
    try:
        sent = graph.send(pixel_id, [encode(event)], value, test_event_code=code, ours=ours)
    except GraphError as error:
        do = "Read Meta's words; with the trace id Meta's support finds the request"
        return Check("test event", False, f"Meta did not take it: {error}", do)
    words = f"Meta took {TEST_EVENT} {event_id} for {code} (trace {sent.trace_id}). It counts like any other event"
    return Check("test event", True, words, "It shows in Events Manager under Test events within a minute")
