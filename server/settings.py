"""How Trellis is served. Where its state lives is `db.settings`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


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
    graphiql: bool = Field(default=True, description="Whether `/graphql` shows the GraphiQL page to a browser.")
    introspection: bool = Field(default=True, description="Whether the schema can be asked about itself.")
    allowed_origins: list[str] = Field(
        default_factory=list,
        description='Origins of pages, besides our own, that may call the API, as JSON: `["https://app.example.org"]`.',
    )
    embedded_durable: bool = Field(
        default=True,
        description="Whether the PostgreSQL that `trellis up` starts flushes to disk. `false` is faster and loses data with a power cut.",
    )


@lru_cache
def server_settings() -> ServerSettings:
    """The settings of this process, read once."""
    return ServerSettings()
