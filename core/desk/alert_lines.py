"""What one alert is about, in a few lines: whom it concerns, how long is left, what waits, and Meta's own words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Row

from core.desk.explain import explain
from core.desk.explain_shops import SILENCES
from core.desk.explain_tokens import INCIDENTS, explain_token
from core.logs import redact
from core.services import shortfalls
from core.services.alerts import DEADLINE_STAGES, EVERYBODY, UNDER_WAY, plain
from core.store import conditions, ledger, tokens
from core.store.channels import Story
from core.store.conditions import Holder, Waiting

_HOUR = timedelta(hours=1)
_LONGEST_WORDS, _MOST_DAYS = 300, 5
_BECAME = {"due": "wait", "parked": "wait", "dead": "will never go", "skipped": "were not sent"}
_BARE = {"due": "on their way", "parked": "for a token", "dead": "without a reason", "skipped": "without a reason"}
_KINDS = {"track": "storefront calls", "webhook": "webhooks"}


class Facts:
    """What is looked up once for a whole message, and only if it is needed."""

    def __init__(self, conn: Connection, now: datetime) -> None:
        self.conn, self.now = conn, now
        # The subjects that are told one by one, of the kind that is being told.
        self.shown: list[str] = []

    @cached_property
    def parked(self) -> dict[str, int]:
        """Fingerprint → events that wait for it."""
        return conditions.parked_events(self.conn)

    @cached_property
    def near(self) -> dict[str, Waiting]:
        """App.id → its events near their end."""
        return conditions.near_deadline(self.conn, now=self.now, within=DEADLINE_STAGES[0] * _HOUR, waited=UNDER_WAY)

    @cached_property
    def near_worth(self) -> dict[str, dict[str, Decimal]]:
        """App.id → the money of its events near their end; of the apps that are shown."""
        before = self.now + DEADLINE_STAGES[0] * _HOUR
        return conditions.worth_near(self.conn, self.shown, before=before)

    @cached_property
    def unbalanced(self) -> dict[str, int]:
        """App.id → events of which ledger and outbox do not tell the same."""
        return conditions.out_of_balance(self.conn)

    @cached_property
    def off(self) -> list[Row[Any]]:
        """(app_id, day, off) of days on which not all that came in stands in the account."""
        return ledger.out_of_balance(self.conn)

    @cached_property
    def silence(self) -> shortfalls.Silence:
        return shortfalls.silence(self.conn, now=self.now)


def lines_of(facts: Facts, story: Story) -> list[str]:
    """The alert's title, then what there is to say of it."""
    return [story.title, *_LINES[story.kind](facts, story)]


def _of_token(facts: Facts, story: Story) -> list[str]:
    holder = conditions.holders(facts.conn, [story.subject]).get(story.subject)
    return [*_waiting(facts, story.subject, holder), *_meta(facts, story.subject)]


def _waiting(facts: Facts, fingerprint: str, holder: Holder | None) -> list[str]:
    count = facts.parked.get(fingerprint, 0)
    if not count or holder is None:
        return []
    wait = f"{plural(count, 'event')} wait{'s' if count == 1 else ''}"
    worth = money(conditions.worth(facts.conn, holder.app_ids))
    lost_at = conditions.first_deadline(facts.conn, holder.app_ids)
    lost = f"; the first is lost in {span(lost_at - facts.now)}" if lost_at else ""
    return [f"{wait}{f', worth {worth}' if worth else ''}{lost}"]


def _meta(facts: Facts, fingerprint: str) -> list[str]:
    """What Meta said last: of the refresh, else of an event or a check. Words without a code are our own."""
    last = conditions.last_refresh(facts.conn, fingerprint)
    if last is not None and last.words and last.code is not None:
        return said(last.words, last.code, last.subcode, last.trace_id)
    known = tokens.get(facts.conn, fingerprint)
    if known is not None and known.broken_words and known.broken_words != tokens.PAST_END:
        return said(known.broken_words, None, None, None)
    return [f"the last refresh: {_quoted(last.words)}"] if last is not None and last.words else []


def said(words: str | None, code: int | None, subcode: int | None, trace_id: str | None) -> list[str]:
    """`Meta: "…" (code 190, subcode 460, trace id AbC)`."""
    if not words:
        return []
    named = {"code": code, "subcode": subcode, "trace id": None if trace_id is None else plain(trace_id)}
    extra = ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)
    return [f'Meta: "{_quoted(words)}"' + (f" ({extra})" if extra else "")]


def _quoted(words: str) -> str:
    return plain(redact(words))[:_LONGEST_WORDS]


def _expiring(facts: Facts, story: Story) -> list[str]:
    rest = f"{plural(story.stage, 'day')} left at most" if story.stage else "its stored end has passed"
    return [f"{rest}; token {story.subject}", *_meta(facts, story.subject)]


def _deadline(facts: Facts, story: Story) -> list[str]:
    waiting = facts.near.get(story.subject)
    if waiting is None:
        return ["nothing waits any more"]
    worth = money(facts.near_worth.get(story.subject, {}))
    lost = f"{plural(waiting.events, 'event')}{f', worth {worth},' if worth else ''} within 24 hours of the end"
    return [f"{lost}; the first in {span(waiting.first_lost_at - facts.now)}"]


