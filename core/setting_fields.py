"""The fields of every setting, in the order in which README lists them; `core.settings` reads them.

Names without `CAPI_` are the platform's own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, NoDecode

from core.secret import Secret

Port = Annotated[int, Field(ge=1, le=65535)]


class Fields(BaseSettings):
    """Descriptions are printed by `capi-console settings` and checked against README."""

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
        description="address the console listens on; with any but loopback people sign in",
    )
    console_port: Port = Field(8501, alias="CAPI_CONSOLE_PORT", description="port the console listens on")
    console_public_url: str | None = Field(
        None,
        alias="CAPI_CONSOLE_URL",
        pattern=r"^https?://[^\s/]+$",
        description="where people reach the console from elsewhere, such as https://console.example.com",
    )
    oidc_issuer: str | None = Field(
        None,
        alias="CAPI_OIDC_ISSUER",
        pattern=r"^https?://[^\s?#@]+$",
        description="whose accounts people may sign in with, such as https://accounts.google.com (OpenID Connect)",
    )
    oidc_client_id: str | None = Field(
        None, alias="CAPI_OIDC_CLIENT_ID", description="id under which the console is registered there"
    )
    oidc_client_secret: Secret | None = Field(
        None, alias="CAPI_OIDC_CLIENT_SECRET", description="secret that belongs to that id"
    )
    oidc_name: str | None = Field(
        None,
        alias="CAPI_OIDC_NAME",
        max_length=40,
        description="what the button says after “Sign in with”; the issuer's host without it",
    )
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
    metrics_host: str = Field(
        "127.0.0.1",
        alias="CAPI_METRICS_HOST",
        description="address on which endpoint and workers show their metrics to Prometheus",
    )
    endpoint_metrics_port: Port | None = Field(
        None,
        alias="CAPI_ENDPOINT_METRICS_PORT",
        description="port of the endpoint's /metrics; none without it",
    )
    worker_metrics_port: Port | None = Field(
        None,
        alias="CAPI_WORKER_METRICS_PORT",
        description="port of the worker's /metrics, another one for each worker of a machine; none without it",
    )
    keep_payload_days: int = Field(
        14,
        alias="CAPI_KEEP_PAYLOAD_DAYS",
        ge=7,
        le=400,
        description="days for which the content of a dead event is kept, so that it can be sent again",
    )
    keep_event_days: int = Field(
        90,
        alias="CAPI_KEEP_EVENT_DAYS",
        ge=14,
        le=3650,
        description="days for which is known what became of each event, request and job",
    )
    keep_history_days: int = Field(
        400,
        alias="CAPI_KEEP_HISTORY_DAYS",
        ge=60,
        le=3650,
        description="days for which refreshes, the audit trail and hourly counts are kept",
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
    failpoints: str = Field(
        "",
        alias="CAPI_FAILPOINTS",
        description="where this process dies, stumbles or dawdles; for drills, refused without CAPI_DRILL",
    )
    drill: bool = Field(
        False,
        alias="CAPI_DRILL",
        description="set by capi-console drill for the processes it kills; never set it in earnest",
    )
