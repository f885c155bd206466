from __future__ import annotations

import errno
import os
import socket
import sys

import pytest

from core.doors.endpoint import listen
from core.drills.processes import free_port


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port is only free at the moment it is asked for")
def test_a_port_that_was_given_out_is_nobody_elses_and_a_server_can_listen_there() -> None:
    port = free_port()
    with socket.socket() as another, pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
        another.bind(("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    for host in ("127.0.0.1", "0.0.0.0"):
        with listen(host, port), socket.create_connection(("127.0.0.1", port)):
            pass


def test_no_port_is_given_out_twice() -> None:
    given = [free_port() for _ in range(200)]
    with socket.socket() as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        asking.bind(("127.0.0.1", 0))
        given.append(asking.getsockname()[1])
    assert len(set(given)) == len(given)
