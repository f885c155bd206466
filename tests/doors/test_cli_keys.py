"""`capi-console keys`, and starts with the wrong keys: no secret is ever printed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from typer.testing import CliRunner, Result

from core.doors.cli import app
from core.secret import Secret
from core.store import apps, database, keyring, migrate
from core.store.database import reading, writing
from core.store.platform_tables import platform
from tests.processes import environment

Run = Callable[..., Result]
KEY, NEWER = keyring.new_key(), keyring.new_key()
TOKEN = "EAAmarked" + "Zq7" * 50


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("keys", "list", CAPI_ENCRYPTION_KEYS=…)` on the database in this test's folder."""

    def run(*args: str, **settings: str) -> Result:
        with monkeypatch.context() as environ:
            for name, value in ({"DATABASE_URL": f"sqlite:///{tmp_path}/capi.db"} | settings).items():
                environ.setenv(name, value)
            return CliRunner().invoke(app, args, input="")

    return run


@pytest.fixture
def shop(sqlite_url: str, tmp_path: Path) -> Iterator[Engine]:
    """A database of ours with one app and its token, beside its key file."""
    engine = database.open_engine(sqlite_url)
    migrate.prepare(engine)
    with writing(engine) as conn:
        tea = apps.add(conn, name="Tea", email="tea@example.com", shop_domain=None, pixel_id="1")
        apps.write_token(conn, tea.id, Secret(TOKEN), expires_at=None)
    yield engine
    engine.dispose()


def test_a_key_is_made_listed_and_rotated_to(shop: Engine, run: Run, tmp_path: Path) -> None:
    made = run("keys", "make").stdout.strip()
    assert len(made) == 43
    rotated = run("keys", "rotate", "--json", CAPI_ENCRYPTION_KEYS=made)
    done = json.loads(rotated.stdout)
    assert (done["tokens"], done["unreadable"]) == (1, 0)
    listed = run("keys", "list", "--json", CAPI_ENCRYPTION_KEYS=made)
    said = json.loads(listed.stdout)
    assert said["encryption"] == "on, with CAPI_ENCRYPTION_KEYS"
    assert [(row["state"], row["tokens"]) for row in said["keys"]] == [("newest", 1), ("older", 0)]
    assert said["keys"][0]["key"] == done["key"]
    settings = run("settings", CAPI_ENCRYPTION_KEYS=made)
    assert Secret(made).fingerprint in settings.stdout
    filed = (tmp_path / "capi.db.key").read_text().splitlines()[-1]
    everything = "".join(one.stdout + one.stderr for one in (rotated, listed, settings))
    assert not any(secret in everything for secret in (made, filed, TOKEN))


def test_a_worker_without_the_key_is_one_line_and_exit_code_two(shop: Engine, tmp_path: Path) -> None:
    file = tmp_path / "capi.db.key"
    filed = file.read_text().splitlines()[-1]
    needed = keyring.of(shop).newest
    file.rename(tmp_path / "elsewhere")
    done = subprocess.run(
        [sys.executable, "-m", "core.doors.cli", "worker"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(str(shop.url), "http://127.0.0.1:9", CAPI_ENCRYPTION_KEYS=KEY),
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert needed is not None
    assert f"a key that is not here: {needed.id} (tokens: 1)" in done.stderr
    assert f"CAPI_ENCRYPTION_KEYS (1 key) and {file} (there is no such file)" in done.stderr
    assert "Put it back and start again" in done.stderr
    assert not any(secret in done.stderr + done.stdout for secret in (KEY, filed, TOKEN))
    with reading(shop) as conn:
        stored = conn.execute(text('SELECT "metaAccessToken" FROM "AppSettings"')).scalar_one()
    assert stored.startswith(f"capi1.{needed.id}.")


def test_a_lost_key_is_given_up_only_when_somebody_says_so(shop: Engine, run: Run, tmp_path: Path) -> None:
    needed = keyring.of(shop).newest
    assert needed is not None
    (tmp_path / "capi.db.key").unlink()
    listed = run("keys", "list")
    assert (listed.exit_code, "missing" in listed.stdout, needed.id in listed.stdout) == (0, True, True)
    asked = run("keys", "abandon", needed.id)
    assert (asked.exit_code, "add --yes" in asked.stderr) == (1, True)
    given_up = run("keys", "abandon", needed.id, "--yes")
    assert (given_up.exit_code, given_up.stdout.split()[0]) == (0, "1")
    assert run("tokens").exit_code == 0
    rotated = run("keys", "rotate")
    assert (rotated.exit_code, "1 token cannot be opened" in rotated.stderr) == (1, True)


@pytest.fixture
def platform_owner(postgres: str) -> Iterator[Engine]:
    """A database in which the platform's tables belong to somebody else, and the role that README makes."""
    name = "keys_rights"
    admin = create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(text(f"CREATE DATABASE {name}"))
    owner = database.open_engine(postgres.replace("/postgres?", f"/{name}?"))
    platform.create_all(owner)
    with writing(owner) as conn:
        for statement in (
            "INSERT INTO \"User\" VALUES ('u1', 'a@example.com')",
            "INSERT INTO \"App\" VALUES ('a1', 'app_1', 'Shop', 'u1')",
            'INSERT INTO "AppSettings" ("id", "appId", "metaAccessToken") VALUES (\'s1\', \'a1\', \'EAAplain\')',
            "CREATE ROLE capi_keys LOGIN PASSWORD 'x'",
            "GRANT USAGE, CREATE ON SCHEMA public TO capi_keys",
            'GRANT SELECT ON "User", "App", "AppSettings" TO capi_keys',
            'GRANT UPDATE ("metaAccessToken", "metaTokenExpiresAt") ON "AppSettings" TO capi_keys',
        ):
            conn.exec_driver_sql(statement)
    yield owner
    owner.dispose()
    with admin.connect() as conn:
        conn.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        conn.execute(text("DROP ROLE capi_keys"))
    admin.dispose()


def test_the_rights_on_two_columns_are_enough(platform_owner: Engine, run: Run) -> None:
    """Encrypt, rotate and go back, on the platform's own PostgreSQL."""
    url = platform_owner.url.set(drivername="postgresql", username="capi_keys").render_as_string(hide_password=False)

    def stored() -> str:
        with platform_owner.connect() as conn:
            return str(conn.execute(text('SELECT "metaAccessToken" FROM "AppSettings"')).scalar_one())

    migrated = run("migrate", DATABASE_URL=url)
    assert migrated.exit_code == 0, migrated.stderr
    assert stored() == "EAAplain"
    for given in (KEY, f"{NEWER},{KEY}"):
        done = run("keys", "rotate", DATABASE_URL=url, CAPI_ENCRYPTION_KEYS=given)
        assert done.exit_code == 0, done.stderr
        newest = keyring.Keyring([Secret(one) for one in given.split(",")]).newest
        assert newest is not None
        assert stored().startswith(f"capi1.{newest.id}.")
    back = run("keys", "rotate", "--to-plain", DATABASE_URL=url, CAPI_ENCRYPTION_KEYS=NEWER)
    assert back.exit_code == 0, back.stderr
    assert stored() == "EAAplain"
