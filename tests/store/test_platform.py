"""On the database that the platform's own migrations made: text ids, naive UTC, columns and tables of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, create_engine, inspect, text

from core.clock import now as real_now
from core.errors import Refused, SchemaError
from core.sandbox.client import Sandbox
from core.store import apps, database, migrate
from core.store.database import reading, writing
from core.store.health import platform_word
from tests.world import DAY, World

PRISMA = """
CREATE TABLE "User" ("id" TEXT NOT NULL, "email" TEXT NOT NULL, "storeUrl" TEXT,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, CONSTRAINT "User_pkey" PRIMARY KEY ("id"));
CREATE TABLE "App" ("id" TEXT NOT NULL, "appId" TEXT NOT NULL, "name" TEXT NOT NULL, "userId" TEXT NOT NULL,
    "plan" TEXT NOT NULL DEFAULT 'free', "updatedAt" TIMESTAMP(3) NOT NULL, CONSTRAINT "App_pkey" PRIMARY KEY ("id"));
CREATE TABLE "AppSettings" ("id" TEXT NOT NULL, "appId" TEXT NOT NULL, "metaPixelId" TEXT, "metaAccessToken" TEXT,
    "metaTokenExpiresAt" TIMESTAMP(3), "metaPixelEnabled" BOOLEAN NOT NULL DEFAULT true,
    "recordIp" BOOLEAN NOT NULL DEFAULT true, "updatedAt" TIMESTAMP(3) NOT NULL,
    CONSTRAINT "AppSettings_pkey" PRIMARY KEY ("id"));
CREATE TABLE "Event" ("id" TEXT NOT NULL, "appId" TEXT NOT NULL, "eventName" TEXT NOT NULL,
    CONSTRAINT "Event_pkey" PRIMARY KEY ("id"));
CREATE UNIQUE INDEX "User_email_key" ON "User"("email");
CREATE UNIQUE INDEX "App_appId_key" ON "App"("appId");
CREATE UNIQUE INDEX "AppSettings_appId_key" ON "AppSettings"("appId");
ALTER TABLE "App" ADD CONSTRAINT "App_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User"("id");
ALTER TABLE "AppSettings" ADD CONSTRAINT "AppSettings_appId_fkey" FOREIGN KEY ("appId") REFERENCES "App"("id");
"""
MONITORING = """
SELECT a."id", CASE
    WHEN s."metaTokenExpiresAt" IS NULL THEN 'No expiry set'
    WHEN s."metaTokenExpiresAt" < (NOW() AT TIME ZONE 'UTC') THEN 'EXPIRED'
    WHEN s."metaTokenExpiresAt" < (NOW() AT TIME ZONE 'UTC') + INTERVAL '7 days' THEN 'Expiring soon'
    ELSE 'Valid' END AS status
FROM "App" a JOIN "AppSettings" s ON s."appId" = a."id"
"""


@pytest.fixture
def platform(postgres: str) -> Iterator[Engine]:
    """A PostgreSQL database as the platform's migrations leave it, before ours have run."""
    admin = create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(text("DROP DATABASE IF EXISTS platform WITH (FORCE)"))
        conn.execute(text("CREATE DATABASE platform"))
    engine = database.open_engine(postgres.replace("/postgres?", "/platform?"))
    with engine.begin() as conn:
        conn.exec_driver_sql(PRISMA)
    yield engine
    engine.dispose()
    admin.dispose()


def _shop(engine: Engine, number: int, token: str, expires: str) -> str:
    with engine.begin() as conn:
        conn.execute(
            text("""INSERT INTO "User" ("id", "email") VALUES ('cuid-user', 'tea-shop.myshopify.com')
                    ON CONFLICT DO NOTHING""")
        )
        conn.execute(
            text("""INSERT INTO "App" ("id", "appId", "name", "userId", "updatedAt")
                    VALUES (:id, :public, 'Tea', 'cuid-user', NOW())"""),
            {"id": f"cuid-{number}", "public": f"public-{number}"},
        )
        conn.execute(
            text(f"""INSERT INTO "AppSettings"
                     ("id", "appId", "metaPixelId", "metaAccessToken", "metaTokenExpiresAt", "updatedAt")
                     VALUES (:sid, :id, '4711', :token, {expires}, NOW())"""),
            {"sid": f"settings-{number}", "id": f"cuid-{number}", "token": token},
        )
    return f"cuid-{number}"


