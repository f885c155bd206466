"""The console's door on real HTTP: who comes in, where to, for how long, and who does not."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import Engine, update
from starlette.types import Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from core.desk import people
from core.doors.console_answers import COOKIE
from core.doors.console_gate import Gate
from core.doors.console_login_page import local_path
from core.doors.console_server import HEADERS, Guard
from core.doors.console_sign_in import COME_AGAIN, HEALTH, IN_LINE, SignIn
from core.services import passwords
from core.services.sign_in import IDLE, LOCAL, LONGEST, WrongPassword
from core.settings import load
from core.store import lockouts, sessions
from core.store.database import writing
from core.store.schema import capi_session
from tests.inbound.serving import serving
from tests.processes import Process, environment, eventually, free_port, running

PASSWORD = "correct horse battery"
MINUTE = timedelta(minutes=1)
FORGED = {"X-Console-Operator": "ada", "X-Console-Role": "admin", "X-Forwarded-User": "ada", "Remote-User": "ada"}


async def _inside(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for Streamlit: says so, and sends back what a WebSocket says."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})
        return
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


@dataclass
class Door:
    """A served door, its clock, and a browser's manners."""

    url: str
    engine: Engine
    gate: Gate
    at: list[datetime] = field(default_factory=list)

    def get(self, path: str, cookie: str | None = None, **headers: str) -> requests.Response:
        return self._send("GET", path, cookie, headers)

    def post(self, path: str, cookie: str | None = None, form: Any = None, **headers: str) -> requests.Response:
        return self._send("POST", path, cookie, {"Origin": self.url} | headers, data=form)

    def sign_in(self, name: str = "ada", password: str = PASSWORD, to: str = "/", **headers: str) -> requests.Response:
        return self.post("/login", None, {"name": name, "password": password, "next": to}, **headers)

    def cookie(self, name: str = "ada") -> str:
        return str(self.sign_in(name).cookies[COOKIE])

    def socket(self, cookie: str | None = None, **headers: str) -> ClientConnection:
        given = {"Cookie": f"{COOKIE}={cookie}"} if cookie else {}
        address = self.url.replace("http", "ws") + "/_stcore/stream"
        return connect(address, additional_headers={"Origin": self.url} | given | headers, proxy=None)

    def later(self, length: timedelta) -> None:
        self.at[0] += length

    def _send(self, method: str, path: str, cookie: str | None, headers: dict[str, str], **more: Any) -> Any:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        cookies = {COOKIE: cookie} if cookie else {}
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method, self.url + path, headers=headers, cookies=cookies, allow_redirects=False, timeout=10, **more
            )


@contextlib.contextmanager
def _door(engine: Engine, now: datetime, **settings: str) -> Iterator[Door]:
    at = [now]
    known = load({"DATABASE_URL": engine.url.render_as_string(hide_password=False), **settings})
    gate = Gate(lambda: known, now=lambda: at[0])
    with serving(Guard(SignIn(_inside, gate, check_every=0.1), lambda: known)) as url:
        yield Door(url, engine, gate, at)


@pytest.fixture
def staff(sqlite_engine: Engine, now: datetime, quick_passwords: None) -> Engine:
    """Ada is admin, Bob support."""
    for name, role in (("ada", "admin"), ("bob", "support")):
        people.add_operator(sqlite_engine, name, role=role, password=PASSWORD, by=LOCAL, now=now)
    return sqlite_engine


@pytest.fixture
def door(staff: Engine, now: datetime) -> Iterator[Door]:
    with _door(staff, now) as door:
        yield door


def _rerun(door: Door, *, by_itself: bool = False, page: str = "/tokens?q=tea") -> bytes:
    message: Any = BackMsg()
    message.rerun_script.is_auto_rerun = by_itself
    message.rerun_script.context_info.url = door.url + page
    return bytes(message.SerializeToString())