def _incident(facts: Facts, story: Story) -> list[str]:
    row = conditions.incident(facts.conn, int(story.subject))
    if row is None:
        return []
    since = f"since {row.opened_at:%Y-%m-%d %H:%M} UTC, {plural(row.refusals, 'refusal')}"
    known = INCIDENTS.get(row.kind)
    do = [f"{known.what}. What to do: {known.do}."] if known else []
    return [since, *said(row.words, row.code, row.subcode, row.trace_id), *do]


def _worker_silent(facts: Facts, story: Story) -> list[str]:
    return [f"last seen {story.opened_at:%Y-%m-%d %H:%M:%S} UTC, {span(facts.now - story.opened_at)} ago"]


def _ledger(facts: Facts, story: Story) -> list[str]:
    count = facts.unbalanced.get(story.subject, 0)
    lines = [f"{plural(count, 'event')}: what the ledger says and what the outbox holds differ"] if count else []
    off = [row for row in facts.off if row.app_id == story.subject]
    return lines + [f"{row.day:%Y-%m-%d}: {unbalanced(row.off)}" for row in off[:_MOST_DAYS]]


def unbalanced(off: int) -> str:
    """What it means that the two sides of an account differ by so many events."""
    if off > 0:
        return f"{plural(off, 'event')} came in and stand{'s' if off == 1 else ''} in no account"
    return f"{plural(-off, 'event')} stand{'s' if off == -1 else ''} there and did not come in"


def _orders_missing(facts: Facts, story: Story) -> list[str]:
    day = shortfalls.last_settled_day(facts.now)
    rows = ledger.days(facts.conn, since=day, until=day, app_id=story.subject)
    counts = rows[0][2] if rows else ledger.Counts()
    if not counts.missing:
        return []
    why = reasons(ledger.why_missing(facts.conn, story.subject, day, day).get(day, {}))
    wanted = counts.orders - counts.kept_back
    return [f"{day:%Y-%m-%d}: Meta has {counts.purchases:,} of {plural(wanted, 'order')}", f"likely cause: {why}"]


def reasons(why: Mapping[tuple[str, str | None], int]) -> str:
    """What became of the missing orders, the most first: `7 wait: The app has no access token yet`."""
    missing = [(key, count) for key, count in why.items() if key[1] not in ledger.KEPT_BACK]
    told = (f"{count:,} {_BECAME[state]}: {_plainly(state, failure)}" for (state, failure), count in missing[:3])
    return "; ".join(told) or "they have come to Meta meanwhile"


def _plainly(state: str, failure: str | None) -> str:
    return explain_token(failure).what if failure else _BARE[state]


def _silent_shop(facts: Facts, story: Story) -> list[str]:
    if story.subject == EVERYBODY:
        said = SILENCES["everybody"]
        return [f"nothing since {story.opened_at:%Y-%m-%d %H:%M} UTC", f"{said.what}. What to do: {said.do}."]
    one = next((one for one in facts.silence.shops if one.app_id == story.subject), None)
    return [silent_since(one), f"likely cause: {silent_because(one)}"] if one else ["it is heard of again"]


def silent_since(one: shortfalls.Silent) -> str:
    """`no webhooks since 2026-11-25 14:02 UTC; usually something comes 31 times in that while`."""
    what = " and no ".join(_KINDS[kind] for kind in one.kinds)
    since = f"no {what} since {one.since:%Y-%m-%d %H:%M} UTC"
    return f"{since}; usually something comes {one.awaited:,} times in that while"


def silent_because(one: shortfalls.Silent) -> str:
    said = SILENCES[one.cause]
    detail = f" (mostly: {explain(one.detail).what})" if one.detail else ""
    return f"{said.what}{detail}. What to do: {said.do}."


_LINES: dict[str, Callable[[Facts, Story], list[str]]] = {
    "needs_reconnect": _of_token,
    "refresh_failed": _of_token,
    "expiring": _expiring,
    "deadline": _deadline,
    "incident": _incident,
    "worker_silent": _worker_silent,
    "ledger": _ledger,
    "orders_missing": _orders_missing,
    "silent_shop": _silent_shop,
}


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 event`, `1,204 events`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def span(rest: timedelta) -> str:
    """`3 days 4 hours`, `2 hours 10 minutes`, `12 minutes`, `5 seconds`."""
    seconds = max(0, round(rest.total_seconds()))
    days, hours, minutes = seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60
    parts: Sequence[tuple[int, str]] = ((days, "day"), (hours, "hour"), (minutes, "minute"))
    named = [plural(count, unit) for count, unit in parts if count]
    return " ".join(named[:2]) if named else plural(seconds, "second")


def money(worth: dict[str, Decimal]) -> str:
    """`12,345.00 EUR and 20.00 USD`, most first."""
    ordered = sorted(worth.items(), key=lambda pair: -pair[1])
    return " and ".join(f"{value:,.2f} {currency}" for currency, value in ordered if value)
