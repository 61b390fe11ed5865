"""Requests of MLflow's clients: who sends them, for which account, and what they ask for."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from graphql import GraphQLError
from starlette.responses import Response

from db.core.viewer import Viewer
from db.settings import MAX_PUT_BYTES
from graph.core.ids import parse
from server.auth import InvalidToken, authenticate, sole_authorization
from server.mlflow.errors import MlflowError, invalid, not_found
from server.protocol import json_body
from server.protocol.graphql_request import query_parameters
from server.protocol.http_errors import HttpError
from server.protocol.session_cookie import CookieSite

if TYPE_CHECKING:
    from starlette.requests import Request

    from db.core.networks import ClientInfo
    from db.core.viewer import ApiScope
    from db.core.work import Database
    from db.settings import StateSettings
    from db.stores.objects import ObjectStore

MAX_BODY_BYTES = 4 * 1024 * 1024  # a batch of 1,000 metrics, 100 parameters of 6,000 characters and 100 tags of 8,000
MAX_RESULTS = 50_000  # that a client may ask for
IDLE_TIMEOUT = 10.0  # seconds without a byte of a file
_CLOSE = {"Connection": "close"}
TOKEN_TIMEOUT = 10.0  # seconds to look up a token
_NO_TLS = (
    "A key is taken as a password only over https, or at an address of this machine; behind a proxy that ends TLS, set TRELLIS_PUBLIC_URL to its https"
    " address. Or send it as a bearer token: MLFLOW_TRACKING_TOKEN."
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request: `fields` are those of its body, or of its query; `path` those of its address."""

    viewer: Viewer
    account_id: UUID
    """Whose experiments and models it is about: the viewer's, or those of the team that its address names."""
    database: Database
    store: ObjectStore
    fields: Mapping[str, Any]
    path: Mapping[str, str]
    request: Request

    def optional_text(self, name: str, *, length: int = 10_000) -> str | None:
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise invalid(f"Invalid value {value!r} for parameter '{name}' supplied: it is no text.")
        if len(value) > length or "\x00" in value:
            raise invalid(f"'{name}' exceeds the maximum length of {length} characters, or has the character NUL.")
        return value

    def text(self, name: str, *, length: int = 10_000) -> str:
        value = self.optional_text(name, length=length)
        if not value:
            raise invalid(f"Missing value for required parameter '{name}'.")
        return value

    def integer(self, name: str, default: int | None = None) -> int | None:
        """An integer, which JSON of protocol buffers writes as a text where it has 64 bits."""
        value = self.fields.get(name)
        return default if value is None or value == "" else as_integer(value, name)

    def objects(self, name: str, limit: int | None = None) -> list[Mapping[str, Any]]:
        """The objects of a list; an empty one where there is none."""
        values: Any = self.fields.get(name) or []
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in cast("list[Any]", values)):
            raise invalid(f"Invalid value for parameter '{name}' supplied: it is no list of objects.")
        if limit is not None and len(cast("list[Any]", values)) > limit:
            raise invalid(
                f"A batch logging request can contain at most {limit} {name}. Got {len(cast('list[Any]', values))} {name}. Please split up."
            )
        return cast("list[Mapping[str, Any]]", values)

    def texts(self, name: str) -> list[str]:
        """The texts of a list, or of one text."""
        values: Any = self.fields.get(name) or []
        listed = cast("list[Any]", values if isinstance(values, list) else [values])
        if not all(isinstance(value, str) for value in listed):
            raise invalid(f"Invalid value for parameter '{name}' supplied: it is no list of texts.")
        return cast("list[str]", listed)

    def page_size(self, default: int, limit: int) -> int:
        """How many results are asked for at once: `max_results`, and at most `limit`, since clients ask for the next page."""
        size = self.integer("max_results", default)
        if size is None or not 1 <= size <= MAX_RESULTS:
            raise invalid(
                f"Invalid value {size} for parameter 'max_results' supplied: It must be a positive integer, at most {MAX_RESULTS}."
            )
        return min(size, limit)

    def run_id(self) -> UUID:
        return key_of("run", "Run", self.optional_text("run_id") or self.text("run_uuid"))


_BOUNDS = {32: 2**31, 64: 2**63}


def as_integer(value: Any, name: str, bits: int = 64) -> int:
    """An integer of so many bits, as a number or as its digits."""
    if type(value) is int and -_BOUNDS[bits] <= value < _BOUNDS[bits]:  # as nearly all are, thousands in a batch of points
        return value
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool) or not -_BOUNDS[bits] <= number < _BOUNDS[bits]:
        raise invalid(f"Invalid value {value!r} for parameter '{name}' supplied: it is no integer of {bits} bits.")
    return number


