"""Orders about operators, and the audit trail as people see it."""

from __future__ import annotations

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, update

from core.desk import audit_trail, commands, people, queries
from core.desk.operators import Operator
from core.errors import BadInput, Conflict, CoreError, NotFound, Refused
from core.secret import Secret
from core.services import sign_in
from core.services.sign_in import LOCAL
from core.store import audit
from core.store.database import reading, writing
from core.store.schema import capi_audit
from tests.desk.rows import seed

PASSWORD = "correct horse battery"
ADA = Operator("ada", "admin")

pytestmark = pytest.mark.usefixtures("quick_passwords")


@pytest.fixture
def staff(engine: Engine, now: datetime) -> Engine:
    """Ada is admin, Bob support."""
    for name, role in (("ada", "admin"), ("bob", "support")):
        people.add_operator(engine, name, role=role, password=PASSWORD, by=LOCAL, now=now)
    return engine


def _rows(engine: Engine, now: datetime) -> dict[str, tuple[str, str]]:
    with reading(engine) as conn:
        return {row.name: (row.role, row.state) for row in people.operator_rows(conn, now=now)}


def test_operators_are_added_changed_disabled_and_let_in_again(staff: Engine, now: datetime) -> None:
    people.add_operator(staff, " Eve@Example.com ", role="viewer", password=PASSWORD, by=ADA, reason=" new ", now=now)
    people.set_operator_role(staff, "Bob", role="admin", by=ADA, now=now)
    people.disable_operator(staff, "ada", by=ADA, now=now)
    assert _rows(staff, now) == {
        "ada": ("admin", "disabled"),
        "bob": ("admin", "active"),
        "eve@example.com": ("viewer", "active"),
    }
    with pytest.raises(Conflict):
        people.disable_operator(staff, "ada", by=ADA, now=now)
    people.enable_operator(staff, "ada", by=ADA, now=now)
    assert _rows(staff, now)["ada"] == ("admin", "active")
    with reading(staff) as conn:
        trail = [(row.by, row.action, row.subject, row.reason) for row in audit_trail.audit_trail(conn)]
        assert audit.first_broken(conn) is None
    assert trail[:4] == [
        ("ada", "enable_operator", "operator ada", None),
        ("ada", "disable_operator", "operator ada", None),
        ("ada", "set_operator_role", "operator bob (admin)", None),
        ("ada", "add_operator", "operator eve@example.com (viewer)", "new"),
    ]


def test_ones_own_password_is_changed_by_who_knows_it(staff: Engine, now: datetime) -> None:
    bob, new = Operator("bob", "viewer"), "nobody else knows it"
    cookie = sign_in.sign_in(staff, "bob", Secret(PASSWORD), address="192.0.2.1", now=now)
    for wrong in ("", "guessed it perhaps"):
        with pytest.raises(sign_in.WrongPassword):
            people.change_password(staff, current=wrong, password=new, by=bob, now=now)
    with pytest.raises(BadInput):
        people.change_password(staff, current=PASSWORD, password="short", by=bob, now=now)
    people.change_password(staff, current=PASSWORD, password=new, by=bob, now=now)
    with reading(staff) as conn:
        assert sign_in.who(conn, cookie, now=now) is None
    assert sign_in.sign_in(staff, "bob", Secret(new), address="192.0.2.1", now=now)
    for _ in range(5):
        with pytest.raises(sign_in.WrongPassword):
            people.change_password(staff, current=PASSWORD, password=new, by=bob, now=now)
    with pytest.raises(sign_in.LockedOut):
        people.change_password(staff, current=new, password=new, by=bob, now=now)


@pytest.mark.parametrize("meanwhile", ["another password", "disabled"])
def test_a_password_is_not_changed_by_one_that_an_admin_has_just_taken_away(
    staff: Engine, now: datetime, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    prove, given, new = sign_in.prove, "given by the admin", "nobody else knows it"

    def slow(*args: Any, **more: Any) -> Any:
        proven = prove(*args, **more)
        if meanwhile == "disabled":
            people.disable_operator(staff, "bob", by=ADA, now=now)
        else:
            people.set_operator_password(staff, "bob", password=given, by=ADA, now=now)
        return proven

    monkeypatch.setattr(sign_in, "prove", slow)
    with pytest.raises(sign_in.WrongPassword):
        people.change_password(staff, current=PASSWORD, password=new, by=Operator("bob", "support"), now=now)
    people.enable_operator(staff, "bob", by=ADA, now=now)
    with pytest.raises(sign_in.WrongPassword):
        sign_in.sign_in(staff, "bob", Secret(new), address="192.0.2.1", now=now)
    theirs = PASSWORD if meanwhile == "disabled" else given
    assert sign_in.sign_in(staff, "bob", Secret(theirs), address="192.0.2.1", now=now)


def test_the_last_admin_stays(staff: Engine, now: datetime) -> None:
    for order in (
        lambda: people.disable_operator(staff, "ada", by=ADA, now=now),
        lambda: people.set_operator_role(staff, "ada", role="viewer", by=ADA, now=now),
    ):
        with pytest.raises(Refused, match="last admin"):
            order()
    people.set_operator_role(staff, "ada", role="admin", by=ADA, now=now)
    people.disable_operator(staff, "bob", by=ADA, now=now)
    people.set_operator_role(staff, "bob", role="admin", by=ADA, now=now)
    with pytest.raises(Refused, match="last admin"):
        people.disable_operator(staff, "ada", by=ADA, now=now)


def test_two_admins_who_disable_each_other_leave_one(staff: Engine, now: datetime) -> None:
    people.set_operator_role(staff, "bob", role="admin", by=ADA, now=now)

    def disable(name: str) -> bool:
        try:
            people.disable_operator(staff, name, by=ADA, now=now)
        except CoreError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(disable, ("ada", "bob"))) == [False, True]


