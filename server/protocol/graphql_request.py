"""Parse a GraphQL request from a body, a URL or a websocket message (GraphQL over HTTP draft, 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast
from urllib.parse import parse_qsl

from starlette.requests import Request

from server.protocol import json_body
from server.protocol.http_errors import bad_request
from server.protocol.negotiation import check_body_type

MAX_PARAMETERS = 20


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """`query` is None if the request names a persisted or trusted document."""

    query: str | None
    operation_name: str | None = None
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None
    document_id: str | None = None

    @classmethod
    def from_mapping(cls, members: Mapping[str, Any]) -> Self:
        """Ignore unknown members. Raises `HttpError` for members of a wrong type."""
        return cls(
            _optional_string(members, "query"),
            _optional_string(members, "operationName") or None,  # several clients send "" for none, and no operation is called that
            _optional_object(members, "variables"),
            _optional_object(members, "extensions"),
            _optional_string(members, "documentId"),
        )

    @classmethod
    async def from_body(cls, request: Request, limit: int) -> Self:
        """Raises `HttpError` for a body that is too long, of another media type, or no GraphQL request."""
        check_body_type(request.headers)
        return cls.from_mapping(await json_body.parse_object_async(await json_body.read(request, limit), "The body"))

    @classmethod
    async def from_url(cls, request: Request) -> Self:
        """Raises `HttpError` for query parameters that are no GraphQL request."""
        members = dict(query_parameters(request))
        for name in ("variables", "extensions"):
            if text := members.pop(name, None):
                members[name] = await json_body.parse_object_async(text.encode(), f"`{name}`")
        return cls.from_mapping({name: value for name, value in members.items() if value or name == "query"})


def query_parameters(request: Request) -> Mapping[str, Any]:
    """The URL's query parameters. Raises `HttpError` for repeated, too many, or wrongly encoded ones."""
    try:
        pairs = parse_qsl(
            request.scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except ValueError:
        raise bad_request(f"The URL is not percent-encoded UTF-8, or has more than {MAX_PARAMETERS} parameters.") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise bad_request("The URL has a parameter twice.")
    return parameters


def _optional_string(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_request(f"`{name}` must be a string.")
    return value


def _optional_object(members: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = members.get(name)
    if value is not None and not isinstance(value, dict):
        raise bad_request(f"`{name}` must be an object.")
    return cast("dict[str, Any] | None", value)
