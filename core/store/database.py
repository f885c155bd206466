"""Opening the database, and the two kinds of transaction.

`writing` takes SQLite's write lock at its start (`BEGIN IMMEDIATE`), because a transaction that reads
first and writes later cannot wait for the lock (https://www.sqlite.org/lang_transaction.html).
`reading` cannot write.

Rows are locked in one order (LOCK_ORDER), so that two transactions never wait for each other; of two tokens the one
that is replaced comes first. The tests watch every transaction for it.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Engine,
    ExceptionContext,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, NoSuchModuleError, OperationalError

from core.errors import SettingsError, StoreError

LOCK_ORDER = ("capi_pixel", "capi_token", "AppSettings", "capi_app", "capi_reach", "capi_outbox", "capi_event")
_BUSY_MS = 10_000
# A pooled connection that was used so lately, in seconds, is taken to be alive.
_RESTED = 1.0
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_IDLE_IN_TRANSACTION = "25P03"
# Who is gone without a word (a cut wire, a machine without power) is missed within some 20 seconds: TCP by itself gives
# up after a quarter of an hour, and asks a silent peer after two hours. The server is told the same about us: what a
# process holds locked that is cut off, or stands still in the middle of a transaction, is free again as soon.
CONNECT: dict[str, Any] = {
    "connect_timeout": 5,
    "application_name": "capi-console",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}
SESSION = (
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 2; "
    "SET tcp_user_timeout = 20000; SET idle_in_transaction_session_timeout = 30000"
)
T = TypeVar("T")


def parse(database_url: str) -> URL:
    """The URL with the driver we ship; SettingsError when it is neither SQLite nor PostgreSQL."""
    hint = "use sqlite:///data/capi.db or postgresql://USER:PASSWORD@HOST:5432/NAME"
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):
        raise SettingsError(f"DATABASE_URL cannot be read: {hint}") from None
    family = url.drivername.split("+")[0]
    if family in ("postgres", "postgresql"):
        # `schema` is Prisma's own way to name the search path; libpq does not know it.
        schema = url.query.get("schema")
        url = url.set(drivername="postgresql+psycopg").difference_update_query(
            ["schema", "pgbouncer", "connection_limit"]
        )
        return url.update_query_dict({"options": f"-csearch_path={schema}"}) if schema and schema != "public" else url
    if family == "sqlite":
        return url.set(drivername="sqlite+pysqlite")
    raise SettingsError(f"DATABASE_URL names {family!r}, which is not served: {hint}")


def shown(url: URL) -> str:
    """The URL for people: without its password, and without its query, which may hold one too."""
    return url.set(query={}).render_as_string(hide_password=True)


def open_engine(database_url: str, *, pool_size: int = 8) -> Engine:
    """An engine for SQLite (WAL, `synchronous=FULL`) or PostgreSQL (psycopg 3). Connects to nothing yet."""
    url = parse(database_url)
    if url.get_backend_name() == "sqlite":
        return _open_sqlite(url)
    try:
        engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            hide_parameters=True,
            connect_args=CONNECT,
        )
    except NoSuchModuleError:
        raise SettingsError("DATABASE_URL: the PostgreSQL driver psycopg is not installed") from None
    _ask_rested(engine)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.execute(SESSION)
        connection.commit()

    @event.listens_for(engine, "handle_error", retval=True)
    def ended(context: ExceptionContext) -> BaseException | None:
        # psycopg calls this one internal: to us it is one more way in which the database was away.
        error = context.original_exception
        if getattr(error, "sqlstate", None) != _IDLE_IN_TRANSACTION:
            return None
        context.is_disconnect = True
        return OperationalError(context.statement, None, error, hide_parameters=True, connection_invalidated=True)

    return engine


def _ask_rested(engine: Engine) -> None:
    """A connection that has rested is asked whether it still lives before it is used: the server may be a new one.

    SQLAlchemy's `pool_pre_ping` asks every time, which is one more round trip for each short transaction.
    """

    @event.listens_for(engine, "checkin")
    def rests(_: Any, record: Any) -> None:
        record.info["rests_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ask(connection: Any, record: Any, _: Any) -> None:
        since = record.info.get("rests_since")  # none: it is new
        if since is None or time.monotonic() < since + _RESTED:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error:
            raise InvalidatePoolError from None


def _open_sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise SettingsError("DATABASE_URL: endpoint, worker and console share one SQLite file; name a file")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"its folder cannot be made ({error.strerror}): check DATABASE_URL and who may write there"
        raise StoreError(f"the database {url.database} cannot be used, {why}") from None
    engine = create_engine(
        url,
        hide_parameters=True,
        connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False},
        execution_options={"capi_turn": threading.Lock()},
    )
    # 16 MB between checkpoints, four times the default: a backlog that drains writes many pages again and again.
    # Nor are pages that come free written once more, with zeros, as some builds of SQLite have it: `core.store.wiping`.
    pragmas = ("synchronous=FULL", "foreign_keys=ON", "wal_autocheckpoint=4000", "secure_delete=FAST")

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        for pragma in (f"busy_timeout={_BUSY_MS}", *pragmas):
            connection.execute(f"PRAGMA {pragma}")
        _use_wal(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("capi_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _use_wal(connection: Any) -> None:
    """Whoever turns a new file to WAL first locks the others out, and they are told so at once, without the patience
    that `busy_timeout` asks for (https://www.sqlite.org/wal.html)."""
    give_up = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.02)


