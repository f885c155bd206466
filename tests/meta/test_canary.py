"""A marked token and a marked secret go through every call and every way to fail, and turn up nowhere."""

import http.server
import logging
import threading
import traceback

import pytest

from core.meta.graph import Graph, GraphError
from core.secret import Secret

TOKEN, APP_SECRET = "CANARYtoken0123456789", "CANARYsecret9876543210"

ECHO = b'{"error":{"message":"bad token %s with %s","code":190,"error_subcode":463}}' % (
    TOKEN.encode(),
    APP_SECRET.encode(),
)
CALLS = {
    "send": lambda graph, token: graph.send("1", [b"{}"], token, ours=True),
    "exchange": lambda graph, token: graph.exchange(token),
    "debug_token": lambda graph, token: graph.debug_token(token),
    "probe_pixel": lambda graph, token: graph.probe_pixel("1", token, ours=True),
}


class Echo(http.server.BaseHTTPRequestHandler):
    """Quotes the token back, as a JSON refusal, a web page, a broken answer or nothing at all."""

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        mode = self.server.mode
        if mode == "drop":
            self.connection.close()
            return
        body = ECHO if mode in ("refuse", "cut") else b"<html>" + TOKEN.encode() + b"</html>"
        self.send_response(400 if mode == "refuse" else 200)
        self.send_header("Content-Length", str(len(body) * (2 if mode == "cut" else 1)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = mode == "cut"

    do_GET = do_POST = answer

    def log_message(self, *arguments):
        assert arguments


@pytest.fixture(scope="module")
def echo():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def log_text(caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="urllib3")
    caplog.set_level(logging.DEBUG, logger="requests")
    return lambda: "\n".join(
        [caplog.text] + [f"{record.msg} {record.args} {vars(record)}" for record in caplog.records]
    )


def everything(error):
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    plain = traceback.format_exception(error)
    held = [str(error), repr(error), repr(vars(error)), repr(error.args), *told.format(), *plain]
    assert error.__cause__ is None
    assert error.__context__ is None
    return "\n".join(held)


@pytest.mark.parametrize("mode", ["refuse", "page", "cut", "drop", "nobody"])
@pytest.mark.parametrize("call", CALLS)
def test_neither_is_found_in_exceptions_or_debug_lines(echo, log_text, mode, call):
    echo.mode = mode
    port = 9 if mode == "nobody" else echo.server_address[1]
    graph = Graph(
        base_url=f"http://127.0.0.1:{port}",
        version="v24.0",
        app_id="123",
        app_secret=Secret(APP_SECRET),
        read_timeout=2.0,
    )
    with pytest.raises(GraphError) as caught:
        CALLS[call](graph, Secret(TOKEN))
    graph.close()
    text = everything(caught.value) + log_text()
    assert "CANARY" not in text
    assert Secret(APP_SECRET).sign(TOKEN.encode()).hex() not in text
    assert "urllib3.connectionpool" in text
