"""Where keys come from: the setting, the key file beside a database of ours, and what is said when one is missing."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine

from core.errors import SettingsError
from core.secret import Secret
from core.store import apps, database, keyring, migrate, sealing
from core.store.database import reading, writing
from core.store.sealing import Stored, Unreadable
from tests.processes import ROOT
from tests.store.test_sealing import KEY, NEWER, TOKEN, again, an_app, column, put

ONE_OF_MANY = """
import sys
from core.store import database, keyring, migrate
print("ready", flush=True)
sys.stdin.readline()
engine = database.open_engine(sys.argv[1])
migrate.prepare(engine)
print(keyring.of(engine).newest.id)
"""


def opened(url: str, *keys: Secret) -> Engine:
    engine = database.open_engine(url)
    migrate.prepare(engine, keys)
    return engine


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A SQLite database that is not there yet."""
    return f"sqlite:///{tmp_path / 'capi.db'}"


def test_a_new_database_has_a_key_file_that_nobody_else_reads(url: str, tmp_path: Path) -> None:
    engine = opened(url)
    file = tmp_path / "capi.db.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert keyring.of(engine).state == f"on, with the key file {file}"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    app = an_app(engine)
    engine.dispose()
    assert again(opened(url), app).token == TOKEN


def test_processes_that_start_at_once_make_one_key_file(url: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    many = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_MANY, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        for _ in range(3)
    ]
    assert {one.stdout.readline() for one in many} == {"ready\n"}  # type: ignore[union-attr]
    for one in many:
        one.stdin.write("go\n")  # type: ignore[union-attr]
        one.stdin.flush()  # type: ignore[union-attr]
    said = [one.communicate(timeout=60) for one in many]
    assert [errors for _, errors in said] == [""] * 3
    assert len({out for out, _ in said}) == 1
    assert len([line for line in (tmp_path / "capi.db.key").read_text().splitlines() if line[:1] != "#"]) == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_with_the_setting_no_key_file_is_made(url: str, tmp_path: Path) -> None:
    engine = opened(url, KEY)
    an_app(engine)
    assert not (tmp_path / "capi.db.key").exists()
    assert keyring.of(engine).state == "on, with CAPI_ENCRYPTION_KEYS"


def test_the_setting_takes_over_from_a_key_file(url: str) -> None:
    app = an_app(opened(url))
    engine = opened(url, KEY)
    other = an_app(engine, 2)
    first, second = (key.id for key in keyring.of(engine))
    assert [column(engine, one).split(".")[1] for one in (other, app)] == [first, second]


def test_a_missing_key_file_ends_the_start_and_changes_nothing(url: str, tmp_path: Path) -> None:
    engine = opened(url)
    app = an_app(engine)
    before, needed = column(engine, app), keyring.of(engine).newest.id  # type: ignore[union-attr]
    file = tmp_path / "capi.db.key"
    kept = file.read_bytes()
    file.unlink()
    for _ in range(2):
        with pytest.raises(SettingsError) as error:
            opened(url)
        assert not file.exists()
    said = str(error.value)
    assert f"{needed} (tokens: 1)" in said
    assert f"CAPI_ENCRYPTION_KEYS (not set) and {file} (there is no such file)" in said
    assert "Put it back and start again; nothing was changed" in said
    assert f"capi-console keys abandon {needed}" in said
    assert not TOKEN.inside(said)
    assert column(engine, app) == before
    file.write_bytes(kept)
    assert again(opened(url), app).token == TOKEN


def test_a_wrong_key_ends_the_start_and_changes_nothing(database_url: str) -> None:
    engine = opened(database_url, KEY)
    app = an_app(engine)
    needed = keyring.of(engine).newest.id  # type: ignore[union-attr]
    for wrong in ((NEWER,), ()):
        if not wrong and database_url.startswith("sqlite"):
            continue
        with pytest.raises(SettingsError, match=needed) as error:
            opened(database_url, *wrong)
        assert f"CAPI_ENCRYPTION_KEYS ({'1 key' if wrong else 'not set'})" in str(error.value)
        assert not any(key.inside(str(error.value)) for key in (KEY, NEWER, TOKEN))
    assert again(opened(database_url, KEY), app).token == TOKEN


def test_nonsense_in_one_row_keeps_nobody_from_starting(database_url: str) -> None:
    engine = opened(database_url, KEY)
    app = an_app(engine)
    for nonsense in (
        "capi1.",
        f"capi1.nonsense.{'A' * 40}",
        "capi1.0badc0de",
        "capi1.0badc0de.AAAA",
        "capi1.üüüüüüüü.AAAA",
        f"capi1.deadbeef.{'A' * 40}",
    ):
        put(engine, app, nonsense)
        assert again(opened(database_url, KEY), app).unreadable is Unreadable.DAMAGED


