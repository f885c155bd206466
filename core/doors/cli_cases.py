"""Commands about reconnect cases: the list, the link for a merchant, the reminder, another Meta user."""

from __future__ import annotations

from typing import Annotated

import typer
from sqlalchemy import Connection

from core import clock
from core.desk import cases as desk
from core.desk.case_words import listed
from core.desk.cases import CaseRow, Invitation
from core.doors.cli_shell import META_APP, AsJson, cell, operator, say, show, show_json, store
from core.errors import BadInput, Refused
from core.store import apps
from core.store.database import reading

case_group = typer.Typer(no_args_is_help=True, help="One merchant who must connect Facebook again.")

CaseId = Annotated[int | None, typer.Option("--case", help="The case's number, from `cases`.")]
AppName = Annotated[str | None, typer.Option("--app", help="The open case of this app's token (public appId).")]
Reason = Annotated[str | None, typer.Option(help="Goes into the audit trail.")]


def add_to(root: typer.Typer) -> None:
    root.command("cases")(cases)
    root.add_typer(case_group, name="case")


def cases(
    search: Annotated[str | None, typer.Option(help="Part of a shop, e-mail or fingerprint, or a number.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Those that are done, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tokens that only their owner can mend, those whose events are lost first before the others."""
    with store() as (_, engine), reading(engine) as conn:
        found = desk.cases(conn, now=clock.now(), open_only=not every, search=search)
    show([_shown(row) for row in found], as_json=as_json, empty="no case")


def _shown(row: CaseRow) -> dict[str, object]:
    return {
        "case": row.id,
        "state": f"{row.state}, remind" if row.remind_due else row.state,
        "shops": ", ".join(row.shops),
        "user": row.email,
        "token": row.fingerprint,
        "why": row.failure,
        "waiting": row.waiting,
        "first lost": row.first_lost_at,
        "link ends": row.link_ends_at,
        "last login": f"{row.refused}: {row.refused_words or ''}".rstrip(": ") if row.refused else None,
    }


@case_group.command("link")
def link(case: CaseId = None, app: AppName = None, reason: Reason = None, as_json: AsJson = False) -> None:
    """A new link and a message for the merchant; the link before it ends."""
    with store(require=META_APP) as (settings, engine):
        with reading(engine) as conn:
            wanted = _wanted(conn, case, app)
        made = desk.make_link(engine, settings, wanted, by=operator(), now=clock.now(), reason=reason)
    _print(wanted, made, as_json=as_json)


@case_group.command("remind")
def remind(case: CaseId = None, app: AppName = None, reason: Reason = None, as_json: AsJson = False) -> None:
    """The link that is out once more, with a reminder's message."""
    with store(require=META_APP) as (settings, engine):
        with reading(engine) as conn:
            wanted = _wanted(conn, case, app)
        made = desk.remind(engine, settings, wanted, by=operator(), now=clock.now(), reason=reason)
    _print(wanted, made, as_json=as_json)


@case_group.command("accept-other-user")
def accept_other_user(
    case: CaseId = None,
    app: AppName = None,
    user: Annotated[
        str | None, typer.Option("--user", help="The Meta user's id, as `cases` shows it; without it you are asked.")
    ] = None,
    reason: Reason = None,
) -> None:
    """Let the Meta user whose login was refused connect in place of the one before, and no other."""
    with store() as (_, engine):
        with reading(engine) as conn:
            wanted = _wanted(conn, case, app)
            row = desk.case(conn, wanted, now=clock.now())
        accepted = _asked(row) if user is None else user
        desk.accept_other_user(engine, wanted, user=accepted, by=operator(), now=clock.now(), reason=reason)
    say(f"case {wanted}: Meta user {accepted} may connect; the same link works")


def _asked(row: CaseRow) -> str:
    if row.refused_user is None:
        raise Refused(f"case {row.id}: the last login was not refused for its Meta user, nobody is to be accepted")
    typer.confirm(f"Meta user {cell(row.refused_user)} may connect for {listed(row.shops)}?", abort=True)
    return row.refused_user


def _wanted(conn: Connection, case: int | None, app: str | None) -> int:
    if (case is None) == (app is None):
        raise BadInput("say which: exactly one of --case, --app")
    if case is not None:
        return case
    return desk.case_of_app(conn, apps.find(conn, app or "").id, now=clock.now()).id


def _print(case: int, made: Invitation, *, as_json: bool) -> None:
    if as_json:
        ends = {"case": case, "link": made.link, "ends": made.ends_at}
        show_json(ends | {"subject": made.subject, "message": made.message})
        return
    say(f"{made.link}\n\nSubject: {made.subject}\n\n{made.message}")
