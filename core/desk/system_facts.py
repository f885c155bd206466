"""What this installation is made of: every setting without its secret, versions, the database's revision."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from core import __version__
from core import settings as house
from core.secret import Secret
from core.settings import Settings
from core.store import database, migrate

_LIBRARIES = ("streamlit", "sqlalchemy", "pandas", "starlette", "pgqueuer")


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting: its value as it may be shown, and where it comes from (environment, .env or default)."""

    name: str
    value: str
    source: str
    words: str


def setting_rows(settings: Settings) -> list[SettingRow]:
    """Every setting in the order in which README lists them; a secret is a fingerprint."""
    origin = house.sources()
    return [
        SettingRow(name, _shown(settings, field), origin[name], str(Settings.model_fields[field].description))
        for name, field in house.names().items()
    ]


def _shown(settings: Settings, field: str) -> str:
    value = getattr(settings, field)
    if field == "database_url":
        database.parse(value)
        return database.shown(make_url(value))
    if field == "heartbeat_url" and value:
        return f"set ({urlsplit(value).hostname})"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if value is None:
        return ""
    return f"set ({value.fingerprint})" if isinstance(value, Secret) else str(value)


def versions(conn: Connection) -> dict[str, str]:
    """What runs here, by name: this program, Python, the database and the libraries that matter most."""
    asked = "sqlite_version()" if conn.dialect.name == "sqlite" else "current_setting('server_version')"
    own = {"capi-console": __version__, "Python": platform.python_version()}
    own[conn.dialect.name] = str(conn.scalar(text(f"SELECT {asked}")))
    return own | {name: version(name) for name in _LIBRARIES}


def revision(conn: Connection) -> tuple[str | None, str]:
    """(revision of this database, revision this program expects)."""
    return migrate.current(conn), migrate.newest()
