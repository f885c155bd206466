"""Settings: one clear line for everything that is wrong, and never a secret in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import logs, settings
from core.errors import SettingsError


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"CAPI_ENDPONT_PORT": "1"}, "CAPI_ENDPONT_PORT is not a setting: did you mean CAPI_ENDPOINT_PORT?"),
        ({"CAPI_SOMETHING": "1"}, "CAPI_SOMETHING is not a setting: README.md lists the names"),
        ({"CAPI_ENDPOINT_PORT": "x"}, "CAPI_ENDPOINT_PORT: input should be a valid integer"),
        ({"CAPI_ENDPOINT_PORT": "70000"}, "CAPI_ENDPOINT_PORT: input should be less than or equal to 65535"),
        ({"CAPI_REFRESH_WINDOW_DAYS": "0"}, "CAPI_REFRESH_WINDOW_DAYS: input should be greater than"),
        ({"CAPI_GRAPH_VERSION": "24"}, "CAPI_GRAPH_VERSION: string should match pattern"),
        ({"CAPI_GRAPH_URL": "https://evil.example"}, "CAPI_GRAPH_URL: put https://graph.facebook.com there"),
        ({"CAPI_GRAPH_URL": "http://graph.facebook.com"}, "CAPI_GRAPH_URL: put https://graph.facebook.com there"),
        ({"SHOPIFY_API_SECRET": "a,b,c"}, "SHOPIFY_API_SECRET: give one secret, or two"),
        ({"CAPI_TRUSTED_PROXIES": "proxy"}, "CAPI_TRUSTED_PROXIES: "),
        ({"CAPI_PUBLIC_URL": "shop"}, "CAPI_PUBLIC_URL: "),
        ({"CAPI_LOG_LEVEL": "LOUD"}, "CAPI_LOG_LEVEL: "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(given: dict[str, str], line: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings.load(given)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_a_complaint_never_repeats_a_secret() -> None:
    with pytest.raises(SettingsError) as error:
        settings.load({"SHOPIFY_API_SECRET": "hush-1,hush-2,hush-3"})
    assert "hush" not in str(error.value)


def test_a_missing_secret_is_named_with_what_to_put_there() -> None:
    with pytest.raises(SettingsError, match="FACEBOOK_APP_SECRET is not set: put there the secret of your Meta app"):
        settings.load({}).require("facebook_app_secret")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings.ENV_FILE.write_text("CAPI_ENDPOINT_PORT=9000\nCAPI_CONSOLE_PORT=9001\nOTHER=1\n")
    given = {"CAPI_ENDPOINT_PORT": "9100"}
    found = settings.load(given)
    assert (found.endpoint_port, found.console_port) == (9100, 9001)
    named = settings.sources(given)
    assert [named[f"CAPI_{name}_PORT"] for name in ("ENDPOINT", "CONSOLE", "SANDBOX")] == [
        "environment",
        ".env",
        "default",
    ]


def test_an_unknown_name_in_the_file_is_refused_too() -> None:
    settings.ENV_FILE.write_text("CAPI_TYPO=1\n")
    with pytest.raises(SettingsError, match="CAPI_TYPO"):
        settings.load({})


def test_secrets_print_as_fingerprints() -> None:
    found = settings.load({"FACEBOOK_APP_SECRET": "hush-hush", "SHOPIFY_API_SECRET": "one-secret, two-secret"})
    assert len(found.shopify_api_secret) == 2
    shown = f"{found!r} {found.model_dump()} {found.model_dump_json()}"
    assert not any(word in shown for word in ("hush-hush", "one-secret", "two-secret"))


def test_redaction_takes_secrets_out_of_messages_fields_and_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    found = settings.load({"FACEBOOK_APP_SECRET": "hush-hush-hush"})
    logs.keep_out(found.secrets())
    logs.setup("DEBUG")
    log = logging.getLogger("test")
    try:
        raise ValueError("https://graph.facebook.com/?access_token=EAAbcdefghijkl&x=1 hush-hush-hush")
    except ValueError:
        log.exception("it failed with EAAabcdefghijklmnop", extra={"url": "postgresql://u:pass-word@h/d"})
    text = capsys.readouterr().err
    assert "it failed with" in text
    assert "ValueError" in text
    assert not any(secret in text for secret in ("hush-hush-hush", "EAAb", "EAAa", "pass-word"))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgresql://h/d?user=u&password=hush-hush&sslmode=require", "u&password=[secret]&sslmode=require"),
        ("host=h password=hush-hush dbname=d", "password=[secret] dbname=d"),
        (r"host=h password='hush \' hush' dbname=d", "password=[secret] dbname=d"),
        ("sslpassword = hush", "sslpassword = [secret]"),
        ('{"password": "hush hush", "x": 1}', '"password": [secret], "x": 1'),
        ("password authentication failed for user", "password authentication failed for user"),
    ],
)
def test_redaction_takes_passwords_out_of_what_opens_a_database(text: str, left: str) -> None:
    assert left in logs.redact(text)
    assert "hush" not in logs.redact(text)


def test_a_monitors_address_is_a_secret() -> None:
    found = settings.load({"CAPI_HEARTBEAT_URL": "https://hc-ping.com/hush-4711"})
    logs.keep_out(found.secrets())
    assert "hush" not in f"{found!r} {logs.redact(f'GET {found.heartbeat_url} failed')}"


@pytest.fixture(autouse=True)
def _same_handlers_after() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