def test_the_first_operator_is_an_admin(engine: Engine, now: datetime) -> None:
    with pytest.raises(Refused, match="must be an admin"):
        people.add_operator(engine, "bob", role="support", password=PASSWORD, by=LOCAL, now=now)
    assert _rows(engine, now) == {}


@pytest.mark.parametrize(
    ("name", "role", "password", "words"),
    [
        ("", "viewer", PASSWORD, "the name cannot be taken"),
        ("local", "viewer", PASSWORD, "the name cannot be taken"),
        ("root (shell)", "viewer", PASSWORD, "the name cannot be taken"),
        ("a" * 65, "viewer", PASSWORD, "the name cannot be taken"),
        ("eve", "boss", PASSWORD, "no role boss"),
        ("eve", "viewer", "short", "too short"),
        ("eve", "viewer", "x" * 1001, "too long"),
        ("eve", "viewer", "ababababababab", "easy to guess"),
        ("eve-of-the-house", "viewer", "Eve-of-the-House", "easy to guess"),
        ("bob", "viewer", PASSWORD, "already"),
    ],
)
def test_what_cannot_be_taken_is_said_without_the_password(
    staff: Engine, now: datetime, name: str, role: str, password: str, words: str
) -> None:
    with pytest.raises((BadInput, Conflict), match=words) as error:
        people.add_operator(staff, name, role=role, password=password, by=ADA, now=now)
    assert password not in str(error.value) or len(password) < 6
    assert set(_rows(staff, now)) == {"ada", "bob"}


def test_there_is_no_order_about_nobody(staff: Engine, now: datetime) -> None:
    for order in (
        lambda: people.disable_operator(staff, "zoe", by=ADA, now=now),
        lambda: people.enable_operator(staff, "zoe", by=ADA, now=now),
        lambda: people.set_operator_role(staff, "zoe", role="viewer", by=ADA, now=now),
        lambda: people.set_operator_password(staff, "zoe", password=PASSWORD, by=ADA, now=now),
    ):
        with pytest.raises(NotFound):
            order()


def test_a_locked_operator_is_shown_so_and_unlocked(staff: Engine, now: datetime) -> None:
    for _ in range(5):
        with pytest.raises(sign_in.WrongPassword):
            sign_in.sign_in(staff, "bob", None, address="192.0.2.1", now=now)
    assert _rows(staff, now)["bob"] == ("support", "locked")
    people.enable_operator(staff, "bob", by=ADA, now=now)
    assert _rows(staff, now)["bob"] == ("support", "active")


@pytest.fixture
def trail(staff: Engine, now: datetime) -> Engine:
    """A trail of 12 lines: 2 operators, one job, a key, and 8 lines two months old."""
    seed(staff, now=now, apps=12)
    with reading(staff) as conn:
        chosen = queries.held_fingerprints(conn)[:2]
    commands.order_refresh(staff, chosen, by=ADA, reason="50% off_", now=now)
    commands.add_api_key(staff, title="=cron", scope="refresh", by=ADA, now=now)
    with writing(staff) as conn:
        for number in range(8):
            audit.write(conn, by="zoe", action="test_alerts", subject=f"no {number}", count=1, reason=None, now=now)
    return staff


def test_the_trail_is_filtered_and_paged_newest_first(trail: Engine, now: datetime) -> None:
    with reading(trail) as conn:
        every = audit_trail.audit_trail(conn)
        assert [row.id for row in every] == sorted((row.id for row in every), reverse=True)
        assert len(every) == 12
        assert {row.by for row in audit_trail.audit_trail(conn, who="ZO")} == {"zoe"}
        assert [row.count for row in audit_trail.audit_trail(conn, action="refresh_tokens")] == [2]
        assert [row.result for row in audit_trail.audit_trail(conn, about="job ")] == [
            "queued: 0 went well, 0 failed, 0 skipped"
        ]
        assert audit_trail.audit_trail(conn, about="%") == []
        assert audit_trail.audit_trail(conn, since=now + timedelta(seconds=1)) == []
        first = audit_trail.audit_trail(conn, limit=5)
        assert audit_trail.audit_trail(conn, limit=50, before=first[-1].id) == every[5:]
        assert audit_trail.actions(conn) == ["add_api_key", "add_operator", "refresh_tokens", "test_alerts"]


def test_the_chain_names_its_first_broken_line(trail: Engine, now: datetime) -> None:
    with reading(trail) as conn:
        assert audit_trail.verdict(conn) == audit_trail.Verdict(12, now, None)
        third = audit_trail.audit_trail(conn)[-3].id
    with writing(trail) as conn:
        conn.execute(update(capi_audit).where(capi_audit.c.id == third).values(count=1))
    with reading(trail) as conn:
        assert audit_trail.verdict(conn).broken == third


def test_the_trail_is_taken_away_as_csv(trail: Engine, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_trail, "_PAGE", 5)
    with reading(trail) as conn:
        lines = "".join(audit_trail.audit_report(conn))
        some = list(audit_trail.audit_report(conn, who="ada", since=now))
    rows = list(csv.DictReader(io.StringIO(lines, newline="")))
    assert tuple(rows[0]) == audit_trail.COLUMNS
    assert len(rows) == 12
    assert {row["object"] for row in rows if row["action"] == "add_api_key"} == {"'=cron (refresh)"}
    assert len(some) == 3
