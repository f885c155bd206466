"""One message for all that was noticed: the subject says the worst, the body what, whom it concerns, what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from core.desk.alert_lines import Facts, lines_of, plural, span
from core.desk.explain_tokens import ALERTS
from core.services.alerts import DEADLINE_STAGES, EVERYBODY, OF_TOKENS
from core.services.telling import Message
from core.store import alerts, conditions
from core.store.channels import Story

# How many of each kind are told one by one.
SHOWN = 8
# The worst first. Kind → its heading, and where to look.
HEADINGS = {
    "deadline": ("Events near their end", "failed-events"),
    "worker_silent": ("Workers silent", ""),
    "incident": ("Incident", ""),
    "needs_reconnect": ("Needs reconnect", "reconnect"),
    "refresh_failed": ("Refresh failed", "refresh-history"),
    "expiring": ("Expiring, and not extended", "tokens"),
    "ledger": ("Ledger out of balance", "failed-events"),
    "orders_missing": ("Orders missing", "apps"),
    "silent_shop": ("Shops silent", "apps"),
}


def compose(conn: Connection, stories: Sequence[Story], now: datetime, *, console_url: str = "") -> Message | None:
    """The message for these stories; None when all of them turned into something else that is told elsewhere."""
    facts = Facts(conn, now)
    bad = {kind: [one for one in stories if one.kind == kind and one.what in ("new", "worse")] for kind in HEADINGS}
    over = _really_over(conn, [one for one in stories if one.what in ("ended", "passed")])
    phrases = [SUBJECTS[kind](facts, found) for kind, found in bad.items() if found]
    if not phrases and not over:
        return None
    parts = [_section(facts, kind, found, console_url) for kind, found in bad.items() if found]
    if over:
        parts.append(_ended(facts, over))
    subject = "; ".join(phrases[:2]) + ("; and more" if len(phrases) > 2 else "") if phrases else _over_subject(over)
    return Message(f"capi-console: {subject}", "\n\n".join(parts) + "\n", good=not phrases)


def _really_over(conn: Connection, over: Sequence[Story]) -> list[Story]:
    """Without tokens that are in another kind of trouble now: for them nothing has ended."""
    if not any(one.kind in OF_TOKENS for one in over):
        return list(over)
    troubled = {row.subject for row in alerts.open_alerts(conn, OF_TOKENS)}
    return [one for one in over if one.kind not in OF_TOKENS or one.subject not in troubled]


def _section(facts: Facts, kind: str, found: Sequence[Story], console_url: str) -> str:
    heading, page = HEADINGS[kind]
    words = ALERTS[kind]
    # Of those that are equally urgent, the one for which most waits.
    waiting = facts.parked if kind in OF_TOKENS else {}
    worst = sorted(found, key=lambda one: (one.stage, -waiting.get(one.subject, 0), one.opened_at, one.id))
    lines = [f"{heading.upper()}: {len(found):,}", f"{words.what}.", f"What to do: {words.do}."]
    facts.shown = [one.subject for one in worst[:SHOWN]]
    if console_url:
        lines.append(f"{console_url}/{page}")
    for one in worst[:SHOWN]:
        first, *more = lines_of(facts, one)
        lines += ["", f"  {first}", *(f"    {line}" for line in more)]
    if len(worst) > SHOWN:
        lines += ["", f"  and {len(worst) - SHOWN:,} more: capi-console alerts list"]
    return "\n".join(lines)


def _ended(facts: Facts, over: Sequence[Story]) -> str:
    lines = [f"ENDED: {len(over):,}"]
    for kind, (heading, _) in HEADINGS.items():
        mine = [one for one in over if one.kind == kind]
        lines += [f"  {heading}: {ended_line(facts, one)}" for one in mine[:SHOWN]]
        if len(mine) > SHOWN:
            lines.append(f"  {heading}: and {len(mine) - SHOWN:,} more")
    return "\n".join(lines)


def ended_line(facts: Facts, story: Story) -> str:
    lasted = span((story.closed_at or facts.now) - story.opened_at)
    line = f"{story.title}; {'began and ended within' if story.what == 'passed' else 'it lasted'} {lasted}"
    if story.kind == "incident" and (row := conditions.incident(facts.conn, int(story.subject))):
        return f"{line}, {plural(row.refusals, 'refusal')}, {plural(row.waited or 0, 'event')} waited"
    if story.kind == "deadline":
        lost = conditions.lost_events(
            facts.conn, story.subject, since=story.opened_at, until=story.closed_at or facts.now
        )
        return (
            f"{line}, {plural(lost, 'event')} {'was' if lost == 1 else 'were'} lost"
            if lost
            else f"{line}, none was lost"
        )
    return line


def _over_subject(over: Sequence[Story]) -> str:
    counts = {kind: sum(one.kind == kind for one in over) for kind in HEADINGS}
    named = [f"{HEADINGS[kind][0]} ({count:,})" for kind, count in counts.items() if count]
    return "over: " + ", ".join(named)


def _deadline(facts: Facts, found: Sequence[Story]) -> str:
    count = sum(facts.near[one.subject].events for one in found if one.subject in facts.near)
    hours = min((one.stage for one in found if one.stage), default=DEADLINE_STAGES[-1])
    return f"{plural(count, 'event')} {'is' if count == 1 else 'are'} lost within {hours} hours"


def _needs_reconnect(facts: Facts, found: Sequence[Story]) -> str:
    subjects = [one.subject for one in found]
    holders = conditions.holders(facts.conn, subjects)
    merchants = len({holders[one].email if one in holders else one for one in subjects})
    waiting = sum(facts.parked.get(one, 0) for one in subjects)
    wait = f", {plural(waiting, 'event')} wait{'s' if waiting == 1 else ''}" if waiting else ""
    return f"{plural(merchants, 'merchant')} must reconnect{wait}"


def _worker_silent(facts: Facts, found: Sequence[Story]) -> str:  # noqa: ARG001
    return f"{plural(len(found), 'worker')} {'is' if len(found) == 1 else 'are'} silent"


def _incident(facts: Facts, found: Sequence[Story]) -> str:  # noqa: ARG001
    return ", ".join(one.title for one in found[:2])


def _refresh_failed(facts: Facts, found: Sequence[Story]) -> str:  # noqa: ARG001
    return f"{plural(len(found), 'token refresh', 'token refreshes')} failed"


def _expiring(facts: Facts, found: Sequence[Story]) -> str:  # noqa: ARG001
    days = min(one.stage for one in found)
    when = f"within {plural(days, 'day')}" if days else "now"
    return f"1 token ends {when}" if len(found) == 1 else f"{len(found):,} tokens end soon, the first {when}"


def _ledger(facts: Facts, found: Sequence[Story]) -> str:  # noqa: ARG001
    return f"the ledger is out of balance for {plural(len(found), 'shop')}"


def _orders_missing(facts: Facts, found: Sequence[Story]) -> str:  # noqa: ARG001
    return f"orders of {plural(len(found), 'shop')} are missing at Meta"


def _silent_shop(facts: Facts, found: Sequence[Story]) -> str:  # noqa: ARG001
    if any(one.subject == EVERYBODY for one in found):
        return "nothing comes from any shop"
    return f"{plural(len(found), 'shop')} {'is' if len(found) == 1 else 'are'} silent"


SUBJECTS: dict[str, Callable[[Facts, Sequence[Story]], str]] = {
    "deadline": _deadline,
    "worker_silent": _worker_silent,
    "incident": _incident,
    "needs_reconnect": _needs_reconnect,
    "refresh_failed": _refresh_failed,
    "expiring": _expiring,
    "ledger": _ledger,
    "orders_missing": _orders_missing,
    "silent_shop": _silent_shop,
}
