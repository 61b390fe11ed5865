"""Mutations of one's own notifications and preferences; whoever may only read has them too."""

from typing import Annotated

import strawberry

from db.queries import notifications as queries
from db.services import notifications
from graph.core.context import Info
from graph.core.ids import decode
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidInput, NotFound
from graph.notifications.inputs import MarkNotificationsReadInput, SetNotificationPreferenceInput
from graph.notifications.types import NotificationPreference


@strawberry.type(description="The notifications were marked as read.")
class MarkNotificationsReadPayload:
    marked: int = strawberry.field(description="How many of them had not been read before.")
    unread_notifications: int = strawberry.field(description="How many of yours are not read now, up to 1,000.")


@strawberry.type(description="The preference was set.")
class SetNotificationPreferencePayload:
    preference: NotificationPreference = strawberry.field(description="How you are told of the event from now on.")


MarkNotificationsReadResult = Annotated[
    MarkNotificationsReadPayload | NotFound | InvalidInput,
    strawberry.union("MarkNotificationsReadResult", description="The possible results of `markNotificationsRead`."),
]
SetNotificationPreferenceResult = Annotated[
    SetNotificationPreferencePayload | InvalidInput,
    strawberry.union("SetNotificationPreferenceResult", description="The possible results of `setNotificationPreference`."),
]


@strawberry.type
class NotificationMutations:
    @mutation(
        scope=Scope.ACCOUNT,
        description="Mark notifications of yours as read: some, or all that are older than a time. All are marked, or none.",
    )
    async def mark_notifications_read(
        self, info: Info, input: Annotated[MarkNotificationsReadInput, strawberry.argument(description="Which ones.")]
    ) -> MarkNotificationsReadResult:
        ids = None if input.ids is None else {decode("notification", id_) for id_ in input.ids}
        context = info.context
        async with context.work() as work:
            marked = await notifications.mark_read(work, ids, input.before)
        unread = await queries.unread(context.database, context.signed_in_viewer)
        return MarkNotificationsReadPayload(marked=marked, unread_notifications=unread)

    @mutation(scope=Scope.ACCOUNT, description="Choose whether and how you are told of an event.")
    async def set_notification_preference(
        self, info: Info, input: Annotated[SetNotificationPreferenceInput, strawberry.argument(description="The event and the choice.")]
    ) -> SetNotificationPreferenceResult:
        async with info.context.work() as work:
            chosen = await notifications.set_preference(
                work, input.event_type, in_app=input.in_app, webhook=input.webhook, email=input.email, frequency=input.email_frequency
            )
        return SetNotificationPreferencePayload(preference=NotificationPreference.of(input.event_type, chosen))
