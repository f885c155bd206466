"""Jobs about personal data: show what is held of a customer, forget a customer, forget a shop.

What Shopify passes on from shops and their customers (https://shopify.dev/docs/apps/build/privacy-law-compliance).
Each item of a job is found and erased in short transactions that also note how far it is, so that a job that was
killed goes on where it was. What a worker is sending at this moment is left alone and looked at again.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, Row

from core.clock import now as real_now
from core.services.refresh import TokenRefreshService
from core.store import aliases, audit, jobs, outbox, receipts, redaction, visitors
from core.store.database import chunks, insist, reading
from core.store.redaction import CHUNK, Subject

Tally = Counter[str]
# What is erased together: the pixel of events or "", and a key.
Key = tuple[str, Any]

# How long an item may keep its thread before the job looks up, and rest while somebody else has the rows, in seconds.
TURN = 2.0
REST = 0.1
_NOTHING = "nothing is held"
_MOST_LINES = 1_000


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of item: how the rows are found, and how those of one group are erased."""

    find: Callable[[Engine, Subject], list[Key]]
    erase: Callable[[Connection, Subject, str, list[Any], str], Tally]


def erase(service: TokenRefreshService, job: Row[Any], subject: str) -> bool:
    """Work on one item for a while; whether it came any further. It is recorded once nothing is left."""
    wanted, ends, went_on = Subject.of(subject), time.monotonic() + TURN, False
    part = PARTS[wanted.what]
    while found := part.find(service.engine, wanted):
        moved = False
        for group, keys in _pieces(found):
            moved |= _piece(service, job, wanted, part, group, keys)
            if time.monotonic() > ends:
                return went_on or moved
        went_on |= moved
        if not moved:
            time.sleep(REST)
            if time.monotonic() > ends:
                return went_on
    _finish(service, job, subject)
    return True


def show(service: TokenRefreshService, job: Row[Any], subject: str) -> bool:
    """List what is held under one item: which events, in which state, and the names of what they hold. No values."""
    wanted = Subject.of(subject)
    ids = [id_ for _, id_ in PARTS[wanted.what].find(service.engine, wanted) if id_]
    with reading(service.engine) as conn:
        events = redaction.lines(conn, ids)
        keys = {key for chunk in chunks(ids, CHUNK) for key in redaction.browser_keys(conn, chunk)}
        keys |= {("fbp", cookie) for row in events if (cookie := _cookie(row.payload))}
        seen = visitors.under(conn, wanted.app_id, keys)
    lines = [*map(_told_event, events), *map(_told_browser, seen)]
    left_out = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    head = _words(+Counter({"events": len(events), "browsers": len(seen)}))
    _finish(service, job, subject, "\n".join([head, *lines[:_MOST_LINES], *left_out]))
    return True


def _told_event(row: Row[Any]) -> str:
    event = _object(row.payload)
    ledger = (name for name in ("order_id", "value", "currency") if getattr(row, name) is not None)
    keys = sorted({*ledger, *event.get("user_data", {}), *event.get("custom_data", {})})
    return f"{row.event_name} {row.event_id}, {row.event_time:%Y-%m-%d %H:%M} UTC, {row.state}: {', '.join(keys)}"


def _told_browser(row: Row[Any]) -> str:
    keys = [name for name in ("address", "user_agent", "fbp", "fbc", "page_url") if getattr(row, name) is not None]
    return f"a browser by its {row.kind}, seen {row.seen_at:%Y-%m-%d %H:%M} UTC: {', '.join(keys)}"


def _pieces(found: list[Key]) -> Iterator[tuple[str, list[Any]]]:
    """One transaction each: rows of one pixel, bounded."""
    for group, keys in groupby(found, key=lambda key: key[0]):
        for chunk in chunks([key for _, key in keys], CHUNK):
            yield group, list(chunk)


def _piece(
    service: TokenRefreshService, job: Row[Any], wanted: Subject, part: Part, group: str, keys: list[Any]
) -> bool:
    def once(conn: Connection) -> bool:
        done = part.erase(conn, wanted, group, keys, service.worker)
        if done:
            words = _words(_tally(jobs.noted(conn, job.id, str(wanted))) + done)
            jobs.note(conn, job.id, str(wanted), words, by=service.worker, now=real_now())
        return bool(done)

    return insist(service.engine, once)


def _finish(service: TokenRefreshService, job: Row[Any], subject: str, shown: str | None = None) -> None:
    """The item's result; with the last item the job's audit line, in the same transaction."""

    def once(conn: Connection) -> None:
        now = real_now()
        words = shown or _words(_tally(jobs.noted(conn, job.id, subject)))
        jobs.record(conn, job.id, {subject: ("ok", words)}, by=service.worker, now=now)
        if jobs.next_items(conn, job.id, limit=1):
            return
        total = _tally(jobs.noted(conn, job.id))
        action, count = f"{job.kind}_done", sum(total.values())
        audit.write(conn, by=job.by, action=action, subject=f"job {job.id}", count=count, reason=_words(total), now=now)

    insist(service.engine, once)


def _words(tally: Tally) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(tally.items())) or _NOTHING


