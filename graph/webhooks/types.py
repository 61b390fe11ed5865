"""Webhook endpoints and their deliveries."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry

from db.queries import accounts
from db.queries import webhooks as queries
from db.services import webhooks
from graph.accounts.types import Profile, User
from graph.core.context import Info
from graph.core.edges import connection, extend, one
from graph.core.ids import Node
from graph.core.paging import Connection
from graph.core.permissions import Scope, scoped
from graph.core.scalars import JSON, Duration
from graph.notifications.enums import EventType
from graph.webhooks.enums import DeliveryStatus, WebhookProvider
from graph.webhooks.inputs import DeliveryFilter


@strawberry.type(
    description="An event as sent to an endpoint: tried up to eight times within about 28 hours, those of one subject in the order of their events. A"
    " receiver may get it more than once, always with the same `webhook-id`."
)
class WebhookDelivery(Node, prefix="delivery", found_by=queries.delivery_by_id, scope=Scope.ACCOUNT):
    endpoint_id: strawberry.Private[UUID]
    owner_id: strawberry.Private[UUID]
    provider: strawberry.Private[WebhookProvider]
    event_id: strawberry.Private[UUID]
    name: strawberry.Private[str | None]
    data: strawberry.Private[Mapping[str, Any]]
    run_after: strawberry.Private[datetime]
    event_type: EventType = strawberry.field(description="What it tells.")
    subject_id: strawberry.ID | None = strawberry.field(description="The id of what it is about; null where that is nothing that has one.")
    is_test: bool = strawberry.field(description="Whether it was asked for by `sendTestWebhook`, so that nothing has happened.")
    status: DeliveryStatus = strawberry.field(description="How far it has come.")
    attempts: int = strawberry.field(description="How often it was tried, since it was last sent again.")
    http_status: int | None = strawberry.field(description="The status of the last answer; null without one.")
    duration: Duration | None = strawberry.field(description="How long the last try took.")
    response_body: str | None = strawberry.field(description="The first 4 KiB of the last answer.")
    error: str | None = strawberry.field(description="Why the last try failed; null if it did not.")
    created_at: datetime = strawberry.field(description="When the event happened, or the test was asked for.")
    delivered_at: datetime | None = strawberry.field(description="When it was last delivered.")

    @strawberry.field(
        description="The id that its header `webhook-id` has in each try, by which a receiver recognises what it has got already."
    )
    def message_id(self) -> str:
        return f"msg_{self.event_id.hex}"

    @strawberry.field(description="The body that is sent, in the endpoint's format: names and ids, nothing of the data.")
    def request_body(self) -> JSON:
        return webhooks.body_of(self)

    @strawberry.field(description="When it is tried next at the earliest; null if it is not tried by itself any more.")
    def next_attempt_at(self) -> datetime | None:
        return self.run_after if self.status in (DeliveryStatus.PENDING, DeliveryStatus.FAILED) else None


@strawberry.type(
    description="An address to which events of an account are sent: to code of yours, signed as Standard Webhooks has it, or to a chat. It is switched off"
    " when nothing but failures came of it for five days."
)
class WebhookEndpoint(Node, prefix="webhook", found_by=queries.endpoint_by_id, scope=Scope.ACCOUNT):
    owner_id: strawberry.Private[UUID]
    created_by_id: strawberry.Private[UUID | None]
    stored_url: strawberry.Private[str]
    event_names: strawberry.Private[Sequence[str]]
    name: str = strawberry.field(description="A name to recognise it by.")
    description: str | None = strawberry.field(description="What it is for.")
    provider: WebhookProvider = strawberry.field(description="Whose format the bodies have.")
    consecutive_failures: int = strawberry.field(description="How many tries have failed since the last one that did not.")
    last_error: str | None = strawberry.field(description="Why the last try failed; null if it did not.")
    last_used_at: datetime | None = strawberry.field(description="When something was sent last.")
    disabled_at: datetime | None = strawberry.field(
        description="When it was switched off: by somebody, or after five days of failures; null while it is active."
    )
    created_at: datetime = strawberry.field(description="When it was created.")
    owner: User = one(accounts.by_id, key="owner_id", description="The account whose events are sent.")
    created_by: Profile | None = one(accounts.profile_by_id, key="created_by_id", description="Who created it.")
    deliveries: Connection[WebhookDelivery] = connection(
        queries.deliveries_of_endpoint,
        filtered_by=DeliveryFilter,
        description="What was sent and is to be sent to it, the newest event first.",
    )

    @strawberry.field(
        description="The address. Who is VIEWER in the team sees its host alone, since whoever has the address of a chat can write there."
    )
    def url(self, info: Info) -> str:
        return webhooks.shown_url(info.context.signed_in_viewer, self.owner_id, self.stored_url)

    @strawberry.field(description="The events that are sent.")
    def events(self) -> list[EventType]:
        return [EventType(name) for name in self.event_names]

    @strawberry.field(description="Whether events are sent; see `disabledAt`.")
    def is_active(self) -> bool:
        return self.disabled_at is None


extend(
    User,
    "webhook_endpoints",
    Connection[WebhookEndpoint],
    connection(
        queries.of_owner, metadata=scoped(Scope.ACCOUNT), description="The addresses to which the account's events are sent, at most 20."
    ),
)
