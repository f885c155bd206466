"""From where the console may be reached: its host names, its origins, and whether that is this machine alone."""

from __future__ import annotations

from urllib.parse import urlsplit

from sqlalchemy import Engine
from starlette.types import Scope

from core import hosts
from core.errors import SettingsError
from core.settings import Settings, load
from core.store import operators
from core.store.database import reading

LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
_EVERYWHERE = ("0.0.0.0", "::", "[::]")


def found() -> Settings | None:
    """This process's settings; None when one is wrong: then only this machine is answered, and the page says why."""
    try:
        return load()
    except SettingsError:
        return None


def names(settings: Settings | None) -> frozenset[str]:
    """The host names, as a Host header has them without its port, under which the console answers."""
    if settings is None:
        return LOCAL_NAMES
    own = {public_host(settings)} if settings.console_public_url else set()
    bound = settings.console_host
    if not hosts.is_loopback(bound) and bound not in _EVERYWHERE:
        own.add(hosts.shown(bound))
    return LOCAL_NAMES | own


def host_name(scope: Scope) -> str:
    """The Host header without its port, in small letters, an IPv6 address in brackets."""
    return plain_name(next((value for key, value in scope["headers"] if key == b"host"), b"").decode("latin-1"))


def plain_name(header: str) -> str:
    host = header.lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def public_host(settings: Settings) -> str:
    host = urlsplit(settings.console_public_url or "").hostname or ""
    return f"[{host}]" if ":" in host else host


def is_shared(settings: Settings) -> bool:
    """Whether others than this machine may reach it."""
    public = settings.console_public_url
    away = public is not None and not hosts.is_loopback(public_host(settings))
    return away or not hosts.is_loopback(settings.console_host)


def check(settings: Settings, engine: Engine) -> None:
    """SettingsError when others may reach the console while nobody could sign in, or under a name it does not know."""
    if not is_shared(settings):
        return
    if settings.console_host in _EVERYWHERE and settings.console_public_url is None:
        raise SettingsError(
            f"CAPI_CONSOLE_HOST is {settings.console_host} and CAPI_CONSOLE_URL is not set: "
            "put there where people reach the console, such as https://console.example.com"
        )
    with reading(engine) as conn:
        if operators.any_exist(conn):
            return
    which = "CAPI_CONSOLE_HOST" if not hosts.is_loopback(settings.console_host) else "CAPI_CONSOLE_URL"
    raise SettingsError(
        f"{which} lets others reach the console, and nobody could sign in: "
        "make the first operator with `capi-console operator add NAME --role admin`"
    )
