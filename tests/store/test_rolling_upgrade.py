"""A program beside a newer one: the database is migrated first, and what still runs the version before goes on."""

from __future__ import annotations

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from core.errors import SchemaError
from core.store import migrate
from core.store.database import open_engine, reading, writing


def _at(url: str, revision: str) -> None:
    engine = open_engine(url)
    with writing(engine) as conn:
        conn.execute(text(f"UPDATE {migrate.VERSION_TABLE} SET version_num = :at"), {"at": revision})
    engine.dispose()


def test_a_database_that_a_newer_program_has_migrated_is_used(postgres_url: str) -> None:
    _at(postgres_url, "9999")
    engine = open_engine(postgres_url)
    migrate.check(engine)
    with reading(engine) as conn:
        assert migrate.current(conn) == "9999", "and left as the newer one made it"
    engine.dispose()
    _at(postgres_url, migrate.newest())


def test_a_database_that_is_behind_is_not(postgres_url: str) -> None:
    _at(postgres_url, "0001")
    engine = open_engine(postgres_url)
    with pytest.raises(SchemaError, match="capi-console migrate"):
        migrate.check(engine)
    engine.dispose()
    _at(postgres_url, migrate.newest())


@pytest.mark.parametrize(("at", "serves"), [(None, False), ("0001", False), ("9999", True)])
def test_only_what_is_newer_or_the_same_serves(at: str | None, serves: bool) -> None:
    assert migrate.serves(at) is serves
    assert migrate.serves(migrate.newest())


def test_the_revisions_that_it_knows_are_those_of_the_migrations() -> None:
    scripts = ScriptDirectory.from_config(migrate.config())
    assert list(migrate.known()) == [script.revision for script in scripts.walk_revisions()][::-1]
    assert migrate.newest() == scripts.get_current_head()


def test_a_database_before_the_first_migration_is_at_none(engine: Engine) -> None:
    with engine.connect() as conn:
        assert migrate.current(conn) == migrate.newest()
        conn.execute(text(f"DROP TABLE {migrate.VERSION_TABLE}"))
        assert migrate.current(conn) is None
        conn.rollback()
