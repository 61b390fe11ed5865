"""Mails that people were sent."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import strawberry

from db.queries import mail as queries
from db.services import mail
from db.tables.mail import EmailTemplate
from graph.core.ids import Node
from graph.core.permissions import Scope
from graph.mail.enums import EmailStatus
from graph.notifications.enums import EventType


@strawberry.type(description="A mail to you: of an event, a digest, or about your account. Its text is not kept.")
class EmailMessage(Node, prefix="email", found_by=queries.by_id, scope=Scope.ACCOUNT):
    template_key: strawberry.Private[EmailTemplate]
    name: strawberry.Private[str | None]
    data: strawberry.Private[Mapping[str, Any]]
    recipient: str = strawberry.field(description="The address that it was sent to.")
    event_type: EventType | None = strawberry.field(
        description="The event that it tells of; null for a digest, and for most mails about accounts."
    )
    status: EmailStatus = strawberry.field(description="How far it has come.")
    attempts: int = strawberry.field(description="How often it was tried to send it.")
    error: str | None = strawberry.field(
        description="Why it was not sent, or what the last try or the provider said; null if nothing went wrong."
    )
    created_at: datetime = strawberry.field(description="When it was written.")
    sent_at: datetime | None = strawberry.field(description="When the mail server took it.")
    provider: str | None = strawberry.field(description="The host of the mail server; null before the first try.")
    message_id: str | None = strawberry.field(description="The `Message-ID` in its head; null before the first try.")
    delivered_at: datetime | None = strawberry.field(description="When its delivery was told, if it was.")
    opened_at: datetime | None = strawberry.field(description="When it was told that it was opened, if it was.")
    clicked_at: datetime | None = strawberry.field(description="When it was told that a link in it was opened, if it was.")

    @strawberry.field(description="Its subject; of an event, the title of the notification.")
    def subject(self) -> str:
        return mail.subject_of(self.template_key, self.event_type, self.name, self.data)

    @strawberry.field(
        description="What kind of mail it is: `event`, `daily_digest`, `weekly_digest`, or one about accounts, such as `password_reset`."
    )
    def template(self) -> str:
        return self.template_key.value
