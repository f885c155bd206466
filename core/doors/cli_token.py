"""One app's token in full at the shell, as a support person wants it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer

from core import clock
from core.desk import queries
from core.desk.diagnosis_store import said
from core.desk.explain import Explanation, explain
from core.desk.explain_tokens import FINDINGS
from core.desk.steps import case_step
from core.desk.token_detail import TokenDetail
from core.doors.cli_shell import AsJson, cell, say, show_json, store
from core.errors import Refused
from core.services.policy import Policy
from core.store import apps
from core.store.database import reading

_WIDE = 14


def show_token(
    app: Annotated[str, typer.Option(help="The app's public appId.")],
    as_json: AsJson = False,
) -> None:
    """What is known of an app's token: facts, findings, pixels, last refreshes, reconnect case."""
    now = clock.now()
    with store() as (settings, engine), reading(engine) as conn:
        found = apps.find(conn, app)
        if found.fingerprint is None:
            raise Refused(f"app {found.public_id} holds no token: `capi-console token set` stores one")
        seen = queries.token_detail(conn, found.fingerprint, policy=Policy.of(settings), now=now)
    if as_json:
        show_json(_all(seen))
        return
    for name, value in _facts(seen):
        say(f"{name:<{_WIDE}}{cell(value)}")
    for line in (*_broken(seen), *_findings(seen), *_pixels(seen), *_refreshes(seen)):
        say(_plain(line))
    if seen.case is not None:
        say(f"\nReconnect case {seen.case.id}, {seen.case.state}: {case_step(seen.case, now)}")


def _all(seen: TokenDetail) -> dict[str, Any]:
    """Everything that is known, with an explanation beside each word."""
    found = asdict(seen) | {"waiting": seen.waiting}
    found["findings"] = [asdict(one) | _told(FINDINGS[one.word]) for one in seen.findings]
    found["explanation"] = _told(explain(seen.broken_failure)) if seen.broken_failure else None
    return found


def _told(why: Explanation) -> dict[str, str]:
    return {"what": why.what, "whose": why.whose, "do": why.do}


def _facts(seen: TokenDetail) -> Iterator[tuple[str, object]]:
    yield "token", seen.fingerprint
    yield "owner", f"{seen.email or '-'} ({seen.user_id})"
    yield "kind", f"{seen.kind or 'not known'}{', made by another Meta app' if seen.foreign_app else ''}"
    yield "Meta user", seen.meta_user_id or "not known"
    yield "Meta app", seen.meta_app_id or "not known"
    yield "permissions", seen.scopes if seen.scopes is not None else "not known"
    yield "ends", "never" if seen.never_expires else seen.expires_at or "not known"
    yield "data access", seen.data_access_expires_at or "not known"
    yield "issued", seen.issued_at or "not known"
    yield "first seen", seen.first_seen_at
    yield "checked", seen.checked_at or "not yet"
    yield "next refresh", seen.next_refresh_at or "none is planned"
    yield "events waiting", seen.waiting


def _broken(seen: TokenDetail) -> Iterator[str]:
    if seen.broken_since is not None:
        why = explain(seen.broken_failure)
        yield ""
        yield f"Broken since {cell(seen.broken_since)}: {why.what} ({why.whose})"
        yield f"  Meta said: {seen.broken_words or 'nothing'}"
        yield f"  → {why.do}"


def _findings(seen: TokenDetail) -> Iterator[str]:
    for one in seen.findings:
        why = FINDINGS[one.word]
        where = f", pixel {one.pixel_id}" if one.pixel_id else ""
        yield ""
        yield f"{'Warning' if one.warning else 'Finding'} since {cell(one.since)}{where}: {why.what} ({why.whose})"
        yield f"  {said(one.words, one.code, one.subcode, one.trace_id)}"
        yield f"  → {why.do}"


def _pixels(seen: TokenDetail) -> Iterator[str]:
    yield ""
    reach = {True: "reached", False: "NOT REACHED", None: "not tried yet"}
    for one in seen.holders:
        pixel = f"pixel {one.pixel_id}, {reach[one.reached]}" if one.pixel_id else "no pixel"
        yield f"App {one.public_id} ({one.app_name}): {pixel}, {one.waiting} events waiting"


def _refreshes(seen: TokenDetail) -> Iterator[str]:
    if seen.refreshes:
        yield ""
    for one in seen.refreshes:
        notes = said(one.words, one.code, one.subcode, one.trace_id) if one.words or one.code else ""
        why = explain(one.outcome)
        yield f"Refresh {cell(one.started_at)} ({one.trigger}, {one.by}): {one.outcome}. {why.what}. {notes}".rstrip()


def _plain(line: str) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in line)
