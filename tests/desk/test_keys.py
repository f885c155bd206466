"""Rotation: every token comes to the newest key, whatever happens on the way, and the trail says who ordered it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text

from core.desk import keys
from core.desk.operators import Operator
from core.errors import Forbidden, Refused, SettingsError
from core.secret import Secret
from core.store import apps, audit, database, keyring, migrate, rekey, sealing
from core.store.database import reading, writing
from core.store.platform_tables import app, app_settings, user
from core.store.schema import capi_audit
from tests.processes import ROOT

OLD_TEXT, NEW_TEXT = keyring.new_key(), keyring.new_key()
OLD, NEW = Secret(OLD_TEXT), Secret(NEW_TEXT)
ADA = Operator("Ada", "admin")

# Rotates, and is killed in the middle of its third transaction.
CUT_SHORT = """
import os, signal, sys
from core import clock
from core.desk import keys
from core.desk.operators import Operator
from core.secret import Secret
from core.store import database, migrate, token_column
engine = database.open_engine(sys.argv[1])
migrate.prepare(engine, [Secret(key) for key in sys.argv[2].split(",")])
swap, swaps = token_column.swap, [0]
def swap_and_die(*arguments):
    swaps[0] += 1
    if swaps[0] == 450:
        os.kill(os.getpid(), signal.SIGKILL)
    return swap(*arguments)
