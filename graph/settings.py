"""What one operation, and one viewer, may ask of the graph."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class GraphSettings(BaseSettings):
    """Limits of documents and of their cost, and which documents are run at all. Read from `TRELLIS_*`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_", extra="ignore", frozen=True)

    query_max_bytes: int = Field(default=100_000, ge=1, description="Longest GraphQL document that is read, in bytes of UTF-8.")
    query_max_tokens: int = Field(default=5_000, ge=1, description="Most tokens of a document: names, numbers, braces and other marks.")
    query_max_selections: int = Field(
        default=1_500,
        ge=1,
        description="Most fields and fragments that a document names, each time counted; what it unfolds to is its cost.",
    )
    query_max_depth: int = Field(
        default=12, ge=1, description="Deepest nesting of fields, fragments followed. What is below `__schema` and `__type` does not count."
    )
    query_max_root_fields: int = Field(default=20, ge=1, description="Most root fields of an operation, each time that one is named.")
    query_max_aliases: int = Field(
        default=50, ge=0, description="Most aliases of an operation, fragments followed; of the types that an answer may have, the most."
    )
    query_max_directives: int = Field(
        default=50, ge=0, description="Most directives of an operation, fragments followed; at most 5 of them in one place."
    )
    query_max_variables: int = Field(default=100, ge=0, description="Most variables that an operation declares.")
    query_max_fragments: int = Field(default=50, ge=0, description="Most fragments that a document defines; so many operations, too.")
    query_max_cost: int = Field(
        default=10_000, ge=1, description="Most points that one operation may cost: about the number of things that it reads."
    )
    rate_limit_anonymous: int = Field(
        default=6_000, ge=0, description="Points that one client address may spend in a minute without signing in. 0: no limit."
    )
    rate_limit_free: int = Field(default=60_000, ge=0, description="Points that a user of tier FREE may spend in a minute. 0: no limit.")
    rate_limit_pro: int = Field(default=300_000, ge=0, description="Points that a user of tier PRO may spend in a minute. 0: no limit.")
    rate_limit_enterprise: int = Field(
        default=1_500_000, ge=0, description="Points that a user of tier ENTERPRISE may spend in a minute. 0: no limit."
    )
    documents: Literal["any", "trusted"] = Field(
        default="any", description="`trusted` runs the documents of `TRELLIS_DOCUMENTS_FILE` alone; GraphiQL then cannot be used."
    )
    documents_file: Path | None = Field(
        default=None,
        description='Trusted documents, run by their `documentId`: `{"id": "document"}` as Relay and GraphQL Code Generator write them, or'
        " Apollo's manifest of persisted queries.",
    )


@lru_cache
def graph_settings() -> GraphSettings:
    """The settings of this process, read once."""
    return GraphSettings()
