"""Signing in: sessions end, guesses are locked out, and nothing tells a known name from an unknown one."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, inspect, select, text

from core.desk import people
from core.desk.operators import Operator
from core.doors import timetable
from core.secret import Secret
from core.services import passwords, sign_in
from core.services.sign_in import IDLE, LOCAL, LONGEST, LockedOut, NoOperator, WrongPassword
from core.store import audit, lockouts
from core.store.database import reading, writing
from core.store.schema import capi_audit, capi_lockout, capi_session
from tests.world import World

PASSWORD, WRONG = "correct horse battery", "wrong horse battery"
HERE, THERE = "192.0.2.7", "198.51.100.9"
MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.usefixtures("quick_passwords")


@pytest.fixture
def ada(engine: Engine, now: datetime) -> Engine:
    """A database with one operator, an admin."""
    people.add_operator(engine, "ada", role="admin", password=PASSWORD, by=LOCAL, now=now)
    return engine


def _try(engine: Engine, now: datetime, password: str = PASSWORD, name: str = "ada", address: str = HERE) -> str:
    return sign_in.sign_in(engine, name, Secret(password), address=address, now=now)


def _name(engine: Engine, cookie: str | None, now: datetime) -> str | None:
    with reading(engine) as conn:
        found = sign_in.who(conn, cookie, now=now)
    return found and found.name


def _fails(engine: Engine, now: datetime, times: int, **how: str) -> None:
    for _ in range(times):
        with pytest.raises(WrongPassword):
            _try(engine, now, WRONG, **how)


def _actions(engine: Engine) -> list[tuple[str, str, str]]:
    a = capi_audit.c
    with reading(engine) as conn:
        assert audit.first_broken(conn) is None
        return [tuple(row) for row in conn.execute(select(a.by, a.action, a.subject).order_by(a.id))]


def test_without_operators_it_is_the_local_one_and_then_nobody(engine: Engine, now: datetime) -> None:
    assert _name(engine, None, now) == "local"
    people.add_operator(engine, "ada", role="admin", password=PASSWORD, by=LOCAL, now=now)
    assert _name(engine, None, now) is None
    people.add_operator(engine, "bob", role="admin", password=PASSWORD, by=LOCAL, now=now)
    people.disable_operator(engine, "ada", by=LOCAL, now=now)
    assert _name(engine, None, now) is None


def test_a_session_is_opened_by_the_password_and_ended_by_signing_out(ada: Engine, now: datetime) -> None:
    cookie = _try(ada, now, name=" Ada ")
    assert _name(ada, cookie, now) == "ada"
    other = _try(ada, now)
    sign_in.sign_out(ada, cookie, now=now)
    sign_in.sign_out(ada, cookie, now=now)
    assert (_name(ada, cookie, now), _name(ada, other, now)) == (None, "ada")
    assert [action for _, action, _ in _actions(ada)] == ["add_operator", "sign_in", "sign_in", "sign_out"]


@pytest.mark.parametrize("wrong", ["", "x", "A" * 43, "A" * 44, "ä" * 43, "' OR 1=1 --"])
def test_a_cookie_that_is_not_ours_is_nobody(ada: Engine, now: datetime, wrong: str) -> None:
    assert _name(ada, wrong, now) is None


def test_each_changed_character_of_a_cookie_makes_it_worthless(ada: Engine, now: datetime) -> None:
    cookie = _try(ada, now)
    for place, letter in enumerate(cookie):
        assert _name(ada, cookie[:place] + ("A" if letter != "A" else "B") + cookie[place + 1 :], now) is None
    assert _name(ada, cookie, now) == "ada"


def test_an_idle_session_ends_and_one_in_use_does_not(ada: Engine, now: datetime) -> None:
    cookie = _try(ada, now)
    assert _name(ada, cookie, now + IDLE - MINUTE) == "ada"
    assert _name(ada, cookie, now + IDLE) is None
    sign_in.heard_of(ada, cookie, now, now=now + IDLE - MINUTE)
    assert _name(ada, cookie, now + IDLE + 5 * MINUTE) == "ada"


def test_a_session_in_use_ends_after_twelve_hours(ada: Engine, now: datetime) -> None:
    cookie = _try(ada, now)
    with writing(ada) as conn:
        conn.execute(capi_session.update().values(seen_at=now + LONGEST))
    assert _name(ada, cookie, now + LONGEST - MINUTE) == "ada"
    assert _name(ada, cookie, now + LONGEST) is None


def test_being_heard_of_is_written_once_a_minute(ada: Engine, now: datetime) -> None:
    cookie = _try(ada, now)
    sign_in.heard_of(ada, cookie, now, now=now + MINUTE / 2)
    with reading(ada) as conn:
        assert conn.scalar(select(capi_session.c.seen_at)) == now
    sign_in.heard_of(ada, cookie, now, now=now + MINUTE)
    with reading(ada) as conn:
        assert conn.scalar(select(capi_session.c.seen_at)) == now + MINUTE


def test_disabling_and_another_password_end_every_session_at_once(ada: Engine, now: datetime) -> None:
    people.add_operator(ada, "bob", role="support", password=PASSWORD, by=LOCAL, now=now)
    cookies = [_try(ada, now, name="bob") for _ in range(2)]
    people.set_operator_password(ada, "bob", password="another long one", by=LOCAL, now=now)
    assert [_name(ada, cookie, now) for cookie in cookies] == [None, None]
    cookie = _try(ada, now, "another long one", name="bob")
    people.disable_operator(ada, "bob", by=LOCAL, now=now)
    assert _name(ada, cookie, now) is None
    people.enable_operator(ada, "bob", by=LOCAL, now=now)
    assert _name(ada, cookie, now) is None
    _fails(ada, now, 1, name="bob")


def test_another_role_is_signed_in_with_anew(ada: Engine, now: datetime) -> None:
    people.add_operator(ada, "bob", role="viewer", password=PASSWORD, by=LOCAL, now=now)
    cookie = _try(ada, now, name="bob")
    people.set_operator_role(ada, "bob", role="support", by=LOCAL, now=now)
    assert _name(ada, cookie, now) is None, "an open page would go on with the old role"
    cookie = _try(ada, now, name="bob")
    with reading(ada) as conn:
        assert sign_in.who(conn, cookie, now=now) == Operator("bob", "support")


def test_after_five_failures_a_name_is_locked_from_everywhere_and_longer_each_time(ada: Engine, now: datetime) -> None:
    for number in range(lockouts.FREE):
        _fails(ada, now, 1, address=f"192.0.2.{number}")
    at = now
    for wait in (*lockouts.WAITS, lockouts.WAITS[-1]):
        with pytest.raises(LockedOut) as locked:
            _try(ada, at + wait - timedelta(seconds=1), address=THERE)
        assert locked.value.until == at + wait
        at += wait
        _fails(ada, at, 1, address=f"203.0.113.{wait.seconds % 250}")
    assert next(line for line in _actions(ada) if line[1] == "lock_sign_in") == (
        "console",
        "lock_sign_in",
        "operator ada",
    )


def test_the_right_password_is_not_taken_while_locked_and_forgives_afterwards(ada: Engine, now: datetime) -> None:
    _fails(ada, now, lockouts.FREE)
    with pytest.raises(LockedOut):
        _try(ada, now + timedelta(seconds=5))
    later = now + lockouts.WAITS[0]
    assert _try(ada, later)
    _fails(ada, later, lockouts.FREE - 1)
    assert _try(ada, later)


def test_an_address_is_locked_for_every_name_and_does_not_lock_names_then(ada: Engine, now: datetime) -> None:
    for number in range(lockouts.FREE):
        _fails(ada, now, 1, name=f"guess{number}")
    for _ in range(10):
        with pytest.raises(LockedOut):
            _try(ada, now, WRONG)
    assert _try(ada, now, address=THERE)


def test_one_network_of_ipv6_is_one_address(ada: Engine, now: datetime) -> None:
    for number in range(lockouts.FREE):
        _fails(ada, now, 1, name=f"guess{number}", address=f"2001:db8::{number + 1:x}")
    with pytest.raises(LockedOut):
        _try(ada, now, address="2001:db8::ffff")
    assert _try(ada, now, address="2001:db8:0:1::1")


def test_failures_are_forgotten_after_a_quiet_day(ada: Engine, now: datetime) -> None:
    _fails(ada, now, lockouts.FREE - 1)
    _fails(ada, now + lockouts.FORGOTTEN_AFTER + MINUTE, 1)
    assert _try(ada, now + lockouts.FORGOTTEN_AFTER + MINUTE)
    with reading(ada) as conn:
        assert conn.execute(select(capi_lockout)).all() == []


def test_an_unknown_and_a_disabled_name_are_answered_like_a_known_one(ada: Engine, now: datetime) -> None:
    people.add_operator(ada, "bob", role="viewer", password=PASSWORD, by=LOCAL, now=now)
    people.disable_operator(ada, "bob", by=LOCAL, now=now)
    said = []
    for number, name in enumerate(("ada", "bob", "nobody", "' OR 1=1 --", "x" * 500, "")):
        answers = []
        for _ in range(lockouts.FREE + 1):
            try:
                _try(ada, now, WRONG if name == "ada" else PASSWORD, name=name, address=f"192.0.2.{number}")
            except (WrongPassword, LockedOut) as error:
                answers.append((type(error), str(error), getattr(error, "until", None)))
        said.append(answers)
    assert all(answers == said[0] for answers in said)
    assert [kind for kind, *_ in said[0]] == [WrongPassword] * lockouts.FREE + [LockedOut]


def test_many_guesses_at_once_are_all_counted(ada: Engine, now: datetime) -> None:
    begin = threading.Barrier(12)

    def guess(number: int) -> type[Exception]:
        begin.wait()
        try:
            _try(ada, now, WRONG, address=f"192.0.2.{number}")
        except (WrongPassword, LockedOut) as error:
            return type(error)
        raise AssertionError

    with ThreadPoolExecutor(12) as pool:
        kinds = list(pool.map(guess, range(12)))
    assert kinds.count(WrongPassword) == lockouts.FREE


def test_no_password_no_cookie_and_no_typed_name_is_stored(ada: Engine, now: datetime) -> None:
    cookie = _try(ada, now)
    _fails(ada, now, lockouts.FREE, name="typed-into-the-wrong-field", address=THERE)
    with reading(ada) as conn:
        stored = "\n".join(
            str(row)
            for name in inspect(ada).get_table_names()
            if name.startswith("capi_")
            for row in conn.execute(text(f'SELECT * FROM "{name}"'))
        )
    assert "'ada'" in stored
    for secret in (PASSWORD, cookie, "typed-into-the-wrong-field", HERE, THERE):
        assert secret not in stored


def test_upkeep_forgets_tries_for_names_by_which_nobody_ever_gets_in(world: World) -> None:
    (upkeep,) = [task for task in timetable.TASKS if task.name == "upkeep"]
    now = world.clock()
    with writing(world.engine) as conn:
        lockouts.take(conn, [f"name {n}" for n in range(3)], now=now - lockouts.FORGOTTEN_AFTER - MINUTE)
        lockouts.take(conn, ["name fresh"], now=now)
    upkeep.run(world.service(), now)
    with reading(world.engine) as conn:
        assert conn.scalars(select(capi_lockout.c.tried_at)).all() == [now]


def test_real_passwords_are_slow_and_none_to_compare_with_is_as_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.services.passwords.COST", (15, 8, 3))
    sealed = passwords.seal(Secret(PASSWORD))
    assert sealed.startswith("scrypt$15$8$3$")
    taken = []
    for stored in (sealed, None, passwords.NONE):
        begun = time.process_time()
        assert passwords.fits(Secret(PASSWORD), stored) is (stored == sealed)
        taken.append(time.process_time() - begun)
    assert min(taken) > 0.05
    assert max(taken) / min(taken) < 2
    assert not passwords.fits(Secret(WRONG), sealed)


def test_a_stored_password_keeps_the_cost_it_was_made_with(monkeypatch: pytest.MonkeyPatch) -> None:
    before = passwords.seal(Secret(PASSWORD))
    monkeypatch.setattr("core.services.passwords.COST", (5, 8, 1))
    assert passwords.fits(Secret(PASSWORD), before)
    assert passwords.seal(Secret(PASSWORD)) != passwords.seal(Secret(PASSWORD)), "salted"


def test_who_was_proven_elsewhere_is_signed_in_like_anybody(ada: Engine, now: datetime) -> None:
    people.add_operator(ada, "ana@example.com", role="support", password=None, by=LOCAL, now=now)
    _fails(ada, now, lockouts.FREE, name="ana@example.com")
    cookie = sign_in.sign_in_as(ada, "ana@example.com", how="with Example", now=now)
    with reading(ada) as conn:
        assert sign_in.who(conn, cookie, now=now) == Operator("ana@example.com", "support")
        a = capi_audit.c
        last = conn.execute(select(a.by, a.action, a.subject, a.reason).order_by(a.id.desc())).first()
        assert tuple(last or ()) == ("ana@example.com", "sign_in", "operator ana@example.com", "with Example")
        assert audit.first_broken(conn) is None
    people.disable_operator(ada, "ana@example.com", by=LOCAL, now=now)
    assert _name(ada, cookie, now) is None
    for name in ("ana@example.com", "eve@example.com", ""):
        with pytest.raises(NoOperator) as refused:
            sign_in.sign_in_as(ada, name, how="with Example", now=now)
        assert str(refused.value) == "There is nobody of that name who may sign in"


def test_an_empty_password_fits_nobody_who_has_none() -> None:
    for guess in (None, Secret("-"), Secret(" "), Secret("0" * 32)):
        assert not passwords.fits(guess, passwords.NONE)
