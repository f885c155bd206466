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
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from core import failpoints, hosts
from core.errors import SettingsError
from core.secret import Secret
from core.setting_fields import Fields

ENV_FILE = Path(".env")
# 32 random bytes in URL-safe base64.
_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
# All of them or none.
_OIDC = ("oidc_issuer", "oidc_client_id", "oidc_client_secret")


class Settings(Fields):
    """What the environment decides."""

    model_config = SettingsConfigDict(env_file=ENV_FILE, env_file_encoding="utf-8", extra="ignore", frozen=True)

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

    @field_validator(
        "facebook_app_id",
        "facebook_app_secret",
        "public_url",
        "console_public_url",
        "heartbeat_url",
        *_OIDC,
        "oidc_name",
        mode="before",
    )
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

    @model_validator(mode="after")
    def _oidc(self) -> Settings:
        lacking = [field for field in _OIDC if getattr(self, field) is None]
        if lacking and len(lacking) < len(_OIDC):
            given = next(field for field in _OIDC if field not in lacking)
            info, other = (type(self).model_fields[field] for field in (lacking[0], given))
            raise ValueError(f"{info.alias} is not set and {other.alias} is: put there the {info.description}")
        if self.oidc_issuer and not hosts.is_confidential(self.oidc_issuer):
            raise ValueError("CAPI_OIDC_ISSUER: put an address there that begins with https://")
        return self

    @field_validator("failpoints")
    @classmethod
    def _places(cls, value: str) -> str:
        failpoints.read(value)
        return value

    @model_validator(mode="after")
    def _drills_only(self) -> Settings:
        if self.failpoints and not self.drill:
            raise ValueError("CAPI_FAILPOINTS: take it away, only drills and tests may set it (with CAPI_DRILL=1)")
        return self

    @cached_property
    def endpoint_url(self) -> str:
        return f"http://{hosts.shown(self.endpoint_host)}:{self.endpoint_port}"

    @cached_property
    def console_url(self) -> str:
        return f"http://{hosts.shown(self.console_host)}:{self.console_port}"

    @cached_property
    def console_address(self) -> str:
        """Where people are led to at the console: its public address, else its own on this machine."""
        return self.console_public_url or self.console_url

    @cached_property
    def sandbox_url(self) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}"

    def secrets(self) -> tuple[Secret, ...]:
        """What must be struck from every log line."""
        own = (self.facebook_app_secret,) if self.facebook_app_secret else ()
        oidc = (self.oidc_client_secret,) if self.oidc_client_secret else ()
        monitor = (Secret(self.heartbeat_url),) if self.heartbeat_url else ()
        return (*own, *oidc, *self.shopify_api_secret, *self.alert_urls, *self.encryption_keys, *monitor)

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
