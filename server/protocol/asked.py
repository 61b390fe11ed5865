"""What a request asks for, whichever way it says so (GraphQL over HTTP draft, 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast
from urllib.parse import parse_qsl

from starlette.requests import Request

from server.protocol import bodies
from server.protocol.negotiation import check_body_type
from server.protocol.refusals import bad_request

PARAMETERS = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """`query` is None where the document is named instead of sent."""

    query: str | None
    operation_name: str | None = None
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None
    document_id: str | None = None

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> Self:
        """Raises `Refused` for members of a wrong type; those that nobody knows are left alone."""
        return cls(
            _text(members, "query"),
            _text(members, "operationName"),
            _object(members, "variables"),
            _object(members, "extensions"),
            _text(members, "documentId"),
        )

    @classmethod
    async def in_body(cls, request: Request, limit: int) -> Self:
        """Raises `Refused` for a body that is too long, of another type, or no request."""
        check_body_type(request.headers)
        return cls.of(await bodies.object_in(await bodies.read(request, limit), "The body"))

    @classmethod
    async def in_address(cls, request: Request) -> Self:
        """Raises `Refused` for an address that is no request."""
        members = dict(parameters(request))
        for name in ("variables", "extensions"):
            if text := members.pop(name, None):
                members[name] = await bodies.object_in(text.encode(), f"`{name}`")
        return cls.of({name: value for name, value in members.items() if value or name == "query"})


def parameters(request: Request) -> Mapping[str, Any]:
    """Those of the address, each given once. Raises `Refused` for others."""
    try:
        pairs = parse_qsl(request.scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS)
    except ValueError:
        raise bad_request(f"The address is not encoded UTF-8, or has more than {PARAMETERS} parameters.") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise bad_request("The address gives a parameter twice.")
    return found


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_request(f"`{name}` must be a string.")
    return value


def _object(members: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = members.get(name)
    if value is not None and not isinstance(value, dict):
        raise bad_request(f"`{name}` must be an object.")
    return cast("dict[str, Any] | None", value)
