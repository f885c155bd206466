"""Tokens at rest: what stands in the column, whose row it belongs to, and what becomes of text that others wrote."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from core.secret import Secret
from core.store import apps, database, keyring, migrate, sealing
from core.store.apps import App
from core.store.database import reading, writing
from core.store.keyring import Keyring
from core.store.sealing import Stored, Unreadable

KEY, NEWER = Secret(keyring.new_key()), Secret(keyring.new_key())
TOKEN = Secret("EAAmarked" + "Zq7" * 50)
FORM = re.compile(r"capi1\.[0-9a-f]{8}\.[A-Za-z0-9_-]{50,}")


@pytest.fixture
def sealed(database_url: str) -> Iterator[Engine]:
    """A database opened with one key from the settings."""
    engine = database.open_engine(database_url)
    migrate.prepare(engine, (KEY,))
    yield engine
    engine.dispose()


def an_app(engine: Engine, number: int = 1, token: Secret | None = TOKEN) -> App:
    with writing(engine) as conn:
        app = apps.add(conn, name=f"Shop {number}", email=f"{number}@example.com", shop_domain=None, pixel_id="1")
        if token is not None:
            apps.write_token(conn, app.id, token, expires_at=None)
        return apps.get(conn, app.id)


def column(engine: Engine, app: App) -> str:
    with reading(engine) as conn:
        found = conn.execute(text('SELECT "metaAccessToken" FROM "AppSettings" WHERE "appId" = :id'), {"id": app.id})
        return str(found.scalar_one())


def put(engine: Engine, app: App, plain: str) -> None:
    """As the platform writes it, or anybody with a database client."""
    with writing(engine) as conn:
        row = {"token": plain, "id": app.id}
        conn.execute(text('UPDATE "AppSettings" SET "metaAccessToken" = :token WHERE "appId" = :id'), row)


def again(engine: Engine, app: App) -> App:
    with reading(engine) as conn:
        return apps.get(conn, app.id)


def test_a_token_is_stored_encrypted_and_read_as_it_was(sealed: Engine) -> None:
    app = an_app(sealed)
    stored = column(sealed, app)
    assert FORM.fullmatch(stored)
    assert stored.split(".")[1] == keyring.of(sealed).newest.id  # type: ignore[union-attr]
    assert (app.token, app.fingerprint, app.unreadable) == (TOKEN, TOKEN.fingerprint, None)


def test_the_same_token_never_looks_the_same_twice(sealed: Engine) -> None:
    app, sibling = an_app(sealed), an_app(sealed, 2)
    first = column(sealed, app)
    with writing(sealed) as conn:
        apps.write_token(conn, app.id, TOKEN, expires_at=None)
    assert len({first, column(sealed, app), column(sealed, sibling)}) == 3


def test_a_ciphertext_in_another_apps_row_does_not_open_and_spoils_no_list(sealed: Engine) -> None:
    app, other = an_app(sealed), an_app(sealed, 2, Secret("EAAanother" + "x" * 40))
    put(sealed, other, column(sealed, app))
    with reading(sealed) as conn:
        found = {one.id: one for one in apps.every(conn)}
        stored = {row[0]: row[2] for row in apps.stored_tokens(conn)}
    assert found[app.id].token == TOKEN
    assert (found[other.id].token, found[other.id].unreadable) == (None, Unreadable.DAMAGED)
    assert found[other.id].fingerprint not in (None, TOKEN.fingerprint, other.fingerprint)
    assert stored[other.id] is not None
    assert stored[other.id].fingerprint == found[other.id].fingerprint


def test_nothing_of_ours_overwrites_what_cannot_be_opened_but_a_new_token(sealed: Engine) -> None:
    app, other = an_app(sealed), an_app(sealed, 2)
    put(sealed, other, foreign := column(sealed, app))
    with writing(sealed) as conn:
        holding = [apps.get(conn, other.id)]
        assert apps.replace_token(conn, holding, TOKEN.fingerprint, Secret("EAAnew"), expires_at=None) == []
        apps.correct_expiry(conn, holding, TOKEN.fingerprint, None)
    assert column(sealed, other) == foreign
    with writing(sealed) as conn:
        holding = [apps.get(conn, other.id)]
        name = holding[0].fingerprint or ""
        assert apps.replace_token(conn, holding, name, Secret("EAAnew"), expires_at=None) == [other.id]
    assert again(sealed, other).token == Secret("EAAnew")


def test_a_token_that_the_platform_wrote_is_taken_as_it_is_and_encrypted_at_our_next_write(sealed: Engine) -> None:
    app = an_app(sealed, token=None)
    put(sealed, app, "EAAplatform" + "y" * 40)
    found = again(sealed, app)
    assert found.token == Secret("EAAplatform" + "y" * 40)
    with writing(sealed) as conn:
        apps.mirror(conn, app.id, found.fingerprint)
        apps.correct_expiry(conn, [found], found.fingerprint or "", None)
    assert FORM.fullmatch(column(sealed, app))
    assert again(sealed, app).token == found.token


def test_the_newest_key_encrypts_and_every_key_opens(sealed: Engine) -> None:
    app = an_app(sealed)
    migrate.prepare(sealed, (NEWER, KEY))
    other = an_app(sealed, 2)
    ids = [key.id for key in keyring.of(sealed)]
    assert [column(sealed, one).split(".")[1] for one in (other, app)] == ids
    assert again(sealed, app).token == again(sealed, other).token == TOKEN


def test_the_platforms_own_database_stays_readable_to_it(postgres_url: str) -> None:
    engine = database.open_engine(postgres_url)
    migrate.prepare(engine)
    app = an_app(engine)
    assert Secret(column(engine, app)) == TOKEN
    assert keyring.of(engine).state.startswith("off")
    engine.dispose()


def test_a_sqlite_file_of_the_platforms_stays_readable_to_it(tmp_path: Path) -> None:
    from core.store.platform_tables import platform

    engine = database.open_engine(f"sqlite:///{tmp_path / 'theirs.db'}")
    with writing(engine) as conn:
        platform.create_all(conn)
    migrate.prepare(engine)
    app = an_app(engine)
    assert Secret(column(engine, app)) == TOKEN
    assert not (tmp_path / "theirs.db.key").exists()
    engine.dispose()


def test_no_plain_token_is_in_the_files_of_a_database_that_we_made(tmp_path: Path) -> None:
    engine = database.open_engine(f"sqlite:///{tmp_path / 'capi.db'}")
    migrate.prepare(engine)
    an_app(engine)
    files = [path for path in tmp_path.iterdir() if path.name.startswith("capi.db")]
    assert {path.name for path in files} >= {"capi.db", "capi.db-wal", "capi.db.key"}
    everything = b"".join(path.read_bytes() for path in files)
    assert b"capi1." in everything
    assert b"EAAmarked" not in everything
    engine.dispose()


def test_a_plain_token_leaves_nothing_behind_when_it_is_encrypted(tmp_path: Path) -> None:
    engine = database.open_engine(f"sqlite:///{tmp_path / 'capi.db'}")
    migrate.prepare(engine)
    app = an_app(engine, token=None)
    put(engine, app, "EAAplatform" + "y" * 40)
    with engine.connect() as conn:
        conn.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"EAAplatform" in (tmp_path / "capi.db").read_bytes()
    with writing(engine) as conn:
        apps.write_token(conn, app.id, TOKEN, expires_at=None)
    engine.dispose()
    assert b"EAAplatform" not in (tmp_path / "capi.db").read_bytes()


def test_a_key_shows_itself_nowhere() -> None:
    ring = Keyring((KEY,))
    sealed_text = sealing.seal(TOKEN, "a1", ring)
    shown = f"{ring!r} {list(ring)!r} {ring.state} {ring.places} {sealed_text!r} {next(iter(ring)).id} {vars(ring)}"
    assert not KEY.inside(shown)
    assert not TOKEN.inside(shown)
    assert KEY.sign(b"capi-console: tokens at rest, version 1").hex() not in shown


_RING = Keyring((KEY, NEWER))
_GOOD = sealing.seal(TOKEN, "a1", _RING)


@given(st.data())
def test_a_changed_text_never_opens_and_never_raises(data: st.DataObject) -> None:
    good = _GOOD.text.reveal()
    at = data.draw(st.integers(0, len(good) - 1))
    letter = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    cut = data.draw(st.integers(0, len(good)))
    for changed in (good[:at] + letter + good[at + 1 :], good[:cut], good[:at] + letter + good[at:]):
        if not changed.startswith(sealing.PREFIX) or _same(changed, good):
            continue
        assert sealing.unseal(Stored(Secret(changed)), "a1", _RING).token is None


def _same(one: str, other: str) -> bool:
    """Base64's last letter has bits that say nothing."""
    head, _, body = one.rpartition(".")
    try:
        decoded = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except ValueError:
        return False
    return (head, decoded) == (
        other.rpartition(".")[0],
        base64.urlsafe_b64decode(other.rpartition(".")[2] + "=" * (-len(other.rpartition(".")[2]) % 4)),
    )


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        ("capi1.", Unreadable.DAMAGED),
        ("capi1.00000000.", Unreadable.DAMAGED),
        ("capi1.00000000", Unreadable.DAMAGED),
        (f"capi1.00000000.{'A' * 40}", Unreadable.LOCKED),
        ("capi1.0000.AAAA", Unreadable.DAMAGED),
        (f"capi1.nonsense.{'A' * 40}", Unreadable.DAMAGED),
        ("capi1.00000000.!!!!", Unreadable.DAMAGED),
        ("capi1.00000000.é", Unreadable.DAMAGED),
        ("capi1.--------.AAAA", Unreadable.DAMAGED),
    ],
)
def test_nonsense_behind_our_prefix_is_not_taken_for_a_token(stored: str, why: Unreadable) -> None:
    found = sealing.unseal(Stored(Secret(stored)), "a1", _RING)
    assert (found.token, found.why) == (None, why)