def key_of(prefix: str, kind: str, text: str) -> UUID:
    """The key of an id; RESOURCE_DOES_NOT_EXIST for a text that is none."""
    parsed = parse(text)
    if parsed is None or parsed[0] != prefix:
        raise not_found(kind, text)
    return parsed[1]


Handler = Callable[[Call], Awaitable[Mapping[str, Any] | Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address of the protocol, what a key needs to call it, and the points that it costs."""

    method: str
    path: str
    scope: ApiScope
    handler: Handler
    cost: int = 1
    version: str = "2.0"
    is_file: bool = False
    """Whether the body is a file, which the handler reads."""


async def read_fields(request: Request) -> Mapping[str, Any]:
    """The fields of the body, which must be JSON, or of the query of a GET; several values of one name are a list."""
    if request.method == "GET":
        many: dict[str, Any] = {}
        for name, value in request.query_params.multi_items():
            many[name] = value if name not in many else [*(many[name] if isinstance(many[name], list) else [many[name]]), value]
        return many
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        body = await json_body.read(request, MAX_BODY_BYTES)
        if not body.strip():
            return query_parameters(request) if request.method == "DELETE" else {}
        if content_type != "application/json":
            raise MlflowError("BAD_REQUEST", "Bad Request. Content-Type must be application/json.")
        return await json_body.parse_object_async(body, "The body")
    except HttpError as error:
        raise MlflowError("BAD_REQUEST", str(error), error.headers) from None


async def read_file(request: Request, keep: int) -> tuple[int, bytes | None]:
    """Read the body; return how many bytes it has, and these unless they are more than `keep`.

    A client sends all of it before it reads an answer, so even what is to be sent elsewhere is read to its end. Raises `MlflowError` for more than
    `MAX_PUT_BYTES`, and when nothing arrives for `IDLE_TIMEOUT` seconds.
    """
    announced = request.headers.get("content-length", "0")
    size, kept = 0, bytearray()
    try:
        stream = request.stream()
        while not (announced.isdecimal() and int(announced[:20]) > MAX_PUT_BYTES):
            async with asyncio.timeout(IDLE_TIMEOUT):
                chunk = await anext(stream, None)
            if chunk is None:
                return size, bytes(kept) if size <= keep else None
            size += len(chunk)
            if size > MAX_PUT_BYTES:
                break
            if size <= keep:
                kept += chunk
    except TimeoutError:
        raise MlflowError("BAD_REQUEST", f"Nothing of the body arrived for {IDLE_TIMEOUT:g} seconds.", _CLOSE) from None
    raise MlflowError("INVALID_PARAMETER_VALUE", f"A file has at most {MAX_PUT_BYTES:,} bytes here.", _CLOSE)


async def sign_in(request: Request, state: StateSettings) -> Viewer:
    """The viewer of the bearer token, or of the key that stands as the password of basic authentication. Cookies do not count."""
    try:
        token = _token(request, state)
        viewer = await authenticate(request.app.state.feed.viewers, request.app.state.token_usage, token, TOKEN_TIMEOUT)
    except InvalidToken:
        viewer = None
    if viewer is None:
        # Without WWW-Authenticate: a browser would ask for a password.
        raise MlflowError(
            "UNAUTHENTICATED", "Set MLFLOW_TRACKING_TOKEN to a valid API key, made with `createApiKey` or on the account page."
        )
    return viewer


def _token(request: Request, state: StateSettings) -> str | None:
    value = sole_authorization(request.headers)
    scheme, _, credentials = str(value or "").strip().partition(" ")
    if scheme.lower() == "basic":
        if CookieSite.of(request.scope, request.headers, state.public_url).name is None:
            raise MlflowError("UNAUTHENTICATED", _NO_TLS)
        try:
            return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2] or None
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidToken from None
    return credentials.strip() or None if scheme.lower() == "bearer" else None


async def take_points(request: Request, viewer: Viewer, client: ClientInfo, cost: int) -> None:
    """Take what a call costs. Raises `MlflowError`, which a client repeats after a while."""
    try:
        await request.app.state.gate.take_points(viewer, client.address, cost)
    except GraphQLError as error:
        seconds = str((error.extensions or {}).get("retryAfter", 1))
        raise MlflowError("REQUEST_LIMIT_EXCEEDED", error.message, {"Retry-After": seconds}) from None
