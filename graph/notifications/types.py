"""Notifications, and preferences for them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry

from db.errors import Forbidden, MissingScope
from db.queries import accounts
from db.queries import notifications as queries
from db.services import notifications
from graph.accounts.queries import load_node
from graph.accounts.types import Profile
from graph.core.context import Info
from graph.core.edges import one
from graph.core.ids import Node
from graph.core.permissions import Scope
from graph.core.scalars import BigInt
from graph.notifications.enums import EmailFrequency, EventType


@strawberry.type(
    description="An event that you are told of. One about a team is seen as long as you are in it. It holds names and ids, as they were when it"
    " happened, and nothing of the data."
)
class Notification(Node, prefix="notification", found_by=queries.by_id, scope=Scope.READ):
    account_id: strawberry.Private[UUID]
    name: strawberry.Private[str | None]
    data: strawberry.Private[Mapping[str, Any]]
    sequence: BigInt = strawberry.field(description="Its number among yours: 1, 2, 3 and so on; `notificationAdded` goes on after one.")
    type: EventType = strawberry.field(description="What has happened.")
    subject_id: strawberry.ID | None = strawberry.field(
        description="The id of what it is about, whether or not that still exists; null where it is about nothing that has one."
    )
    created_at: datetime = strawberry.field(description="When it happened.")
    read_at: datetime | None = strawberry.field(description="When you marked it as read; null if you did not.")
    account: Profile | None = one(
        accounts.profile_by_id, key="account_id", description="Whose it is that something happened to: you, or a team of yours."
    )

    @strawberry.field(description="It in one line, with the name of its subject.")
    def title(self) -> str:
        return notifications.title_of(self.type, self.name, self.data)

    @strawberry.field(description="A sentence more, with the id of its subject.")
    def body(self) -> str:
        return notifications.body_of(self.type, self.subject_id, self.data)

    @strawberry.field(
        description="What it is about; null if there is nothing, it does not exist any more, or your API key lacks the scope to read it."
    )
    async def subject(self, info: Info) -> Node | None:
        if self.subject_id is None:
            return None
        try:
            return await load_node(info.context, self.subject_id)
        except (Forbidden, MissingScope):
            return None


@strawberry.type(description="How you are told of an event.")
class NotificationPreference:
    event_type: EventType = strawberry.field(description="The event.")
    in_app: bool = strawberry.field(description="Whether it is among your notifications.")
    email: bool = strawberry.field(description="Whether you are mailed of it, at once or in a digest.")
    email_frequency: EmailFrequency = strawberry.field(description="When you are mailed of it.")
    webhook: bool = strawberry.field(description="Whether it is sent to your own webhooks that are for it; a team's are not concerned.")
    is_default: bool = strawberry.field(description="Whether you left it as it is by default.")

    @classmethod
    def of(cls, event_type: EventType, chosen: queries.Preference | None) -> "NotificationPreference":
        shown = chosen or queries.Preference(event_type in notifications.ON_BY_DEFAULT, webhook=True)
        frequency = notifications.email_frequency(event_type, shown.email_frequency)
        return cls(
            event_type=event_type,
            in_app=shown.in_app,
            email=frequency is not EmailFrequency.OFF,
            email_frequency=frequency,
            webhook=shown.webhook,
            is_default=chosen is None,
        )