token_column.swap = swap_and_die
keys.rotate(engine, by=Operator("Ada", "admin"), now=clock.now())
"""


def opened(url: str, *given: Secret) -> Engine:
    engine = database.open_engine(url)
    migrate.prepare(engine, given)
    return engine


def fill(engine: Engine, count: int) -> None:
    """Apps with a token each: every seventh in the clear, as the platform writes it."""
    ring = keyring.of(engine)
    ids = [f"a{number:05d}" for number in range(count)]
    with writing(engine) as conn:
        conn.execute(user.insert(), [{"id": "u", "email": "u@example.com"}])
        conn.execute(app.insert(), [{"id": one, "appId": f"p{one}", "name": one, "userId": "u"} for one in ids])
        rows = [
            {
                "id": f"s{one}",
                "appId": one,
                "metaAccessToken": a_token(one) if number % 7 == 3 else sealing.seal(a_token(one), one, ring),
            }
            for number, one in enumerate(ids)
        ]
        conn.execute(app_settings.insert(), rows)


def a_token(app_id: str) -> Secret:
    return Secret(f"EAAmarked{app_id}" + "x" * 150)


def held_as_before(engine: Engine) -> bool:
    with reading(engine) as conn:
        return all(one.token == a_token(one.id) for one in apps.every(conn))


def counts(engine: Engine) -> dict[str, int]:
    """state → tokens."""
    with reading(engine) as conn:
        return {row.state: row.tokens for row in keys.key_rows(conn)}


def trail(engine: Engine) -> list[tuple[str, str, str, int]]:
    with reading(engine) as conn:
        columns = (capi_audit.c.by, capi_audit.c.action, capi_audit.c.subject, capi_audit.c.count)
        return [tuple(row) for row in conn.execute(select(*columns).order_by(capi_audit.c.id))]  # type: ignore[misc]


def test_every_token_comes_to_the_newest_key(database_url: str, now: datetime) -> None:
    fill(opened(database_url, OLD), 20)
    engine = opened(database_url, NEW, OLD)
    assert counts(engine) == {"newest": 0, "older": 17, "in the clear": 3}
    looked_at: list[int] = []
    done = keys.rotate(engine, by=ADA, now=now, reason="yearly", tell=looked_at.append)
    newest = keyring.of(engine).newest
    assert newest is not None
    assert (done.key, done.tokens, done.unreadable, looked_at) == (newest.id, 20, 0, [20])
    assert counts(engine) == {"newest": 20, "older": 0}
    assert held_as_before(opened(database_url, NEW))
    assert trail(engine) == [("Ada", "rotate_keys", f"to key {newest.id}", 20)]
    assert keys.rotate(engine, by=ADA, now=now).tokens == 0
    assert len(trail(engine)) == 1, "nothing to do is no line"
    with reading(engine) as conn:
        assert audit.first_broken(conn) is None


def test_a_rotation_killed_in_the_middle_is_gone_on_with(database_url: str, now: datetime) -> None:
    fill(opened(database_url, OLD), 700)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CUT_SHORT, database_url, f"{NEW_TEXT},{OLD_TEXT}"]
    cut = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert cut.returncode == -signal.SIGKILL, cut.stderr
    engine = opened(database_url, NEW, OLD)
    assert counts(engine) == {"newest": 400, "older": 257, "in the clear": 43}
    assert held_as_before(engine)
    assert keys.rotate(engine, by=ADA, now=now).tokens == 300
    assert counts(engine) == {"newest": 700, "older": 0}
    assert held_as_before(engine)
    assert [count for *_, count in trail(engine)] == [700, 300]


def test_what_is_written_while_keys_are_rotated_stays(postgres_url: str) -> None:
    """SQLite has one writer at a time; on PostgreSQL somebody may commit between our look at a row and our write."""
    fill(opened(postgres_url, OLD), 3)
    engine, other_process = opened(postgres_url, NEW, OLD), opened(postgres_url, OLD)
    to_newest = rekey.to_newest(engine)

    def change(app_id: str, stored: sealing.Stored) -> sealing.Stored | None:
        if app_id == "a00001":
            with writing(other_process) as conn:
                apps.write_token(conn, app_id, Secret("EAAmeanwhile"), expires_at=None)
        return to_newest(app_id, stored)

    assert rekey.rewrite(engine, change) == 2
    with reading(engine) as conn:
        assert apps.get(conn, "a00001").token == Secret("EAAmeanwhile")
    assert counts(engine) == {"newest": 2, "older": 1}


def test_a_compare_and_swap_spares_a_newer_token(database_url: str) -> None:
    from core.store import token_column

    fill(opened(database_url, OLD), 1)
    engine = opened(database_url, NEW, OLD)
    with reading(engine) as conn:
        ((app_id, old),) = token_column.after(conn, "", limit=9)
    with writing(engine) as conn:
        apps.write_token(conn, app_id, Secret("EAAnewer"), expires_at=None)
    with writing(engine) as conn:
        assert not token_column.swap(conn, app_id, old, old)
        assert apps.get(conn, app_id).token == Secret("EAAnewer")


def test_the_key_file_takes_a_new_key_first(sqlite_engine: Engine, now: datetime) -> None:
    fill(sqlite_engine, 5)
    before = keyring.of(sqlite_engine).newest
    done = keys.rotate(sqlite_engine, by=ADA, now=now, new_key=True)
    assert before is not None
    assert done.key != before.id
    assert done.tokens == 5
    assert [key.id for key in keyring.of(sqlite_engine)] == [done.key, before.id]
    file = Path(f"{sqlite_engine.url.database}.key")
    away = file.rename(file.with_suffix(".away"))
    with pytest.raises(SettingsError, match=f"not here: {done.key}"):
        opened(str(sqlite_engine.url))
    away.rename(file)
    assert held_as_before(opened(str(sqlite_engine.url)))


def test_after_a_rotation_no_plain_token_is_left_in_the_file(sqlite_engine: Engine, now: datetime) -> None:
    fill(sqlite_engine, 300)
    path = str(sqlite_engine.url.database)

    def dumped() -> bytes:
        return b"".join(open(path + ending, "rb").read() for ending in ("", "-wal"))

    assert b"EAAmarked" in dumped()
    keys.rotate(sqlite_engine, by=ADA, now=now)
    assert b"EAAmarked" not in dumped()
    assert held_as_before(sqlite_engine)


def test_back_to_plain_text_for_the_platform(postgres_url: str, now: datetime) -> None:
    engine = opened(postgres_url, OLD)
    fill(engine, 10)
    done = keys.to_plain(engine, by=ADA, now=now)
    assert (done.key, done.tokens) == (None, 9)
    with opened(postgres_url).connect() as conn:
        stored = set(conn.scalars(text('SELECT "metaAccessToken" FROM "AppSettings"')))
    assert {Secret(one) for one in stored} == {a_token(f"a{number:05d}") for number in range(10)}
    assert trail(engine) == [("Ada", "rotate_keys", "to plain text", 9)]


def test_orders_that_make_no_sense_are_refused(sqlite_engine: Engine, postgres_url: str, now: datetime) -> None:
    with pytest.raises(Refused, match="has a key file"):
        keys.to_plain(sqlite_engine, by=ADA, now=now)
    off = opened(postgres_url)
    with pytest.raises(Refused, match="keys make` prints one"):
        keys.rotate(off, by=ADA, now=now)
    with pytest.raises(Refused, match="CAPI_ENCRYPTION_KEYS: put a new one"):
        keys.rotate(opened(postgres_url, OLD), by=ADA, now=now, new_key=True)
    with pytest.raises(Refused, match="no stored token"):
        keys.abandon(off, ["0badc0de"], by=ADA, now=now)
    for order in (keys.rotate, keys.to_plain):
        with pytest.raises(Forbidden):
            order(off, by=Operator("Sue", "support"), now=now)
    with pytest.raises(Forbidden):
        keys.abandon(off, ["0badc0de"], by=Operator("Sue", "support"), now=now)


def test_a_lost_key_is_given_up_and_found_again(database_url: str, now: datetime) -> None:
    lost = opened(database_url, OLD)
    fill(lost, 4)
    key_id = keyring.of(lost).newest.id  # type: ignore[union-attr]
    engine = database.open_engine(database_url)
    rekey.take_up(engine, (NEW,))
    assert counts(engine) == {"newest": 0, "missing": 3, "in the clear": 1}
    with pytest.raises(Refused, match="is not lost"):
        keys.abandon(lost, [key_id], by=ADA, now=now)
    assert keys.abandon(engine, [key_id], by=ADA, now=now) == 3
    assert counts(engine) == {"newest": 0, "in the clear": 1, "given up": 3}
    assert trail(engine) == [("Ada", "rotate_keys", f"gave up key {key_id}", 3)]
    with pytest.raises(Refused, match="no stored token"):
        keys.abandon(engine, [key_id], by=ADA, now=now)

    started = opened(database_url, NEW)
    assert keys.rotate(started, by=ADA, now=now).unreadable == 3
    found = opened(database_url, NEW, OLD)
    assert held_as_before(found)
    assert keys.rotate(found, by=ADA, now=now).tokens == 3
    assert counts(found) == {"newest": 4, "older": 0}


def test_a_key_given_up_and_in_use_again_is_missed_again(database_url: str, now: datetime) -> None:
    fill(opened(database_url, OLD), 4)
    engine = database.open_engine(database_url)
    rekey.take_up(engine, (NEW,))
    keys.abandon(engine, [keyring.Keyring((OLD,)).newest.id], by=ADA, now=now)  # type: ignore[union-attr]
    opened(database_url, NEW)
    assert held_as_before(opened(database_url, OLD))
    with pytest.raises(SettingsError, match="a key that is not here"):
        opened(database_url, NEW)


def test_a_key_that_we_never_had_counts_as_damage(database_url: str) -> None:
    engine = opened(database_url, OLD)
    fill(engine, 4)
    with writing(engine) as conn:
        foreign = {"text": f"capi1.deadbeef.{'A' * 40}"}
        conn.execute(text('UPDATE "AppSettings" SET "metaAccessToken" = :text WHERE "appId" = \'a00000\''), foreign)
    assert counts(engine) == {"newest": 2, "in the clear": 1, "damaged": 1}


def test_a_made_key_is_one_that_the_setting_takes() -> None:
    from core.settings import load

    made = keys.make_key()
    assert load({"CAPI_ENCRYPTION_KEYS": made}).encryption_keys == (Secret(made),)
    assert made != keys.make_key()
