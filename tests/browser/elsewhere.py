"""Another site, in a browser for which `evil.example` leads to this very machine: its pages are what tests write."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EVIL = "evil.example"
LEADS_HERE = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"


class Elsewhere:
    """A server of its own. To a console at `localhost` it is another site as `evil.example`, and another origin of the
    same site as `localhost`: SameSite holds back no cookie there."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = site.pages.get(self.path.split("?")[0], "<h1>nothing here</h1>").encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        port = self.server.server_port
        self.origins = {"cross-site": f"http://{EVIL}:{port}", "same-site": f"http://localhost:{port}"}


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    site = Elsewhere()
    thread = threading.Thread(target=site.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join(5)
