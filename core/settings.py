"""Every setting: a table of fields, read from the environment or `.env`.

Names without `CAPI_` are the platform's own. An unknown `CAPI_` name, a malformed value or a missing
secret raises `SettingsError` with one line that names the variable and what to put there.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core import hosts
from core.errors import SettingsError
from core.secret import Secret

ENV_FILE = Path(".env")
# 32 random bytes in URL-safe base64.
_KEY = re.compile(r"[A-Za-z0-9_-]{43}")

Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """What the environment decides. Descriptions are printed by `capi-console settings` and checked against README."""

    model_config = SettingsConfigDict(env_file=ENV_FILE, env_file_encoding="utf-8", extra="ignore", frozen=True)

    database_url: str = Field(
        "sqlite:///data/capi.db",
        alias="DATABASE_URL",
        description="SQLite file (embedded default) or postgresql://user:password@host:5432/name",
    )
    facebook_app_id: str | None = Field(None, alias="FACEBOOK_APP_ID", description="id of your Meta app")
    facebook_app_secret: Secret | None = Field(
        None,
        alias="FACEBOOK_APP_SECRET",
        description="secret of your Meta app; tokens cannot be exchanged without it",
    )
    shopify_api_secret: Annotated[tuple[Secret, ...], NoDecode] = Field(
        (),
        alias="SHOPIFY_API_SECRET",
        description="client secret of your Shopify app; two, comma separated, while you rotate",
    )
    graph_url: str = Field(
        "https://graph.facebook.com", alias="CAPI_GRAPH_URL", description="where the Graph API answers"
    )
    graph_version: str = Field(
        "v24.0",
        alias="CAPI_GRAPH_VERSION",
        pattern=r"^v\d{1,3}\.\d$",
        description="Graph API version, such as v24.0",
    )
    refresh_window_days: int = Field(
        30,
        alias="CAPI_REFRESH_WINDOW_DAYS",
        ge=1,
        le=59,
        description="days before its end from which a token is refreshed",
    )
    expiring_soon_days: int = Field(
        7,
        alias="CAPI_EXPIRING_SOON_DAYS",
        ge=1,
        le=59,
        description="days before its end from which a token is Expiring soon",
    )
    endpoint_host: str = Field("127.0.0.1", alias="CAPI_ENDPOINT_HOST", description="address the endpoint listens on")
    endpoint_port: Port = Field(8000, alias="CAPI_ENDPOINT_PORT", description="port the endpoint listens on")
    console_host: str = Field(
        "127.0.0.1",
        alias="CAPI_CONSOLE_HOST",
        description="address the console listens on; loopback only, for now",
    )
    console_port: Port = Field(8501, alias="CAPI_CONSOLE_PORT", description="port the console listens on")
    sandbox_port: Port = Field(
        8090, alias="CAPI_SANDBOX_PORT", description="port the sandbox listens on (loopback only)"
    )
    public_url: str | None = Field(
        None,
        alias="CAPI_PUBLIC_URL",
        pattern=r"^https?://[^\s/]+$",
        description="where shops reach the endpoint, such as https://events.example.com",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        alias="CAPI_TRUSTED_PROXIES",
        description="addresses or networks whose X-Forwarded-For is believed, comma separated",
    )
    rate_app: float = Field(
        500,
        alias="CAPI_RATE_APP",
        ge=0,
        description="tracked events a second that one app may send, with a burst of four seconds' worth; 0: no limit",
    )
    rate_address: float = Field(
        5,
        alias="CAPI_RATE_ADDRESS",
        ge=0,
        description="the same for one visitor's public address, with a burst of six seconds' worth; 0: no limit",
    )
    refreshes_a_minute: int = Field(
        60,
        alias="CAPI_REFRESHES_A_MINUTE",
        ge=1,
        le=6000,
        description="scheduled token refreshes begun in one minute, at most, by all workers together",
    )
    dialog_url: str = Field(
        "https://www.facebook.com",
        alias="CAPI_DIALOG_URL",
        description="where Facebook's login dialog is, to which a reconnect link leads",
    )
    reconnect_scopes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("ads_management", "business_management"),
        alias="CAPI_RECONNECT_SCOPES",
        description="permissions that a reconnect link asks for, comma separated",
    )
    alert_urls: Annotated[tuple[Secret, ...], NoDecode] = Field(
        (),
        alias="CAPI_ALERT_URLS",
        description="where alerts go: Apprise addresses (mailtos://…, slack://…, json://…), separated by blanks",
    )
    alert_minutes: float = Field(
        5,
        alias="CAPI_ALERT_MINUTES",
        ge=0,
        le=1440,
        description="minutes between two messages to one alert address, at least",
    )
    heartbeat_url: str | None = Field(
        None,
        alias="CAPI_HEARTBEAT_URL",
        repr=False,
        pattern=r"^https?://[^\s]+$",
        description="fetched every minute while workers run, by a monitor that tells you when it is not",
    )
    allow_private_urls: bool = Field(
        False,
        alias="CAPI_ALLOW_PRIVATE_URLS",
        description="lets alerts and the heartbeat reach private addresses, such as a mail server of your own",
    )
    encryption_keys: Annotated[tuple[Secret, ...], NoDecode] = Field(
        (),
        alias="CAPI_ENCRYPTION_KEYS",
        description="keys for tokens at rest, newest first, comma separated; `capi-console keys make` prints one",
    )
    worker_threads: int = Field(
        8,
        alias="CAPI_WORKER_THREADS",
        ge=1,
        le=128,
        description="requests to Meta that one worker makes at a time",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        alias="CAPI_LOG_LEVEL",
        description="DEBUG, INFO, WARNING or ERROR",
    )
    allow_any_graph_url: bool = Field(
        False,
        alias="CAPI_ALLOW_ANY_GRAPH_URL",
        description="developer's switch: lets CAPI_GRAPH_URL and CAPI_DIALOG_URL name hosts other than Meta's",
    )

    @field_validator("shopify_api_secret", mode="before")
    @classmethod
    def _secrets(cls, value: Any) -> Any:
        parts = _parts(value) if isinstance(value, str) else value
        if len(parts) > 2:
            raise ValueError("give one secret, or two separated by a comma while you rotate")
        return tuple(p if isinstance(p, Secret) else Secret(p) for p in parts)

    @field_validator("alert_urls", mode="before")
    @classmethod
    def _addresses(cls, value: Any) -> Any:
        parts = value.split() if isinstance(value, str) else value
        return tuple(p if isinstance(p, Secret) else Secret(p) for p in parts)

    @field_validator("encryption_keys", mode="before")
    @classmethod
    def _keys(cls, value: Any) -> Any:
        parts = _parts(value) if isinstance(value, str) else value
        if any(isinstance(part, str) and not _KEY.fullmatch(part) for part in parts):
            raise ValueError("a key is 43 letters and digits, as `capi-console keys make` prints it")
        return tuple(p if isinstance(p, Secret) else Secret(p) for p in parts)

    @field_validator("reconnect_scopes", mode="before")
    @classmethod
    def _scopes(cls, value: Any) -> Any:
        return tuple(_parts(value) if isinstance(value, str) else value)

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        parts = _parts(value) if isinstance(value, str) else value
        for part in parts:
            ipaddress.ip_network(part, strict=False)
        return tuple(parts)

    @field_validator("facebook_app_id", "facebook_app_secret", "public_url", "heartbeat_url", mode="before")
    @classmethod
    def _blank_is_absent(cls, value: Any) -> Any:
        return None if isinstance(value, str) and not value.strip() else value

    @model_validator(mode="after")
    def _meta_hosts(self) -> Settings:
        for name, url, known in (
            ("CAPI_GRAPH_URL", self.graph_url, hosts.GRAPH),
            ("CAPI_DIALOG_URL", self.dialog_url, hosts.DIALOG),
        ):
            if not (hosts.is_known(url, known) or (self.allow_any_graph_url and urlsplit(url).hostname)):
                raise ValueError(f"{name}: put https://{known[0]} there (others need CAPI_ALLOW_ANY_GRAPH_URL=true)")
        return self

    @cached_property
    def endpoint_url(self) -> str:
        return f"http://{hosts.shown(self.endpoint_host)}:{self.endpoint_port}"

    @cached_property
    def console_url(self) -> str:
        return f"http://{hosts.shown(self.console_host)}:{self.console_port}"

    @cached_property
    def sandbox_url(self) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}"

    def secrets(self) -> tuple[Secret, ...]:
        """What must be struck from every log line."""
        own = (self.facebook_app_secret,) if self.facebook_app_secret else ()
        monitor = (Secret(self.heartbeat_url),) if self.heartbeat_url else ()
        return (*own, *self.shopify_api_secret, *self.alert_urls, *self.encryption_keys, *monitor)

    def require(self, *fields: str) -> None:
        """SettingsError unless every one of these fields has a value."""
        for field in fields:
            if not getattr(self, field):
                info = type(self).model_fields[field]
                raise SettingsError(f"{info.alias} is not set: put there the {info.description}")


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def names() -> dict[str, str]:
    """Environment name → field name."""
    return {str(info.alias): field for field, info in Settings.model_fields.items()}


def load(environment: dict[str, str] | None = None) -> Settings:
    """The settings of this process; SettingsError in one clear line."""
    given = {**_env_file(), **(os.environ if environment is None else environment)}
    _refuse_unknown(given)
    values: dict[str, Any] = {name: given[name] for name in names() if name in given}
    try:
        return Settings(_env_file=None, **values)  # type: ignore[call-arg]
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def sources(environment: dict[str, str] | None = None) -> dict[str, str]:
    """Environment name → `environment`, `.env` or `default`."""
    env = os.environ if environment is None else environment
    file = _env_file()
    return {name: "environment" if name in env else ".env" if name in file else "default" for name in names()}


def _env_file() -> dict[str, str]:
    return {k: v for k, v in dotenv_values(ENV_FILE).items() if v is not None} if ENV_FILE.is_file() else {}


def _refuse_unknown(given: dict[str, str]) -> None:
    known = names()
    for name in sorted(given):
        if name.startswith("CAPI_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "README.md lists the names"
            raise SettingsError(f"{name} is not a setting: {hint}")


def _explain(error: ValidationError) -> str:
    """The first complaint, by the variable's name, without the value (it may be a secret)."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    words = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return words
    name = str(first["loc"][0])
    description = Settings.model_fields[names()[name]].description
    return f"{name}: {words[:1].lower()}{words[1:]}; put there: {description}"