def _refused(door: Door, cookie: str | None = None, **headers: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        door.socket(cookie, **headers)
    return refused.value.response.status_code


def _led_away(line: ClientConnection) -> str:
    """Where an ended session's page is led before its WebSocket is closed."""
    message: Any = ForwardMsg.FromString(line.recv(timeout=5))
    with pytest.raises(ConnectionClosed):
        line.recv(timeout=5)
    return str(message.auth_redirect.url)


def test_a_stranger_is_led_to_the_form_and_back_to_the_page(door: Door) -> None:
    sent = door.get("/tokens?health=EXPIRED&q=a%26b")
    assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=/tokens%3Fhealth%3DEXPIRED%26q%3Da%2526b")
    shown = door.get(sent.headers["location"])
    assert shown.status_code == 200
    to = re.search(r'name="next" value="([^"]*)"', shown.text)
    assert to is not None
    back = door.sign_in(to=to[1].replace("&amp;", "&"))
    assert (back.status_code, back.headers["location"]) == (303, "/tokens?health=EXPIRED&q=a%26b")
    assert door.get("/tokens", back.cookies[COOKIE]).text == "inside"
    assert door.get("/login?next=/jobs", back.cookies[COOKIE]).headers["location"] == "/jobs"


@pytest.mark.parametrize(
    "path",
    ["/_stcore/host-config", "/_stcore/upload_file/a/b", "/static/js/index.js", "/media/x.csv", "/component/x/y"],
)
def test_what_pages_are_made_of_is_refused_to_a_stranger(door: Door, path: str) -> None:
    assert door.get(path).status_code == 403
    assert door.get(path, door.cookie()).text == "inside"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_is_sent_in_by_a_stranger(door: Door, method: str) -> None:
    assert requests.request(method, f"{door.url}/_stcore/upload_file/a/b", timeout=5).status_code == 403
    assert requests.request(method, f"{door.url}/tokens", timeout=5).status_code == 403


def test_health_needs_no_sign_in_and_only_to_be_read(door: Door) -> None:
    assert door.get(HEALTH).text == "inside"
    assert door.post(HEALTH).status_code == 403
    assert door.get(HEALTH + "/").status_code == 403


def test_the_form_is_plain_safe_and_can_be_read_by_machines(door: Door) -> None:
    shown = door.get("/login?next=%22%3E%3Cscript%3E")
    assert {name: shown.headers[name] for name in HEADERS} == HEADERS
    assert shown.headers["cache-control"] == "no-store"
    assert "<script" not in shown.text
    for needed in ('<label for="name">', '<label for="password">', 'autocomplete="username"', 'lang="en"'):
        assert needed in shown.text
    assert 'autocomplete="current-password"' in shown.text
    wrong = door.sign_in('"><b>ada', "no")
    assert wrong.status_code == 401
    assert 'role="alert"' in wrong.text
    assert "<b>" not in wrong.text
    assert "prefers-color-scheme:dark" in wrong.text


def test_the_cookie_is_for_our_server_alone(door: Door) -> None:
    cookie = door.sign_in().headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie
    assert "Domain" not in cookie


def test_behind_tls_the_cookie_is_secure_and_its_name_is_served(staff: Engine, now: datetime) -> None:
    with _door(staff, now, CAPI_CONSOLE_URL="https://console.example.com") as door:
        for origin in ("https://console.example.com", "http://console.example.com"):
            sent = door.sign_in(Host="console.example.com", Origin=origin)
            assert sent.status_code == 303
            assert "Secure" in sent.headers["set-cookie"]
            assert sent.headers["set-cookie"].startswith(f"__Host-{COOKIE}=")
        assert door.sign_in(Host="127.0.0.1:8501", Origin="https://console.example.com").status_code == 303
        assert door.get("/", Host="other.example.com").status_code == 421


def test_behind_tls_only_a_cookie_that_no_neighbour_can_plant_is_believed(staff: Engine, now: datetime) -> None:
    public = {"Host": "console.example.com"}
    with _door(staff, now, CAPI_CONSOLE_URL="https://console.example.com") as door:
        sent = door.sign_in(**public, Origin="https://console.example.com")
        cookie = str(sent.cookies[f"__Host-{COOKIE}"])
        assert door.get("/tokens", **public, Cookie=f"__Host-{COOKIE}={cookie}").text == "inside"
        assert door.get("/tokens", **public, Cookie=f"{COOKIE}={cookie}").headers["location"] == "/login?next=/tokens"


@pytest.mark.parametrize("origin", ["http://[", "null", "http://", "://", "http://evil.example@127.0.0.1:8501"])
def test_an_odd_origin_is_another_page(door: Door, origin: str) -> None:
    assert door.sign_in(Origin=origin).status_code == 403


@pytest.mark.parametrize(
    ("to", "leads"),
    [
        ("/tokens?q=%2F%2Fx#part", "/tokens?q=%2F%2Fx#part"),
        ("/", "/"),
        ("", "/"),
        ("tokens", "/"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("///evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("\\\\evil.example/", "/"),
        ("/x\\..\\y", "/"),
        ("/\t/evil.example", "/"),
        ("/\n/evil.example", "/"),
        (" /tokens", "/"),
        ("javascript:alert(1)", "/"),
        ("/login?next=/login", "/"),
        ("/logout", "/"),
        ("/" + "x" * 2_000, "/"),
    ],
)
def test_signing_in_leads_nowhere_but_here(door: Door, to: str, leads: str) -> None:
    assert local_path(to) == leads
    assert door.sign_in(to=to).headers["location"] == leads


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_a_form_of_another_page_signs_nobody_in_or_out(door: Door, headers: dict[str, str]) -> None:
    refused = door.sign_in(**headers)
    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers
    cookie = door.cookie()
    assert door.post("/logout", cookie, **headers).status_code == 403
    assert door.get("/", cookie).text == "inside"
    assert _refused(door, cookie, **headers) == 403


def test_opening_a_link_signs_nobody_out(door: Door) -> None:
    cookie = door.cookie()
    assert door.get("/logout", cookie).headers["location"] == "/"
    assert door.get("/", cookie).text == "inside"


def test_signing_out_ends_the_session_and_takes_the_cookie_back(door: Door) -> None:
    cookie, other = door.cookie(), door.cookie("bob")
    out = door.post("/logout", cookie)
    assert (out.status_code, out.headers["location"]) == (303, "/login")
    assert f'{COOKIE}=""' in out.headers["set-cookie"]
    assert door.get("/", cookie).status_code == 303
    assert _refused(door, cookie) == 403
    assert door.get("/", other).text == "inside"
    assert door.post("/logout").status_code == 303


def test_a_strangers_websocket_is_refused_whatever_it_claims(door: Door) -> None:
    cookie = door.cookie()
    assert _refused(door) == 403
    assert _refused(door, None, **FORGED) == 403
    assert _refused(door, cookie[:-1] + ("A" if cookie[-1] != "A" else "B")) == 403
    assert _refused(door, cookie + "A") == 403
    with door.socket(cookie) as line:
        line.send(_rerun(door))
        assert line.recv(timeout=5) == _rerun(door)


def test_an_open_websocket_ends_with_its_session(door: Door) -> None:
    for end in (
        lambda cookie: door.post("/logout", cookie),
        lambda _: people.set_operator_password(door.engine, "bob", password=PASSWORD + "!", by=LOCAL, now=door.at[0]),
        lambda _: people.disable_operator(door.engine, "bob", by=LOCAL, now=door.at[0]),
    ):
        people.set_operator_password(door.engine, "bob", password=PASSWORD, by=LOCAL, now=door.at[0])
        cookie = door.cookie("bob")
        with door.socket(cookie) as line:
            line.send(_rerun(door))
            line.recv(timeout=5)
            end(cookie)
            assert _led_away(line) == "/login?next=/tokens%3Fq%3Dtea"
        assert _refused(door, cookie) == 403


def test_a_page_that_refreshes_by_itself_is_idle_and_one_in_use_is_not(door: Door) -> None:
    with door.socket(door.cookie()) as line:
        for _ in range(4):
            door.later(IDLE - MINUTE)
            line.send(_rerun(door))
            assert line.recv(timeout=5) == _rerun(door)
        door.later(IDLE - MINUTE)
        line.send(_rerun(door, by_itself=True))
        assert line.recv(timeout=5) == _rerun(door, by_itself=True)
        door.later(2 * MINUTE)
        line.send(_rerun(door))
        assert _led_away(line) == "/login?next=/tokens%3Fq%3Dtea"


def test_what_is_no_message_of_a_page_counts_for_nothing(door: Door) -> None:
    with door.socket(door.cookie()) as line:
        door.later(IDLE - MINUTE)
        for raw in (b"\xff\xff", b"", b"\x00" * 50):
            line.send(raw)
            assert line.recv(timeout=5) == raw
        door.later(2 * MINUTE)
        assert _led_away(line) == "/login"


def test_twelve_hours_are_the_end_even_in_use(door: Door) -> None:
    cookie = door.cookie()
    with door.socket(cookie) as line:
        begun = door.at[0]
        while door.at[0] + IDLE - MINUTE < begun + LONGEST:
            door.later(IDLE - MINUTE)
            line.send(_rerun(door))
            assert line.recv(timeout=5) == _rerun(door)
        door.at[0] = begun + LONGEST
        assert _led_away(line).startswith("/login")
    assert door.get("/", cookie).status_code == 303


def test_pages_are_activity_and_their_parts_are_not(door: Door) -> None:
    cookie = door.cookie()
    door.later(IDLE - MINUTE)
    assert door.get("/tokens", cookie).text == "inside"
    door.later(IDLE - MINUTE)
    assert door.get("/_stcore/host-config", cookie).text == "inside"
    door.later(2 * MINUTE)
    assert door.get("/tokens", cookie).status_code == 303


def test_five_failures_lock_out_and_say_the_same_of_a_name_that_is_nobodys(staff: Engine, now: datetime) -> None:
    with _door(staff, now, CAPI_TRUSTED_PROXIES="127.0.0.1") as door:
        for number, name in enumerate(("ada", "nobody")):
            said = [door.sign_in(name, "wrong", X_Forwarded_For=f"192.0.2.{number}") for _ in range(lockouts.FREE + 1)]
            assert [one.status_code for one in said] == [401] * lockouts.FREE + [429]
            assert said[-1].headers["retry-after"] == "30"
            assert "The next one is taken in 1 minute." in said[-1].text
            texts = [one.text.replace(f'value="{name}"', "") for one in said]
            assert "Name or password is wrong." in texts[0]
            assert len(set(texts)) == 2
        assert door.sign_in(X_Forwarded_For="192.0.2.9").status_code == 429
        assert door.sign_in("bob", X_Forwarded_For="192.0.2.9").status_code == 303
        door.later(timedelta(seconds=30))
        assert door.sign_in(X_Forwarded_For="192.0.2.9").status_code == 303


def test_a_proxy_that_is_not_named_is_not_believed(door: Door) -> None:
    for number in range(lockouts.FREE):
        door.sign_in(f"guess{number}", "wrong", X_Forwarded_For=f"192.0.2.{number}")
    assert door.sign_in("bob", X_Forwarded_For="192.0.2.99").status_code == 429


def test_a_flood_of_tries_holds_up_nobody_who_is_in(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie, over, beyond = door.cookie(), threading.Event(), 10

    def slow(*_: object, **__: object) -> str:
        over.wait(20)
        raise WrongPassword

    monkeypatch.setattr(door.gate, "sign_in", slow)
    many = passwords.AT_ONCE + IN_LINE + beyond
    with ThreadPoolExecutor(many) as pool:
        tries = [pool.submit(door.sign_in, "ada", "wrong") for _ in range(many)]
        try:
            sent_away = [one.result() for one in itertools.islice(as_completed(tries, timeout=9), beyond)]
            assert door.get("/tokens", cookie).text == "inside"
            assert door.get(HEALTH).text == "inside"
            assert door.get("/login").status_code == 200
        finally:
            over.set()
    assert {(one.status_code, one.headers["retry-after"]) for one in sent_away} == {(503, str(COME_AGAIN))}
    assert "Too many people sign in just now" in sent_away[0].text
    assert sorted(one.result().status_code for one in tries) == [401] * (many - beyond) + [503] * beyond


@pytest.mark.parametrize("body", [b"\xff\xfe", b"&".join(b"a=b" for _ in range(50)), b"x" * 9_000])
def test_what_is_no_form_is_refused(door: Door, body: bytes) -> None:
    assert door.post("/login", None, body).status_code == 400


def test_without_operators_this_machine_comes_in_and_nobody_through_a_proxy(
    sqlite_engine: Engine, now: datetime, quick_passwords: None
) -> None:
    with _door(sqlite_engine, now, CAPI_CONSOLE_URL="https://console.example.com") as door:
        assert door.get("/tokens").text == "inside"
        assert door.get("/login").headers["location"] == "/"
        away = ({"X_Forwarded_For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}, {"Host": "console.example.com"})
        for headers in away:
            refused = door.get("/tokens", **headers)
            assert refused.status_code == 403
            assert "capi-console operator add" in refused.text
            assert door.sign_in(**headers).status_code == 403
        assert _refused(door, None, **{"X-Forwarded-For": "192.0.2.1"}) == 403
        with door.socket() as line:
            line.send(_rerun(door))
            line.recv(timeout=5)
            people.add_operator(sqlite_engine, "ada", role="admin", password=PASSWORD, by=LOCAL, now=now)
            assert _led_away(line).startswith("/login")
        assert door.get("/tokens").status_code == 303


def test_while_the_database_is_away_only_this_machine_reads_why(tmp_path: Path, now: datetime) -> None:
    known = load({"DATABASE_URL": "postgresql://nobody:hush@127.0.0.1:9/none", "CAPI_CONSOLE_URL": "https://c.example"})
    with serving(Guard(SignIn(_inside, Gate(lambda: known)), lambda: known)) as url:
        door = Door(url, None, Gate(lambda: known))  # type: ignore[arg-type]
        assert door.get("/tokens").text == "inside"
        refused = door.get("/tokens", "A" * 43, Host="c.example")
        assert refused.status_code == 503
        assert "hush" not in refused.text
        assert door.sign_in().status_code == 503


def test_what_keeps_everybody_out_is_said_once_and_not_for_each_file_of_a_page(
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = load({"DATABASE_URL": "mysql://nobody:hush@127.0.0.1/none"})
    with serving(Guard(SignIn(_inside, Gate(lambda: known)), lambda: known)) as url:
        door = Door(url, None, Gate(lambda: known))  # type: ignore[arg-type]
        assert {door.get(f"/static/{n}.js").status_code for n in range(60)} == {200}
    (said,) = [one for one in caplog.records if one.message.startswith("nobody can be let in")]
    assert "DATABASE_URL names 'mysql', which is not served" in said.__dict__["words"]
    assert "hush" not in str(said.__dict__)


def test_a_console_in_earnest(sqlite_url: str, sqlite_engine: Engine, tmp_path: Path) -> None:
    """The real program: strangers, forgers and ended sessions are refused, and no log names a password or a cookie."""
    real, engine = datetime.now(UTC), sqlite_engine
    for name in ("ada", "bob"):
        people.add_operator(engine, name, role="admin", password=PASSWORD, by=LOCAL, now=real)
    public = "https://console.example.com"
    env = environment(
        sqlite_url,
        "http://127.0.0.1:9",
        CAPI_CONSOLE_PORT=str(free_port()),
        CAPI_LOG_LEVEL="DEBUG",
        CAPI_CONSOLE_URL=public,
    )
    with running("console", env=env, log=tmp_path / "console.log") as console:
        door = Door(f"http://127.0.0.1:{env['CAPI_CONSOLE_PORT']}", engine, Gate())
        eventually(lambda: _healthy(door, console), within=40, saying=console.log.read_text)
        cookie, other = door.cookie(), door.cookie("bob")
        assert door.sign_in(password="guessed" + PASSWORD).status_code == 401
        assert door.get("/tokens").headers["location"] == "/login?next=/tokens"
        assert "<title>" in door.get("/tokens", cookie).text
        assert door.get("/_stcore/host-config").status_code == 403
        for stranger in (None, other[::-1], cookie[:-1]):
            assert _refused(door, stranger, **FORGED) == 403
        with door.socket(cookie) as line:
            line.send(_rerun(door))
            assert ForwardMsg.FromString(line.recv(timeout=20)).WhichOneof("type")
            people.disable_operator(engine, "ada", by=LOCAL, now=real)
            assert ForwardMsg.FromString(_heard_last(line)).auth_redirect.url.startswith("/login")
        assert _through_a_proxy(door, other, Origin=public)
        assert not _through_a_proxy(door, other, Origin="https://evil.example")
        assert not _through_a_proxy(door, None, Origin=public)
        with writing(engine) as conn:
            conn.execute(update(capi_session).values(seen_at=real - IDLE))
        assert _refused(door, cookie) == _refused(door, other) == 403
        console.stop()
    said = console.log.read_text()
    assert "somebody could not sign in" in said
    for secret in (PASSWORD, cookie, other, cookie[:12]):
        assert secret not in said


def _through_a_proxy(door: Door, cookie: str | None, **headers: str) -> bool:
    """Whether Streamlit itself answers a browser elsewhere, by the console's public name."""
    sock = socket.create_connection(("127.0.0.1", int(door.url.rpartition(":")[2])))
    kept = {"Cookie": f"__Host-{COOKIE}={cookie}"} if cookie else {}
    given = headers | {"X-Forwarded-For": "192.0.2.1"} | kept
    try:
        with connect("ws://console.example.com/_stcore/stream", sock=sock, additional_headers=given) as line:
            line.send(_rerun(door))
            return bool(line.recv(timeout=20))
    except InvalidStatus:
        return False


def _heard_last(line: ClientConnection) -> bytes:
    """What was said before the line was closed."""
    heard = [b""]
    with contextlib.suppress(ConnectionClosed):
        while True:
            heard.append(line.recv(timeout=20))  # type: ignore[arg-type]
    return heard[-1]


def _healthy(door: Door, console: Process) -> bool:
    assert console.popen.poll() is None
    try:
        return door.get(HEALTH).ok
    except requests.ConnectionError:
        return False


def test_a_session_is_swept_once_it_can_live_no_longer(staff: Engine, now: datetime) -> None:
    with writing(staff) as conn:
        sessions.forget(conn, now)
    with _door(staff, now) as door:
        door.cookie()
        door.later(LONGEST + MINUTE)
        door.cookie()
        with writing(staff) as conn:
            assert len(conn.execute(capi_session.select()).all()) == 1
