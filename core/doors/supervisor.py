"""`up`: endpoint, worker, console (and the sandbox) as children of one process, looked after and stopped together."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import requests
from sqlalchemy import Engine

from core import clock, logs
from core.desk import queries
from core.doors.children import PATIENCE, Child, Supervisor
from core.doors.cli_shell import complain, say
from core.errors import SettingsError
from core.settings import Settings
from core.store import database, migrate, rekey
from core.store.database import reading

SANDBOX_DATABASE = Path("data/sandbox.db")
# The sandbox's own credentials: good for the stand-in only.
_SANDBOX_APP = {
    "FACEBOOK_APP_ID": "1234567890",
    "FACEBOOK_APP_SECRET": "sandbox-app-secret",
    "SHOPIFY_API_SECRET": "sandbox-shopify-secret",
}


def sandbox_environment() -> dict[str, str]:
    """This process's environment with everything that could touch the real world replaced by the sandbox's."""
    port = os.environ.get("CAPI_SANDBOX_PORT") or str(Settings.model_fields["sandbox_port"].default)
    own = {
        "DATABASE_URL": f"sqlite:///{SANDBOX_DATABASE.resolve()}",
        "CAPI_GRAPH_URL": f"http://127.0.0.1:{port}",
        "CAPI_DIALOG_URL": f"http://127.0.0.1:{port}",
        "CAPI_SANDBOX_PORT": port,
        "CAPI_PUBLIC_URL": "",
        "CAPI_ALLOW_ANY_GRAPH_URL": "false",
        "CAPI_ENCRYPTION_KEYS": "",
        "CAPI_ALERT_URLS": "",
        "CAPI_HEARTBEAT_URL": "",
    }
    return {**os.environ, **_SANDBOX_APP, **own}


def up(settings: Settings, *, sandbox: bool) -> int:
    """Run everything until Ctrl-C or SIGTERM; the exit code. SettingsError for a port that is taken."""
    _check_ports(settings, sandbox=sandbox)
    logs.setup("WARNING")
    if sandbox:
        _remove_scratch()
    engine = database.open_engine(settings.database_url, pool_size=2)
    migrate.migrate(engine)
    rekey.use(engine, settings.encryption_keys)
    environment = sandbox_environment() if sandbox else dict(os.environ)
    supervisor = Supervisor(environment)
    with _signals(supervisor):
        try:
            return _run(supervisor, settings, engine, sandbox=sandbox)
        finally:
            say("stopping …")
            supervisor.stop()
            engine.dispose()


def _run(supervisor: Supervisor, settings: Settings, engine: Engine, *, sandbox: bool) -> int:
    for child in _plan(settings, engine, sandbox=sandbox):
        if not supervisor.start(child):
            return _gave_up(supervisor, child)
    say(_welcome(settings, sandbox=sandbox))
    return supervisor.watch()


def _gave_up(supervisor: Supervisor, child: Child) -> int:
    if supervisor.stopping:
        return 0
    code = child.process.poll() if child.process else None
    if child.reader is not None:
        child.reader.join(1 if code is not None else 0)
    what = f"ended with exit code {code}" if code is not None else f"did not answer within {PATIENCE:.0f} s"
    complain(f"{child.title} {what}: {child.last_line.removeprefix('capi-console: ') or 'it said nothing'}")
    return code or 1


def _plan(settings: Settings, engine: Engine, *, sandbox: bool) -> list[Child]:
    def door(title: str, answers: Callable[[Child], bool]) -> Child:
        return Child(title, ("-m", "core.doors.cli", title), answers)

    own = [
        door("endpoint", lambda _: _says_ok(f"{settings.endpoint_url}/healthz")),
        door("worker", lambda child: _beats(engine, child)),
        door("console", lambda _: _says_ok(f"{settings.console_url}/_stcore/health")),
    ]
    if not sandbox:
        return own
    stand_in = door("sandbox", lambda _: _says_ok(f"{settings.sandbox_url}/_sandbox/stats"))
    demo = Child("demo", ("-m", "core.sandbox.demo"), lambda _: True)
    return [stand_in, demo, *own]


def _says_ok(url: str) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def _beats(engine: Engine, child: Child) -> bool:
    """A worker answers by its heartbeat, which carries its process id."""
    with reading(engine) as conn:
        found = queries.workers(conn, now=clock.now())
    return any(one.alive and f":{child.process.pid}:" in one.worker for one in found if child.process)


def free_port(name: str, host: str, port: int) -> None:
    """SettingsError that names the variable when nobody can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            words = error.strerror or "the address cannot be used"
            raise SettingsError(
                f"{name}: cannot listen on {host} port {port} ({words}): put a free port there"
            ) from None


def _check_ports(settings: Settings, *, sandbox: bool) -> None:
    ports = [
        ("CAPI_ENDPOINT_PORT", settings.endpoint_host, settings.endpoint_port),
        ("CAPI_CONSOLE_PORT", settings.console_host, settings.console_port),
    ]
    if sandbox:
        ports.append(("CAPI_SANDBOX_PORT", "127.0.0.1", settings.sandbox_port))
    seen: dict[int, str] = {}
    for name, host, port in ports:
        if port in seen:
            raise SettingsError(f"{name}: port {port} is {seen[port]}'s already: put another one there")
        seen[port] = name
        free_port(name, host, port)


def _remove_scratch() -> None:
    for ending in ("", "-wal", "-shm", ".key"):
        Path(f"{SANDBOX_DATABASE}{ending}").unlink(missing_ok=True)


@contextlib.contextmanager
def _signals(supervisor: Supervisor) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal all mean: stop everything."""

    def told(_number: int, _frame: FrameType | None) -> None:
        supervisor.stopping = True

    names = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {name: signal.signal(name, told) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _welcome(settings: Settings, *, sandbox: bool) -> str:
    rows = [
        ("console", settings.console_url, "overview, token health, refresh history, failed events"),
        ("endpoint", settings.public_url or settings.endpoint_url, "POST /api/track, /webhooks/…, /api/refresh"),
    ]
    if sandbox:
        rows.append(("sandbox", settings.sandbox_url, "plays Meta; the console's Sandbox page shows what it heard"))
    lines = ["", *(f"  {title:<9} {url:<24} {what}" for title, url, what in rows), ""]
    lines += [f"  {line}" for line in (_TRY_SANDBOX if sandbox else _TRY)]
    return "\n".join([*lines, "", "  Ctrl-C stops everything.", ""])


_TRY = (
    "Try: `capi-console app add` and `capi-console token set`, then let a shop report to the endpoint;",
    "`capi-console tokens` and `capi-console events` show the same as the console.",
)
_TRY_SANDBOX = (
    "Some 60 shops report by themselves. Within a minute one token passes its end and is mended, and its event",
    "goes out after all; another one Meta refuses for good: its events wait, and it is listed as Needs reconnect.",
    "Try in the console: Token health → Refresh all due; Failed events → what is dead, Meta's words, retry one.",
    f"At the shell, beside it: DATABASE_URL=sqlite:///{SANDBOX_DATABASE} .venv/bin/capi-console tokens",
)
