"""Settings of the API server and of `trellis up`. The addresses of PostgreSQL, Redis and S3 are in `db.settings`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from db.core.base_settings import TrellisSettings
from server.oauth.settings import MAX_PROVIDERS, ProviderName, SignInProvider

MIN_TOKEN_LENGTH = 16
# Where the API's processes keep their metrics, if there are several. prometheus_client looks for this variable when it is imported.
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class ServerSettings(TrellisSettings):
    """The API's address, access and limits, and what `trellis up` starts. Read from `TRELLIS_*`; command-line options win."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_", extra="ignore")
    deprecated_names: ClassVar[Mapping[str, str]] = {"socket_ping_interval": "TRELLIS_SOCKET_PING_EVERY"}

    host: str = Field(default="127.0.0.1", description="Address the API listens on. `0.0.0.0` admits other machines.")
    port: int = Field(default=8000, ge=1, le=65_535, description="Port the API listens on.")
    data_dir: Path = Field(default=Path(".trellis"), description="Folder of all data of `trellis up`.")
    api_processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="API processes behind the one port, for `trellis up` and `trellis api`. Each has its own database pool and its own limits per process.",
    )
    worker_processes: int = Field(default=1, ge=0, le=64, description="Worker processes that `trellis up` starts.")
    admin_email: str = Field(
        default="admin@trellis.local",
        description="Email address of the admin: each start makes this user an admin, and creates them if missing.",
    )
    admin_token: SecretStr = Field(
        default=SecretStr(""),
        description="The admin's bearer token, 16 characters or more. Empty: `trellis up` generates one and writes it to `<data-dir>/admin-token`.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Lowest severity that is logged.")
    log_format: Literal["console", "json"] = Field(
        default="console", description="`console` for people; `json` for machines, one object a line."
    )
    metrics: Literal["off", "local", "all"] = Field(
        default="local",
        description="Who may read `/metrics` without a token: nobody (`off` also ignores the token), this machine (no proxy on it), or everybody.",
    )
    metrics_token: SecretStr = Field(
        default=SecretStr(""),
        description="Bearer token, 16 characters or more, that admits to `/metrics` from anywhere unless metrics are `off`. Empty: none.",
    )
    s3_events_token: SecretStr = Field(
        default=SecretStr(""),
        description="Bearer token, 16 characters or more, with which the object store tells `/hooks/s3` of created objects; then a file that was sent and"
        " never completed is ingested minutes later, not after a day. Empty: there is no such address.",
    )
    mail_webhook_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Secret, `whsec_…`, with which the provider of the mail server signs what it tells `/hooks/mail`: deliveries, bounces, complaints. Empty:"
        " there is no such address.",
    )
    server_timing: bool = Field(
        default=False,
        description="Whether responses have a `Server-Timing` header. `trellis up` on a loopback address turns it on.",
    )
    mail_previews: bool = Field(
        default=False,
        description="Whether `/mail-previews` shows each mail with made-up names, for development. `trellis up` on a loopback address turns it on.",
    )
    show_plans: bool = Field(
        default=False,
        description="Whether everybody may request `extensions.plan`, as admins may. `trellis up` on a loopback address turns it on.",
    )
    tracing: bool = Field(
        default=False,
        description="Whether OpenTelemetry spans are exported, by OTLP over HTTP as the `OTEL_EXPORTER_OTLP_*` variables say. Needs `trellis[otel]`.",
    )
    usage_recording: bool = Field(
        default=True,
        description="Whether operations are recorded for `apiUsage`: who sent them, from where, their name, cost, time, size and error. Documents,"
        " variables and results are never recorded.",
    )
    graphiql: bool = Field(
        default=True,
        description="Whether `/graphql` serves GraphiQL to browsers, `/account` the page of the user's own account, and whether there"
        " are the pages that mails link to: `/verify-email`, `/reset-password`, `/register` and `/accept-invitation`.",
    )
    introspection: bool = Field(default=True, description="Whether introspection queries are allowed.")
    allowed_origins: list[str] = Field(
        default_factory=list,
        description='Further origins whose pages may call the API (CORS), as JSON: `["https://app.example.org"]`.',
    )
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024, description="Longest request body, in bytes.")
    max_response_bytes: int = Field(
        default=5_000_000, ge=1024, description="Longest response to an operation or stream event, in bytes of JSON."
    )
    operation_timeout: float = Field(
        default=10.0,
        gt=0,
        description="Timeout in seconds of an operation, or of one event of a subscription; its SQL statements are cancelled too.",
    )
    draft_statuses: bool = Field(
        default=False,
        description="Whether application/graphql-response+json responses use the statuses of the newer GraphQL over HTTP draft: 422 for a request that"
        " cannot be executed, 294 for data with errors.",
    )
    streams_per_viewer: int = Field(
        default=20, ge=1, description="Event streams (server-sent events) that a viewer may have open, per process."
    )
    sockets_per_viewer: int = Field(default=100, ge=1, description="Websockets that a viewer may have open, per process.")
    operations_per_socket: int = Field(
        default=50, ge=1, description="Operations, subscriptions included, that one websocket may run at once."
    )
    messages_per_second: float = Field(default=50.0, gt=0, description="Messages a second that a client may send on one websocket.")
    socket_init_timeout: float = Field(default=10.0, gt=0, description="Seconds within which a new websocket must send connection_init.")
    socket_ping_interval: float = Field(
        default=20.0, gt=0, description="Seconds between pings on a websocket; it is closed after two pings without a response."
    )
    request_timeout: float = Field(
        default=10.0,
        gt=0,
        description="Seconds within which a request's head, and then its body, must be complete, however slowly bytes come.",
    )
    keep_alive_timeout: int = Field(default=15, ge=1, description="Seconds for which an idle keep-alive connection stays open.")
    max_header_bytes: int = Field(default=32 * 1024, ge=4096, description="Longest request head (request line and headers), in bytes.")
    max_connections: int = Field(
        default=2000,
        ge=10,
        description="Connections per process, websockets and streams included. Beyond that, the longest-idle ones without a request are closed.",
    )
    hsts_seconds: int = Field(
        default=0,
        ge=0,
        description="`max-age` of Strict-Transport-Security. 0: no such header; the proxy that ends TLS sends it.",
    )
    sign_in_providers: Annotated[dict[ProviderName, SignInProvider], Field(max_length=MAX_PROVIDERS)] = Field(
        default_factory=dict[str, SignInProvider],
        description='Providers by which one can sign in, as JSON: `{"google": {"preset": "google", "client_id": "…", "client_secret": "…"}}`. The'
        " presets are `google` and `github`; another provider of OpenID Connect has an `issuer`, `https://login.example.org`, instead, or one beside"
        " `github` for GitHub Enterprise. `scopes` may be added. Register `<TRELLIS_PUBLIC_URL>/auth/<name>/callback` at the provider.",
    )
    embedded_durable: bool = Field(
        default=True,
        description="Whether the PostgreSQL that `trellis up` starts flushes to disk (`fsync`). `false` is faster and loses data in a power cut.",
    )

    @field_validator("allowed_origins")
    @classmethod
    def _name_origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            if origin != "*" and not re.fullmatch(r"https?://[^/?#\s@]+", origin):
                raise ValueError(f"{origin!r} is no origin: a scheme, a host and a port alone, such as `https://app.example.org`.")
        return value

    @field_validator("mail_webhook_secret")
    @classmethod
    def _check_webhook_secret(cls, secret: SecretStr) -> SecretStr:
        if secret.get_secret_value() and not re.fullmatch(
            r"whsec_(?:[A-Za-z0-9+/]{4}){5,}[A-Za-z0-9+/]{2}(?:==|[A-Za-z0-9+/]=|[A-Za-z0-9+/]{2})", secret.get_secret_value()
        ):
            raise ValueError("write it as the provider shows it: `whsec_` and 24 characters or more of base64")
        return secret

    @field_validator("metrics_token", "s3_events_token")
    @classmethod
    def _check_token_length(cls, token: SecretStr) -> SecretStr:
        if 0 < len(token.get_secret_value()) < MIN_TOKEN_LENGTH:
            raise ValueError(f"the token must have {MIN_TOKEN_LENGTH} characters or more")
        return token


@lru_cache
def server_settings() -> ServerSettings:
    """The settings of this process, read once."""
    return ServerSettings()
