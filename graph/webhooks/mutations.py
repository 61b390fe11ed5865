"""Mutations on webhooks."""

from typing import Annotated
from uuid import UUID

import strawberry
from strawberry import ID

from db.queries import webhooks as queries
from db.services import webhooks
from graph.core.context import Info
from graph.core.edges import one
from graph.core.ids import decode, owner_key
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidInput, NotFound, QuotaExceeded, WrongState
from graph.webhooks.inputs import (
    CreateWebhookEndpointInput,
    DeleteWebhookEndpointInput,
    RedeliverWebhookInput,
    RotateWebhookSecretInput,
    SendTestWebhookInput,
    UpdateWebhookEndpointInput,
)
from graph.webhooks.types import WebhookDelivery, WebhookEndpoint

_SHOWN_ONCE = "The secret that messages are signed with, `whsec_…`. It is shown this once: keep it where your receiver finds it."


@strawberry.type(description="The endpoint was created; what happens from now on is sent to it.")
class CreateWebhookEndpointPayload:
    endpoint_id: strawberry.Private[UUID]
    secret: str = strawberry.field(description=_SHOWN_ONCE)
    endpoint: WebhookEndpoint = one(queries.endpoint_by_id, key="endpoint_id", description="The new endpoint.")


@strawberry.type(description="The endpoint was changed.")
class UpdateWebhookEndpointPayload:
    endpoint_id: strawberry.Private[UUID]
    endpoint: WebhookEndpoint = one(queries.endpoint_by_id, key="endpoint_id", description="The updated endpoint.")


@strawberry.type(description="The endpoint was deleted, with its deliveries.")
class DeleteWebhookEndpointPayload:
    deleted_id: ID = strawberry.field(description="The id of the deleted endpoint, to remove it from caches.")


@strawberry.type(description="The endpoint has a new secret. For a day, messages are signed with the one before as well.")
class RotateWebhookSecretPayload:
    endpoint_id: strawberry.Private[UUID]
    secret: str = strawberry.field(description=_SHOWN_ONCE)
    endpoint: WebhookEndpoint = one(queries.endpoint_by_id, key="endpoint_id", description="The endpoint.")


@strawberry.type(description="The test will be sent at once.")
class SendTestWebhookPayload:
    delivery_id: strawberry.Private[UUID]
    delivery: WebhookDelivery = one(queries.delivery_by_id, key="delivery_id", description="The delivery, which tells what came of it.")


@strawberry.type(description="The delivery will be sent again at once.")
class RedeliverWebhookPayload:
    delivery_id: strawberry.Private[UUID]
    delivery: WebhookDelivery = one(queries.delivery_by_id, key="delivery_id", description="The delivery, with the same message id.")


CreateWebhookEndpointResult = Annotated[
    CreateWebhookEndpointPayload | InvalidInput | QuotaExceeded,
    strawberry.union("CreateWebhookEndpointResult", description="The possible results of `createWebhookEndpoint`."),
]
UpdateWebhookEndpointResult = Annotated[
    UpdateWebhookEndpointPayload | NotFound | InvalidInput,
    strawberry.union("UpdateWebhookEndpointResult", description="The possible results of `updateWebhookEndpoint`."),
]
DeleteWebhookEndpointResult = Annotated[
    DeleteWebhookEndpointPayload | NotFound,
    strawberry.union("DeleteWebhookEndpointResult", description="The possible results of `deleteWebhookEndpoint`."),
]
RotateWebhookSecretResult = Annotated[
    RotateWebhookSecretPayload | NotFound,
    strawberry.union("RotateWebhookSecretResult", description="The possible results of `rotateWebhookSecret`."),
]
SendTestWebhookResult = Annotated[
    SendTestWebhookPayload | NotFound | WrongState,
    strawberry.union("SendTestWebhookResult", description="The possible results of `sendTestWebhook`."),
]
RedeliverWebhookResult = Annotated[
    RedeliverWebhookPayload | NotFound | WrongState,
    strawberry.union("RedeliverWebhookResult", description="The possible results of `redeliverWebhook`."),
]


@strawberry.type
class WebhookMutations:
    @mutation(scope=Scope.ACCOUNT, description="Have events of an account sent to an address; at most 20 addresses for an account.")
    async def create_webhook_endpoint(
        self, info: Info, input: Annotated[CreateWebhookEndpointInput, strawberry.argument(description="The endpoint to create.")]
    ) -> CreateWebhookEndpointResult:
        new_endpoint = webhooks.NewEndpoint(
            input.name, input.url, input.events, input.provider, input.description, owner_key(input.owner_id)
        )
        async with info.context.work() as work:
            endpoint_id, secret = await webhooks.create(work, new_endpoint)
        return CreateWebhookEndpointPayload(endpoint_id=endpoint_id, secret=secret)

    @mutation(scope=Scope.ACCOUNT, description="Change an endpoint, switch it off, or on again.")
    async def update_webhook_endpoint(
        self, info: Info, input: Annotated[UpdateWebhookEndpointInput, strawberry.argument(description="The changes.")]
    ) -> UpdateWebhookEndpointResult:
        async with info.context.work() as work:
            endpoint_id = await webhooks.update(work, decode("webhook", input.id), input.changes())
        return UpdateWebhookEndpointPayload(endpoint_id=endpoint_id)

    @mutation(scope=Scope.ACCOUNT, description="Delete an endpoint with its deliveries. What is being sent may still arrive.")
    async def delete_webhook_endpoint(
        self, info: Info, input: Annotated[DeleteWebhookEndpointInput, strawberry.argument(description="The endpoint to delete.")]
    ) -> DeleteWebhookEndpointResult:
        async with info.context.work() as work:
            await webhooks.remove(work, decode("webhook", input.id))
        return DeleteWebhookEndpointPayload(deleted_id=input.id)

    @mutation(scope=Scope.ACCOUNT, description="Give an endpoint a new secret. The one before stays valid for a day.")
    async def rotate_webhook_secret(
        self, info: Info, input: Annotated[RotateWebhookSecretInput, strawberry.argument(description="The endpoint.")]
    ) -> RotateWebhookSecretResult:
        endpoint_id = decode("webhook", input.id)
        async with info.context.work() as work:
            secret = await webhooks.rotate_secret(work, endpoint_id)
        return RotateWebhookSecretPayload(endpoint_id=endpoint_id, secret=secret)

    @mutation(scope=Scope.ACCOUNT, description="Send an event that has not happened to an endpoint, to see what comes of it.")
    async def send_test_webhook(
        self, info: Info, input: Annotated[SendTestWebhookInput, strawberry.argument(description="The test to send.")]
    ) -> SendTestWebhookResult:
        async with info.context.work() as work:
            delivery_id = await webhooks.send_test(work, decode("webhook", input.id), input.event_type)
        return SendTestWebhookPayload(delivery_id=delivery_id)

    @mutation(scope=Scope.ACCOUNT, description="Send a delivery again that was delivered or abandoned, with the same message id.")
    async def redeliver_webhook(
        self, info: Info, input: Annotated[RedeliverWebhookInput, strawberry.argument(description="The delivery to send again.")]
    ) -> RedeliverWebhookResult:
        async with info.context.work() as work:
            delivery_id = await webhooks.redeliver(work, decode("delivery", input.id))
        return RedeliverWebhookPayload(delivery_id=delivery_id)
