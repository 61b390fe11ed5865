"""How Trellis is served. Where its state lives is `db.settings`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIN_TOKEN_LENGTH = 16


class ServerSettings(BaseSettings):
    """The API's address and what it lets in, and what `trellis up` starts. Read from `TRELLIS_*`; options of the command line win."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_", extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address the API listens on. `0.0.0.0` lets other machines in.")
    port: int = Field(default=8000, ge=1, le=65_535, description="Port the API listens on.")
    data_dir: Path = Field(default=Path(".trellis"), description="Folder of everything that `trellis up` keeps.")
    worker_processes: int = Field(default=1, ge=0, le=64, description="Worker processes that `trellis up` starts.")
    admin_email: str = Field(default="admin@trellis.local", description="Email address of the first admin.")
    admin_token: SecretStr = Field(
        default=SecretStr(""),
        description="The admin's bearer token, 16 characters or more. Empty: `trellis up` makes one and writes it to `<data-dir>/admin-token`.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severity that is logged.")
    log_format: Literal["console", "json"] = Field(
        default="console", description="`console` for people, `json` for machines, one object a line."
    )
    metrics: Literal["off", "local", "all"] = Field(
        default="local",
        description="Who may read `/metrics`: nobody, this machine (and no proxy on it), or everybody who reaches the API. The token lets in besides.",
    )
    metrics_token: SecretStr = Field(
        default=SecretStr(""),
        description="Bearer token, 16 characters or more, with which `/metrics` is read from anywhere unless it is `off`. Empty: none does.",
    )
    server_timing: bool = Field(
        default=False,
        description="Whether answers say in a `Server-Timing` header where the time went. `trellis up` on a loopback address turns it on.",
    )
    tracing: bool = Field(
        default=False,
        description="Whether OpenTelemetry spans are sent, by OTLP over HTTP to where the `OTEL_EXPORTER_OTLP_*` variables say. Needs `trellis[otel]`.",
    )
    graphiql: bool = Field(default=True, description="Whether `/graphql` shows the GraphiQL page to a browser.")
    introspection: bool = Field(default=True, description="Whether the schema can be asked about itself.")
    allowed_origins: list[str] = Field(
        default_factory=list,
        description='Origins of pages, besides our own, that may call the API, as JSON: `["https://app.example.org"]`.',
    )
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024, description="Longest body of a request, in bytes.")
    max_response_bytes: int = Field(
        default=5_000_000, ge=1024, description="Longest answer of an operation or of an event, in bytes of JSON."
    )
    operation_timeout: float = Field(
        default=10.0,
        gt=0,
        description="Seconds after which an operation, or the answer to one event of a subscription, is given up together with its statements.",
    )
    draft_statuses: bool = Field(
        default=False,
        description="Whether answers of the type application/graphql-response+json use the statuses of the newer GraphQL over HTTP draft: 422 for a"
        " request that cannot be run, 294 for data with errors.",
    )
    streams_per_viewer: int = Field(
        default=20, ge=1, description="Event streams (server-sent events) that a viewer may have open in a process."
    )
    sockets_per_viewer: int = Field(default=100, ge=1, description="Websockets that a viewer may have open in a process.")
    operations_per_socket: int = Field(
        default=50, ge=1, description="Operations, subscriptions included, that one websocket may run at once."
    )
    messages_per_second: float = Field(default=50.0, gt=0, description="Messages a second that a client may send on one websocket.")
    socket_init_timeout: float = Field(default=10.0, gt=0, description="Seconds in which a new websocket must send its connection_init.")
    socket_ping_every: float = Field(
        default=20.0, gt=0, description="Seconds between pings to a websocket; one that answers none of two is closed."
    )
    request_timeout: float = Field(
        default=10.0,
        gt=0,
        description="Seconds in which a request's head, and after it its body, must have come. A byte now and then gains nothing.",
    )
    keep_alive_timeout: int = Field(default=15, ge=1, description="Seconds for which a connection is kept that waits for its next request.")
    max_header_bytes: int = Field(default=32 * 1024, ge=4096, description="Longest head of a request, its address included, in bytes.")
    max_connections: int = Field(
        default=2000,
        ge=10,
        description="Connections of a process, websockets and streams included. Beyond them, those that have waited longest without a request are"
        " closed.",
    )
    hsts_seconds: int = Field(
        default=0,
        ge=0,
        description="How long browsers are to use TLS alone (Strict-Transport-Security). 0 leaves that to the proxy that ends TLS.",
    )
    embedded_durable: bool = Field(
        default=True,
        description="Whether the PostgreSQL that `trellis up` starts flushes to disk. `false` is faster and loses data with a power cut.",
    )

    @field_validator("metrics_token")
    @classmethod
    def _check_token_length(cls, token: SecretStr) -> SecretStr:
        if 0 < len(token.get_secret_value()) < MIN_TOKEN_LENGTH:
            raise ValueError(f"the token must have {MIN_TOKEN_LENGTH} characters or more")
        return token


@lru_cache
def server_settings() -> ServerSettings:
    """The settings of this process, read once."""
    return ServerSettings()