def is_embedded(engine: Engine) -> bool:
    """Whether this is the embedded default (SQLite), where every process polls."""
    return engine.dialect.name == "sqlite"


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes; commits at the end, rolls back on an exception."""
    with _turn(engine), engine.connect().execution_options(capi_writes=True) as connection, connection.begin():
        yield connection


@contextmanager
def _turn(engine: Engine) -> Iterator[None]:
    """SQLite lets one write at a time, and whoever finds it taken sleeps for up to a tenth of a second before he tries
    again: threads of one process wait for each other here, and are woken at once."""
    turn: threading.Lock | None = engine.get_execution_options().get("capi_turn")
    if turn is None or not turn.acquire(timeout=_BUSY_MS / 1000):  # SQLite itself says that it is locked
        yield
        return
    try:
        yield
    finally:
        turn.release()


def insist(engine: Engine, work: Callable[[Connection], T], *, tries: int = 5) -> T:
    """`work` in a transaction that is made again when it lost to another (deadlock, serialization, busy)."""
    while True:
        try:
            with writing(engine) as connection:
                return work(connection)
        except OperationalError as error:
            tries -= 1
            if tries == 0 or not _passing(error):
                raise


def _passing(error: OperationalError) -> bool:
    """Whether the same transaction may well succeed when it is made again."""
    # https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
    return getattr(error.orig, "sqlstate", None) in ("40P01", "40001") or "locked" in str(error.orig)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A consistent view that cannot block a writer; whoever reads may take his time."""
    postgres = {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}
    options: dict[str, Any] = {} if is_embedded(engine) else postgres
    with engine.connect().execution_options(**options) as connection:
        if not is_embedded(engine):
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield connection


@contextmanager
def looking(engine: Engine) -> Iterator[Connection]:
    """For looks that each stand by themselves: on PostgreSQL nothing is begun or ended around them."""
    options = {} if is_embedded(engine) else {"isolation_level": "AUTOCOMMIT"}
    with engine.connect().execution_options(**options) as connection:
        yield connection


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in pieces of at most `size`, so that no statement grows without bound."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def among(conn: Connection, column: ColumnElement[int], ids: Sequence[int]) -> ColumnElement[bool]:
    """`column IN ids`, the ids as one text: a thousand parameters cost more than finding the rows."""
    return in_list(conn.dialect.name, column, bindparam(None, as_list(conn, ids), type_=Text))


def as_list(conn: Connection, ids: Sequence[int]) -> str:
    """Ids as the one text that `in_list` takes."""
    listed = ",".join(map(str, ids))
    return f"{{{listed}}}" if conn.dialect.name == "postgresql" else f"[{listed}]"


def in_list(dialect: str, column: ColumnElement[int], listed: BindParameter[str]) -> ColumnElement[bool]:
    """`among` for a statement that is made once: the ids come with each run, by `as_list`."""
    if dialect == "postgresql":
        return column == any_(cast(listed, ARRAY(BigInteger)))
    return column.in_(select(func.json_each(listed).table_valued("value").c.value))


def upsert(conn: Connection, table: Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    """Insert a row, or set `values` on the one with this key."""
    statement = insert_into(conn, table).values(**key, **values)
    conn.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))


def insert_into(conn: Connection, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT, in this database's dialect."""
    return (postgresql if conn.dialect.name == "postgresql" else sqlite).insert(table)
