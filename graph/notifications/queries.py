"""Root queries for notifications."""

import strawberry

from db.queries import notifications
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import listing
from graph.core.paging import Connection
from graph.core.permissions import query
from graph.notifications.enums import EventType
from graph.notifications.inputs import NotificationFilter
from graph.notifications.types import Notification, NotificationPreference


@strawberry.type
class NotificationQueries:
    notifications: Connection[Notification] = listing(
        notifications.listing,
        filtered_by=NotificationFilter,
        description="What you are told of, newest first; for admins too, only their own.",
    )

    @query(description="How many of your notifications you have not marked as read; 1,000 stands for that many and more.")
    async def unread_notifications(self, info: Info) -> int:
        context = info.context
        return await notifications.unread(context.database, context.signed_in_viewer)

    @query(description="How you are told of each event, in the order of `EventType`.", metadata=costs(entries=len(EventType)))
    async def notification_preferences(self, info: Info) -> list[NotificationPreference]:
        context = info.context
        chosen = await notifications.preferences(context.database, context.signed_in_viewer)
        return [NotificationPreference.of(event_type, chosen.get(event_type)) for event_type in EventType]
