"""Authentication: the viewer of a bearer token, from the `Authorization` header, a websocket's `connection_init` payload or the cookie."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from db.core.viewer import Viewer
from db.errors import Unavailable
from db.streams.viewers import Viewers
from server.token_usage import TokenUsage

MAX_TOKEN_LENGTH = 512


class InvalidToken(Exception):
    """The token given is not valid. The response is UNAUTHENTICATED; the request is never treated as anonymous."""

    def __init__(self) -> None:
        super().__init__("The bearer token is unknown, revoked or expired. Send `Authorization: Bearer <token>` with a valid one.")


def sole_authorization(headers: Mapping[str, object]) -> object | None:
    """The `Authorization` of headers or of a payload, case-insensitive by name; None without one. Raises `InvalidToken` for several."""
    values = [value for name, value in headers.items() if name.lower() == "authorization"]
    if len(values) > 1:
        raise InvalidToken
    return values[0] if values else None


def bearer_token(headers: Mapping[str, object]) -> str | None:
    """The token in the headers or a `connection_init` payload, case-insensitive by name; None if there is none.

    Raises `InvalidToken` for an `Authorization` that is no bearer token, and for two of them: a gateway may have checked the other one.
    """
    value = sole_authorization(headers)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidToken
    scheme, _, token = value.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise InvalidToken
    return token


async def authenticate(
    viewers: Viewers, usage: TokenUsage, token: str | None, timeout: float | None = None, *, is_long_lived: bool = False
) -> Viewer | None:
    """The viewer of a token, whose use is noted; None without a token. One look-up serves a second, except for a long-lived connection.

    Raises `InvalidToken`, and `Unavailable` after `timeout` seconds.
    """
    if token is None:
        return None
    if len(token) > MAX_TOKEN_LENGTH:
        raise InvalidToken
    try:
        async with asyncio.timeout(timeout):
            viewer = await viewers.of_token(token, fresh=is_long_lived)
    except TimeoutError as error:  # a statement to a database that the network cut off does not end by itself
        raise Unavailable("database", "The token could not be looked up in time.") from error
    if viewer is None:
        raise InvalidToken
    if viewer.key_id is not None:
        usage.note(viewer.key_id)
    return viewer
