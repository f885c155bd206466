"""How this installation is set up, in words: what is readable to whom, who is told of trouble, what is missing."""

from __future__ import annotations

from dataclasses import dataclass

from core.settings import Settings
from core.store.keyring import Keyring


@dataclass(frozen=True, slots=True)
class SetupLine:
    """One thing that an operator should know of; `fine` is False where something is to be decided or done."""

    words: str
    fine: bool


def setup(settings: Settings, keys: Keyring) -> list[SetupLine]:
    """What is set up and what is not, as the first page shows it."""
    return [_encryption(settings, keys), _alerts(settings), _heartbeat(settings), _reconnect(settings)]


def _encryption(settings: Settings, keys: Keyring) -> SetupLine:
    if keys:
        return SetupLine(f"Tokens are stored encrypted ({keys.state.removeprefix('on, ')}).", True)
    shared = "the platform and " if not settings.database_url.startswith("sqlite") else ""
    who = f"{shared}whoever may read the database"
    return SetupLine(f"Tokens are stored readable, for {who}: CAPI_ENCRYPTION_KEYS would encrypt them.", False)


def _alerts(settings: Settings) -> SetupLine:
    count = len(settings.alert_urls)
    if not count:
        return SetupLine("Nobody is told of trouble: set CAPI_ALERT_URLS.", False)
    return SetupLine(f"Alerts go to {count:,} address{'es' if count > 1 else ''}.", True)


def _heartbeat(settings: Settings) -> SetupLine:
    if settings.heartbeat_url:
        return SetupLine("A monitor hears a heartbeat while workers run.", True)
    return SetupLine("No monitor notices when everything stops: set CAPI_HEARTBEAT_URL.", False)


def _reconnect(settings: Settings) -> SetupLine:
    if settings.public_url:
        return SetupLine(f"Reconnect links lead to {settings.public_url}.", True)
    return SetupLine("Reconnect links reach nobody outside: set CAPI_PUBLIC_URL.", False)
