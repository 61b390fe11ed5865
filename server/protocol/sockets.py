"""graphql-transport-ws: Strawberry's handler, with every message looked at before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, cast

from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import Message

from graph.core.context import Context

_KINDS: Mapping[str, tuple[type, ...]] = {"query": (str,), "operationName": (str, NoneType), "variables": (dict, NoneType)}


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """Strawberry's, with messages of a wrong shape closed as the protocol says instead of by a traceback."""

    async def handle_message(self, message: Message) -> None:
        if _well_formed(cast("object", message)):
            await super().handle_message(message)
        else:
            await self.handle_invalid_message("A message has a wrong shape; see the graphql-transport-ws protocol.")


def _well_formed(message: object) -> bool:
    """Every part that is used later; one that is missing is noticed there."""
    if not isinstance(message, dict):
        return False
    found = cast("dict[str, Any]", message)
    if not isinstance(found.get("id", ""), str):
        return False
    if found.get("type") != "subscribe" or "payload" not in found:
        return True
    if not isinstance(found["payload"], dict):
        return False
    payload = cast("dict[str, Any]", found["payload"])
    return all(name not in payload or isinstance(payload[name], kinds) for name, kinds in _KINDS.items())