def test_everything_that_is_not_ours_is_left_alone(platform: Engine, meta: Sandbox) -> None:
    token = meta.create_token(expires_in=5 * 24 * 3600)
    ids = [_shop(platform, n, token.reveal(), "NOW() + INTERVAL '5 days'") for n in (1, 2)]
    with platform.begin() as conn:
        conn.execute(text("""INSERT INTO "Event" VALUES ('their-event', 'cuid-1', 'pageview')"""))
    before = _shape(platform)
    migrate.migrate(platform)
    world = World(platform, meta)
    refreshed = world.service().check_and_refresh_token("public-1")
    assert refreshed.apps_updated == 2

    assert _shape(platform) == before
    with platform.connect() as conn:
        rows = conn.execute(
            text('SELECT "id", "metaPixelId", "recordIp", "metaTokenExpiresAt" - NOW()::timestamp FROM "AppSettings"')
        ).all()
        assert conn.execute(text('SELECT * FROM "Event"')).all() == [("their-event", "cuid-1", "pageview")]
    assert {(row[0], row[1], row[2]) for row in rows} == {("settings-1", "4711", True), ("settings-2", "4711", True)}
    assert all(row[3] > timedelta(days=59) for row in rows)
    assert {world.app(apps_of(platform, one)).fingerprint for one in ids} == {refreshed.fingerprint}


def apps_of(engine: Engine, app_id: str) -> apps.App:
    with reading(engine) as conn:
        return apps.get(conn, app_id)


def _shape(engine: Engine) -> dict[str, list[tuple[str, str]]]:
    found = inspect(engine)
    return {
        table: [(column["name"], str(column["type"])) for column in found.get_columns(table)]
        for table in found.get_table_names()
        if not table.startswith("capi_")
    }


def test_our_four_words_are_the_monitoring_querys(platform: Engine) -> None:
    ends = ("NULL", "NOW() - INTERVAL '1 second'", "NOW() + INTERVAL '6 days 23 hours'", "NOW() + INTERVAL '8 days'")
    for number, expires in enumerate((*ends, "NOW() - INTERVAL '90 days'", "NOW() + INTERVAL '40 days'")):
        _shop(platform, number, f"token-{number}", expires)
    migrate.migrate(platform)
    with platform.connect() as conn:
        theirs = {row.id: row.status for row in conn.execute(text(MONITORING))}
    with reading(platform) as conn:
        mine = {app.id: platform_word(app.expires_at, now=real_now(), soon=7 * DAY) for app in apps.every(conn)}
    assert mine == theirs
    assert set(theirs.values()) == {"No expiry set", "EXPIRED", "Expiring soon", "Valid"}


def test_shops_are_found_as_the_platform_stored_them(platform: Engine) -> None:
    _shop(platform, 1, "token", "NULL")
    migrate.migrate(platform)
    with writing(platform) as conn:
        by_email = apps.by_shop(conn, "Tea-Shop.myshopify.com")
        conn.execute(text("""UPDATE "User" SET "storeUrl" = 'https://tea.example'"""))
        by_url = apps.by_shop(conn, "tea.example")
        apps.configure(conn, "cuid-1", shop_domain="new-name.myshopify.com")
        by_ours = apps.by_shop(conn, "new-name.myshopify.com")
    assert [found.id if found else None for found in (by_email, by_url, by_ours)] == ["cuid-1"] * 3


def test_a_missing_column_is_named_with_the_sql_that_mends_it(platform: Engine) -> None:
    with platform.begin() as conn:
        conn.execute(text('ALTER TABLE "AppSettings" DROP COLUMN "metaTokenExpiresAt"'))
    with pytest.raises(SchemaError) as error:
        migrate.migrate(platform)
    assert 'ALTER TABLE "AppSettings" ADD COLUMN "metaTokenExpiresAt" TIMESTAMP(3) WITHOUT TIME ZONE;' in str(
        error.value
    )


def test_the_platform_makes_its_own_apps(platform: Engine) -> None:
    migrate.migrate(platform)
    with pytest.raises(Refused, match="add it on the platform"), writing(platform) as conn:
        apps.add(conn, name="Tea", email="x@example.com", shop_domain=None, pixel_id="1")


@pytest.mark.parametrize(
    "stored", [1_795_435_200_000, "2026-11-23 12:00:00", "2026-11-23T12:00:00.000Z", "2026-11-23T12:00:00+00:00"]
)
def test_sqlite_reads_every_way_the_platform_writes_a_moment(sqlite_engine: Engine, stored: object) -> None:
    with writing(sqlite_engine) as conn:
        app = apps.add(conn, name="Tea", email="x@example.com", shop_domain=None, pixel_id="1")
        conn.execute(text('UPDATE "AppSettings" SET "metaTokenExpiresAt" = :at'), {"at": stored})
        assert apps.get(conn, app.id).expires_at == datetime(2026, 11, 23, 12, tzinfo=UTC)
