"""The filter of deliveries, and inputs of mutations on webhooks."""

from typing import Any

import strawberry
from strawberry import ID, Maybe

from graph.core.filters import DateTimeFilter, Filter, reference_to_any
from graph.notifications.enums import EventType
from graph.webhooks.enums import DeliveryStatus, WebhookProvider

_URL = "An address of the public Internet that begins with https://, without user and password. Redirects are not followed."


@strawberry.input(description="Conditions on deliveries, all of which must hold. A list of values means any of them.")
class DeliveryFilter(Filter):
    status: list[DeliveryStatus] | None = strawberry.field(description="How far it has come.")
    event_type: list[EventType] | None = strawberry.field(description="What it tells.")
    created_at: DateTimeFilter | None = strawberry.field(description="When the event happened.")
    subject_id: ID | None = reference_to_any(description="What it is about.")


@strawberry.input(description="The endpoint to create.")
class CreateWebhookEndpointInput:
    name: str = strawberry.field(description="A name to recognise it by; 1 to 200 characters.")
    url: str = strawberry.field(description=_URL)
    events: list[EventType] = strawberry.field(description="The events of the account that are sent, one or more.")
    provider: WebhookProvider = strawberry.field(default=WebhookProvider.GENERIC, description="Whose format the bodies have.")
    description: str | None = strawberry.field(default=None, description="What it is for, in up to 1,000 characters.")
    owner_id: ID | None = strawberry.field(
        default=None, description="Whose events are sent: a team's in which you are MEMBER or ADMIN; yours if left out."
    )


@strawberry.input(description="Changes to an endpoint. Omitted fields stay unchanged.")
class UpdateWebhookEndpointInput:
    id: ID = strawberry.field(description="The endpoint.")
    name: Maybe[str | None] = strawberry.field(description="A new name; it cannot be cleared.")
    description: Maybe[str | None] = strawberry.field(description="What it is for; null for nothing.")
    url: Maybe[str | None] = strawberry.field(description=f"{_URL} It cannot be cleared.")
    events: Maybe[list[EventType] | None] = strawberry.field(description="The events that are sent; they cannot be cleared.")
    is_active: Maybe[bool | None] = strawberry.field(
        description="False to switch it off, which abandons what is not delivered; true to switch it on again. It cannot be cleared."
    )

    def changes(self) -> dict[str, Any]:
        """Return the given fields; None clears one."""
        names = ("name", "description", "url", "events", "is_active")
        return {name: change.value for name in names if (change := getattr(self, name)) is not None}


@strawberry.input(description="The endpoint to delete.")
class DeleteWebhookEndpointInput:
    id: ID = strawberry.field(description="The endpoint.")


@strawberry.input(description="The endpoint that is to have a new secret.")
class RotateWebhookSecretInput:
    id: ID = strawberry.field(description="The endpoint.")


@strawberry.input(description="The test to send.")
class SendTestWebhookInput:
    id: ID = strawberry.field(description="The endpoint.")
    event_type: EventType | None = strawberry.field(
        default=None, description="An event that is sent as if it had happened; the first of the endpoint's if left out."
    )


@strawberry.input(description="The delivery to send again.")
class RedeliverWebhookInput:
    id: ID = strawberry.field(description="The delivery: one that was delivered or abandoned.")
