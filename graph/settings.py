"""Limits of GraphQL documents, operations and viewers."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from db.core.base_settings import TrellisSettings


class GraphSettings(TrellisSettings):
    """Limits of documents, cost and rate, and which documents may be run. Read from `TRELLIS_*`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_", extra="ignore", frozen=True)

    query_max_bytes: int = Field(default=100_000, ge=1, description="Longest GraphQL document, in bytes of UTF-8.")
    query_max_tokens: int = Field(default=5_000, ge=1, description="Most tokens of a document.")
    query_max_selections: int = Field(
        default=1_500,
        ge=1,
        description="Most fields and fragment spreads in the text of a document, fragments not expanded.",
    )
    query_max_depth: int = Field(
        default=12, ge=1, description="Deepest nesting of fields, fragments expanded; fields below `__schema` and `__type` do not count."
    )
    query_max_root_fields: int = Field(default=20, ge=1, description="Most root fields of an operation, repeated ones included.")
    query_max_aliases: int = Field(
        default=50,
        ge=0,
        description="Most aliases of an operation, fragments expanded; of the possible types of an object, the one with most counts.",
    )
    query_max_directives: int = Field(
        default=50, ge=0, description="Most directives of an operation, fragments expanded; at most 5 at one location."
    )
    query_max_variables: int = Field(default=100, ge=0, description="Most variables that an operation declares.")
    query_max_fragments: int = Field(default=50, ge=0, description="Most fragments of a document, and most operations.")
    query_max_cost: int = Field(
        default=10_000, ge=1, description="Highest cost of an operation, in points: about one for each object that it reads."
    )
    rate_limit_anonymous: int = Field(
        default=6_000, ge=0, description="Points a minute for one client address without a token. 0: no limit."
    )
    rate_limit_free: int = Field(default=60_000, ge=0, description="Points a minute for a user of tier FREE. 0: no limit.")
    rate_limit_pro: int = Field(default=300_000, ge=0, description="Points a minute for a user of tier PRO. 0: no limit.")
    rate_limit_enterprise: int = Field(default=1_500_000, ge=0, description="Points a minute for a user of tier ENTERPRISE. 0: no limit.")
    documents: Literal["any", "trusted"] = Field(
        default="any",
        description="`trusted` runs only the documents of `TRELLIS_DOCUMENTS_FILE`; GraphiQL and the account page then cannot be used.",
    )
    documents_file: Path | None = Field(
        default=None,
        validate_default=True,
        description='Trusted documents, run by their `documentId`: `{"id": "document"}` as Relay and GraphQL Code Generator write them, or'
        " Apollo's manifest of persisted queries.",
    )

    @field_validator("documents_file")
    @classmethod
    def _find_file(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None and info.data.get("documents") == "trusted":
            raise ValueError("TRELLIS_DOCUMENTS=trusted needs the file of the documents that may be run.")
        if value is not None and not value.is_file():
            raise ValueError(f"There is no file {value}.")
        return value


@lru_cache
def graph_settings() -> GraphSettings:
    """The settings of this process, read once."""
    return GraphSettings()