def test_a_key_that_we_never_had_is_missed_by_nobody_where_encryption_is_off(postgres_url: str) -> None:
    engine = opened(postgres_url)
    app, other = an_app(engine), an_app(engine, 2)
    put(engine, app, f"capi1.deadbeef.{'A' * 40}")
    assert again(opened(postgres_url), app).unreadable is Unreadable.DAMAGED
    assert again(opened(postgres_url), other).token == TOKEN


def test_a_key_that_took_over_is_missed_though_it_encrypted_for_one_process_only(database_url: str) -> None:
    an_app(opened(database_url, KEY))
    ahead = opened(database_url, NEWER, KEY)
    an_app(ahead, 2)
    with pytest.raises(SettingsError, match=keyring.of(ahead).newest.id):  # type: ignore[union-attr]
        opened(database_url, KEY)


@pytest.mark.parametrize("content", ["", "# nothing but words\n", "half-a-key\n", "\xff\xfe\n"])
def test_a_damaged_key_file_is_named_and_left_as_it_is(url: str, tmp_path: Path, content: str) -> None:
    file = tmp_path / "capi.db.key"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"the key file .*capi\.db\.key .*put back"):
        opened(url)
    assert file.read_bytes() == content.encode("latin-1")


def test_a_key_file_that_cannot_be_made_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    with pytest.raises(SettingsError, match=r"capi\.db\.key cannot be written \(Operation not permitted\)"):
        opened(url)


def test_a_new_key_in_the_file_reaches_those_who_run_already(url: str, tmp_path: Path) -> None:
    running = opened(url)
    app = an_app(running)
    other_process = opened(url)
    keyring.add_to_file(tmp_path / "capi.db.key")
    assert stat.S_IMODE((tmp_path / "capi.db.key").stat().st_mode) == 0o600
    with writing(other_process) as conn:
        apps.write_token(conn, app.id, Secret("EAAnew"), expires_at=None)
    assert again(running, app).token == Secret("EAAnew")
    later = an_app(running, 2)
    assert column(running, later).split(".")[1] == column(running, app).split(".")[1]


def test_a_key_file_behind_a_link_stays_there_and_keeps_its_owner_and_mode(url: str, tmp_path: Path) -> None:
    running = opened(url)
    app = an_app(running)
    beside, safe = tmp_path / "capi.db.key", tmp_path / "safe"
    safe.mkdir()
    beside.rename(safe / "keys")
    beside.symlink_to("safe/keys")
    (safe / "keys").chmod(0o640)
    if os.getuid() == 0:
        os.chown(safe / "keys", 1234, 1235)
    before = (safe / "keys").stat()
    keyring.add_to_file(beside)
    after = (safe / "keys").stat()
    assert beside.is_symlink()
    assert len(keyring.read_file(safe / "keys")) == 2
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [path.name for path in safe.iterdir()] == ["keys"]
    assert again(running, app).token == TOKEN


def test_a_database_has_one_key_file_by_whichever_path_it_is_opened(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = an_app(opened(url))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "link.db").symlink_to(tmp_path / "capi.db")
    monkeypatch.chdir(elsewhere)
    for other in (f"sqlite:///{elsewhere / 'link.db'}", "sqlite:///../capi.db", "sqlite:///link.db"):
        assert again(opened(other), app).token == TOKEN
    assert [path.name for path in elsewhere.iterdir() if path.name.endswith(".key")] == []


def test_a_key_file_that_goes_bad_takes_no_key_from_those_who_run(url: str, tmp_path: Path) -> None:
    running = opened(url)
    app = an_app(running)
    (tmp_path / "capi.db.key").write_text("oops")
    assert again(running, app).token == TOKEN
    (tmp_path / "capi.db.key").unlink()
    assert an_app(running, 2).token == TOKEN


def test_what_another_process_wrote_with_a_key_we_lack_is_locked_and_keeps_its_name(database_url: str) -> None:
    """While keys are rotated on many machines, some have the new key already."""
    behind, ahead = opened(database_url, KEY), opened(database_url, NEWER, KEY)
    app = an_app(ahead)
    found = again(behind, app)
    assert (found.token, found.unreadable, found.fingerprint) == (None, Unreadable.LOCKED, TOKEN.fingerprint)
    with reading(behind) as conn:
        assert [one.id for one in apps.holders(conn, TOKEN.fingerprint)] == [app.id]


def test_what_was_encrypted_once_opens_for_ever() -> None:
    """A change of the form, the derivation or the binding would leave every stored token unreadable."""
    ring = keyring.Keyring((Secret("A" * 43),))
    kept = Stored(Secret("capi1.ac2cf514.YHqIoj1YHKRrD73GBaxvZ--8c4gHukkS3tY9RY2vRvmrjY_UJA"))
    assert sealing.unseal(kept, "a1", ring).token == Secret("EAApinned")
    assert sealing.unseal(kept, "a2", ring).why is Unreadable.DAMAGED
