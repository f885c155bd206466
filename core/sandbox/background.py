"""A sandbox in a thread of this process, on real HTTP: for tests and the demo."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from core.sandbox.app import create_app
from core.sandbox.client import Sandbox
from core.sandbox.state import State


@contextmanager
def running(state: State | None = None, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[Sandbox]:
    """Serves `state` while the block runs and gives the client; port 0 takes a free one."""
    listener = socket.create_server((host, port))
    config = uvicorn.Config(
        create_app(state or State()),
        log_level="warning",
        access_log=False,
        date_header=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True, name="sandbox")
    thread.start()
    client = Sandbox(f"http://{host}:{listener.getsockname()[1]}")
    try:
        # The socket listens already: the first call waits in its backlog until the server is up.
        client.stats()
        yield client
    finally:
        client.close()
        server.should_exit = True
        thread.join(timeout=5)
        listener.close()
