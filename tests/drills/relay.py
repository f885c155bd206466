"""A wire to a database that can fall silent: bytes stay where they are, no connection is closed."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from sqlalchemy.engine import make_url


class Relay:
    """Listens on loopback and passes everything on to the server of `database_url`, until `silent` is set."""

    def __init__(self, database_url: str) -> None:
        url = make_url(database_url)
        host, port = str(url.query.get("host") or url.host), url.port or 5432
        self._target: str | tuple[str, int] = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.passes = threading.Event()
        self.passes.set()
        here = url.difference_update_query(["host", "port"]).set(host="127.0.0.1", port=self.port)
        self.url = here.render_as_string(hide_password=False)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
                far.connect(self._target)
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def close(self) -> None:
        self.passes.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self._open):
            one.close()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                self.passes.wait()
                other.sendall(data)
        with contextlib.suppress(OSError):
            self.passes.wait()
            other.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def relay(database_url: str) -> Iterator[Relay]:
    made = Relay(database_url)
    threading.Thread(target=made.serve, daemon=True, name="relay").start()
    try:
        yield made
    finally:
        made.close()
