"""Read notifications once all events are dispatched, by a worker or by the test."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import exists, func, select

from db.core.work import Database
from db.services import notifications
from db.tables import OutboxEvent
from tests.client import Client

LIST = """query($filter: NotificationFilter, $first: Int = 100, $after: String) { notifications(first: $first, after: $after, filter: $filter) {
  totalCount pageInfo { hasNextPage endCursor } edges { node { id sequence type title body subjectId subject { id } account { username } createdAt readAt } } } }"""
PREFER = """mutation($event: EventType!, $inApp: Boolean!) { setNotificationPreference(input: {eventType: $event, inApp: $inApp}) { __typename
  ... on SetNotificationPreferencePayload { preference { eventType inApp isDefault } } ... on InvalidInput { issues { path message } } } }"""


async def dispatched(database: Database) -> None:
    """Dispatch all events; another process may be about it."""
    async with asyncio.timeout(60):
        while True:
            await notifications.dispatch(database)
            # What another process dispatches is in the outbox until it commits.
            (row,) = await database.rows(select(exists(select(func.now()).select_from(OutboxEvent)).label("has_events")))
            if not row.has_events:
                return
            await asyncio.sleep(0.02)


async def told(database: Database, client: Client, **criteria: Any) -> list[dict[str, Any]]:
    """What a client is told of, the oldest first."""
    await dispatched(database)
    page = await client.one(LIST, filter=criteria)
    return sorted((edge["node"] for edge in page["edges"]), key=lambda node: node["sequence"])


async def prefer(client: Client, event: str, *, in_app: bool) -> dict[str, Any]:
    return await client.one(PREFER, event=event, inApp=in_app)


async def prefer_all(client: Client) -> None:
    """Ask to be told of every event."""
    for preference in await client.one("{ notificationPreferences { eventType inApp } }"):
        if not preference["inApp"]:
            assert (await prefer(client, preference["eventType"], in_app=True))["__typename"] == "SetNotificationPreferencePayload"