def _tally(words: Sequence[str]) -> Tally:
    """The counts that `_words` wrote, out of the first line of each of these."""
    total: Tally = Counter()
    for line in words:
        total.update({name: int(count) for name, count in re.findall(r"([a-z][a-z ]*) (\d+)", line.split("\n", 1)[0])})
    return total


def _of_customer(engine: Engine, wanted: Subject) -> list[Key]:
    """Payloads that hold one of the person's digests. Sixty-four hex digits do not meet by chance, so that it need not
    be asked under which key they stand."""
    digests = [digest.encode() for digest in wanted.value.split(",")]
    found: list[Key] = []
    last = 0
    while True:
        with reading(engine) as conn:
            rows = redaction.payloads(conn, wanted.app_id, after=last)
        if not rows:
            return sorted(found)
        last = rows[-1].id
        for row in rows:
            payload = bytes(row.payload).lower()
            if any(digest in payload for digest in digests):
                found.append((row.pixel_id, row.id))


def _of_order(engine: Engine, wanted: Subject) -> list[Key]:
    """Its ledger lines, and (without a pixel, as 0) what else is called after it."""
    with reading(engine) as conn:
        lines: list[Key] = list(redaction.of_order(conn, wanted.app_id, wanted.value))
        named = aliases.orders_of(conn, wanted.app_id, [], wanted.value)
    return lines or ([("", 0)] if named else [])


def _payloads(engine: Engine, wanted: Subject) -> list[Key]:
    with reading(engine) as conn:
        return sorted((row.pixel_id, row.id) for row in redaction.payloads(conn, wanted.app_id, after=0))


def _erase_events(conn: Connection, wanted: Subject, pixel: str, ids: list[int], by: str) -> Tally:
    """Empty the payloads, then take from the ledger, the aliases and the browsers what leads to the person."""
    # First of all, as LOCK_ORDER has it. What is parked or dead is in nobody's hands, whoever holds the pixel.
    due = redaction.any_due(conn, ids) and redaction.hold_still(conn, pixel, by=by, now=real_now())
    keys = redaction.browser_keys(conn, ids)
    cookies = {row.id: _cookie(row.payload) for row in redaction.lines(conn, ids)}
    emptied = outbox.redact(conn, ids, due=due)
    held = redaction.still_held(conn, ids)
    free = [id_ for id_ in ids if id_ not in held]
    keys |= {("fbp", cookie) for id_, cookie in cookies.items() if cookie and id_ in emptied}
    order_id = wanted.value if wanted.what == "order" and not held else None
    names = aliases.orders_of(conn, wanted.app_id, free, order_id)
    return +Counter(
        {
            "payloads": len(emptied),
            "order ids": outbox.forget_orders(conn, free),
            "aliases": aliases.forget(conn, wanted.app_id, names),
            "browsers": visitors.forget(conn, wanted.app_id, keys),
            "waits": visitors.let_go(conn, free),
        }
    )


def _cookie(payload: bytes | None) -> str | None:
    return _object(payload).get("user_data", {}).get("fbp")


def _object(payload: bytes | None) -> dict[str, Any]:
    return orjson.loads(bytes(payload)) if payload else {}


def _orders(engine: Engine, wanted: Subject) -> list[Key]:
    with reading(engine) as conn:
        return [("", id_) for id_ in redaction.with_order(conn, wanted.app_id)]


def _erase_orders(conn: Connection, _wanted: Subject, _group: str, ids: list[int], _by: str) -> Tally:
    return +Counter({"order ids": outbox.forget_orders(conn, ids)})


def _browsers(engine: Engine, wanted: Subject) -> list[Key]:
    with reading(engine) as conn:
        seen: list[Key] = [("browsers", key) for key in visitors.of_app(conn, wanted.app_id)]
        return seen + [("waits", id_) for id_ in redaction.waits_of(conn, wanted.app_id)]


def _erase_browsers(conn: Connection, wanted: Subject, group: str, keys: list[Any], _by: str) -> Tally:
    if group == "browsers":
        return +Counter({"browsers": visitors.forget(conn, wanted.app_id, keys)})
    return +Counter({"waits": visitors.let_go(conn, keys)})


def _aliases(engine: Engine, wanted: Subject) -> list[Key]:
    with reading(engine) as conn:
        return [("", name) for name in aliases.of_app(conn, wanted.app_id)]


def _erase_aliases(conn: Connection, wanted: Subject, _group: str, names: list[Any], _by: str) -> Tally:
    return +Counter({"aliases": aliases.forget(conn, wanted.app_id, names)})


def _receipts(engine: Engine, wanted: Subject) -> list[Key]:
    with reading(engine) as conn:
        return [("", id_) for id_ in redaction.telling_receipts(conn, wanted.app_id)]


def _erase_receipts(conn: Connection, _wanted: Subject, _group: str, ids: list[int], _by: str) -> Tally:
    return +Counter({"receipts": receipts.empty(conn, ids)})


PARTS: dict[str, Part] = {
    "customer": Part(_of_customer, _erase_events),
    "order": Part(_of_order, _erase_events),
    "payloads": Part(_payloads, _erase_events),
    "orders": Part(_orders, _erase_orders),
    "browsers": Part(_browsers, _erase_browsers),
    "aliases": Part(_aliases, _erase_aliases),
    "receipts": Part(_receipts, _erase_receipts),
}
