"""From a request to a viewer. A token comes as `Authorization: Bearer …`, in a header or in a websocket's `connection_init`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from db.core.viewer import Viewer
from db.core.work import Database
from db.errors import Unavailable
from db.queries.accounts import viewer_of_token

MAX_TOKEN_LENGTH = 512


class InvalidToken(Exception):
    """A token was given and names nobody. Answered as UNAUTHENTICATED, never taken for no token at all."""

    def __init__(self) -> None:
        super().__init__("The bearer token is unknown, revoked or expired. Send `Authorization: Bearer <token>` with a valid one.")


def bearer_token(headers: Mapping[str, object]) -> str | None:
    """The token that headers or a `connection_init` payload carry, whatever the case of the name; None where there is none.

    Raises `BadToken` for an `Authorization` that is no bearer token, and for two of them: a gateway may have looked at the other one.
    """
    values = [value for name, value in headers.items() if name.lower() == "authorization"]
    if not values:
        return None
    if len(values) > 1 or not isinstance(values[0], str):
        raise InvalidToken
    scheme, _, token = values[0].strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_LENGTH:
        raise InvalidToken
    return token


async def authenticate(database: Database, headers: Mapping[str, object], timeout: float | None = None) -> Viewer | None:
    """Whom the headers name; None where they carry no token. Raises `BadToken`, and `Unavailable` after `patience` seconds."""
    token = bearer_token(headers)
    if token is None:
        return None
    try:
        async with asyncio.timeout(timeout):
            viewer = await viewer_of_token(database, token)
    except TimeoutError as error:  # a database that is cut off from us gives up nothing by itself
        raise Unavailable("database", "It did not say whose the token is.") from error
    if viewer is None:
        raise InvalidToken
    return viewer
