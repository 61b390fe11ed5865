"""The filter of notifications, and inputs of mutations on them."""

from datetime import datetime

import strawberry
from strawberry import ID

from graph.core.filters import DateTimeFilter, Filter, reference, reference_to_any
from graph.notifications.enums import EmailFrequency, EventType


@strawberry.input(description="Conditions on notifications, all of which must hold. A list of values means any of them.")
class NotificationFilter(Filter):
    type: list[EventType] | None = strawberry.field(description="What has happened.")
    is_read: bool | None = strawberry.field(description="Whether you have marked it as read.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it happened.")
    subject_id: ID | None = reference_to_any(description="What it is about.")
    account_id: ID | None = reference("user", description="Whose it is: you, or a team of yours.")


@strawberry.input(description="Which notifications have been read: `ids` or `before`, one of both.")
class MarkNotificationsReadInput:
    ids: list[ID] | None = strawberry.field(default=None, description="These, at most 1,000.")
    before: datetime | None = strawberry.field(default=None, description="All of what happened before this time.")


@strawberry.input(description="How you want to be told of an event. It holds for what happens from now on.")
class SetNotificationPreferenceInput:
    event_type: EventType = strawberry.field(description="The event.")
    in_app: bool | None = strawberry.field(
        default=None, description="Whether it is to be among your notifications; left out, that stays as it is."
    )
    webhook: bool | None = strawberry.field(
        default=None, description="Whether it is to be sent to your own webhooks that are for it; left out, that stays as it is."
    )
    email: bool | None = strawberry.field(
        default=None, description="False for no mails, as by OFF; true for mails at once, or in the digest that it is in already."
    )
    email_frequency: EmailFrequency | None = strawberry.field(
        default=None,
        description="When it is to be mailed; left out, that stays as it is. LOGIN_NEW_DEVICE, PASSWORD_CHANGED and TEAM_INVITED are always INSTANT.",
    )
