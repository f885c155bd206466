"""A PostgreSQL database made empty again after a test, if the test left its shape alone."""

from __future__ import annotations

import psycopg

# What held more than this is dropped: its dead rows and statistics would stay behind.
MOST_ROWS = 5_000
_ALONE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_SHAPE = """
    SELECT md5(string_agg(line, E'\\n' ORDER BY line)) FROM (
        SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default) AS line
        FROM information_schema.columns WHERE table_schema = 'public'
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT version_num FROM capi_alembic_version
    ) AS lines
"""
_EMPTY = f"""
    DO $$
    DECLARE name text; rows bigint; gone bigint := 0;
    BEGIN
        SET LOCAL session_replication_role = replica;  -- foreign keys in any order
        FOR name IN SELECT tablename FROM pg_tables
                    WHERE schemaname = 'public' AND tablename <> 'capi_alembic_version'
        LOOP
            EXECUTE format('DELETE FROM public.%I', name);
            GET DIAGNOSTICS rows = ROW_COUNT;
            gone := gone + rows;
        END LOOP;
        IF gone > {MOST_ROWS} THEN RAISE EXCEPTION 'it held too much'; END IF;
        FOR name IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL
        LOOP
            EXECUTE format('ALTER SEQUENCE public.%I RESTART', name);
        END LOOP;
    END $$
"""


def shape_of(url: str) -> str:
    """What this database's tables, columns and indexes come to."""
    with psycopg.connect(url, autocommit=True) as connection:
        return _shape(connection)


def empty(url: str, shape: str) -> bool:
    """Whether this database is now as it was made: of this shape, without a row, its sequences at their start."""
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_ALONE)
            if _shape(connection) != shape:
                return False
            connection.execute(_EMPTY)
    except psycopg.Error:
        return False
    return True


def _shape(connection: psycopg.Connection) -> str:
    row = connection.execute(_SHAPE).fetchone()
    return str(row)
