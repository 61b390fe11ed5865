"""The filter of mails."""

import strawberry

from graph.core.filters import DateTimeFilter, Filter
from graph.mail.enums import EmailStatus
from graph.notifications.enums import EventType


@strawberry.input(description="Conditions on mails, all of which must hold. A list of values means any of them.")
class EmailMessageFilter(Filter):
    status: list[EmailStatus] | None = strawberry.field(description="How far it has come.")
    event_type: list[EventType] | None = strawberry.field(
        description="The event that it tells of; digests and most mails of accounts have none."
    )
    created_at: DateTimeFilter | None = strawberry.field(description="When it was written.")
