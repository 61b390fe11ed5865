"""The endings of mutations on webhooks."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, update

from db.core.viewer import SYSTEM
from db.services.webhooks import MAX_ENDPOINTS
from db.tables import User, WebhookDelivery, WebhookEndpoint
from db.tables.webhooks import DeliveryStatus, WebhookProvider
from tests.endings import UNKNOWN, Endings, World, endings_of, key_of

_CREATE = "mutation($input: CreateWebhookEndpointInput!) { createWebhookEndpoint(input: $input) { ... on CreateWebhookEndpointPayload { endpoint { id } } } }"
_TEST = "mutation($input: SendTestWebhookInput!) { sendTestWebhook(input: $input) { ... on SendTestWebhookPayload { delivery { id } } } }"
_NEW = {"name": "n", "url": "https://example.invalid/hook", "events": ["JOB_FAILED"], "provider": "GENERIC", "description": "d"}

_CHANGES = {"name": "new", "url": "https://example.invalid/other", "events": ["CREDITS_LOW"], "description": None, "isActive": False}


@endings_of("createWebhookEndpoint")
async def create_webhook_endpoint(world: World) -> Endings:
    yield "CreateWebhookEndpointPayload", _NEW
    yield "InvalidInput", {**_NEW, "url": "ftp://example.invalid"}
    async with world.database.work(SYSTEM) as work:
        owner = await work.scalar(select(User.id).where(User.username == "ada"))
        row: dict[str, Any] = {"owner_id": owner, "name": "n", "url": "https://example.invalid", "provider": WebhookProvider.GENERIC}
        await work.run(insert(WebhookEndpoint).values([row | {"events": ["job_failed"], "secret": b"\1"}] * (MAX_ENDPOINTS - 1)))
    yield "QuotaExceeded", _NEW


@endings_of("updateWebhookEndpoint")
async def update_webhook_endpoint(world: World) -> Endings:
    endpoint = await _created(world)
    yield "UpdateWebhookEndpointPayload", {"id": endpoint, **_CHANGES}
    yield "NotFound", {"id": f"webhook_{UNKNOWN}", "name": "new"}
    yield "InvalidInput", {"id": endpoint, "events": []}


@endings_of("deleteWebhookEndpoint")
async def delete_webhook_endpoint(world: World) -> Endings:
    yield "DeleteWebhookEndpointPayload", {"id": await _created(world)}
    yield "NotFound", {"id": f"webhook_{UNKNOWN}"}


@endings_of("rotateWebhookSecret")
async def rotate_webhook_secret(world: World) -> Endings:
    yield "RotateWebhookSecretPayload", {"id": await _created(world)}
    yield "NotFound", {"id": f"webhook_{UNKNOWN}"}


@endings_of("sendTestWebhook")
async def send_test_webhook(world: World) -> Endings:
    endpoint = await _created(world)
    yield "SendTestWebhookPayload", {"id": endpoint, "eventType": "JOB_FAILED"}
    yield "NotFound", {"id": f"webhook_{UNKNOWN}"}
    await world.ada.one("mutation($id: ID!) { updateWebhookEndpoint(input: {id: $id, isActive: false}) { __typename } }", id=endpoint)
    yield "WrongState", {"id": endpoint}


@endings_of("redeliverWebhook")
async def redeliver_webhook(world: World) -> Endings:
    delivery = (await world.ada.one(_TEST, input={"id": await _created(world)}))["delivery"]["id"]
    async with world.database.work(SYSTEM) as work:
        is_this = WebhookDelivery.id == key_of(delivery)
        await work.run(update(WebhookDelivery).where(is_this).values(status=DeliveryStatus.ABANDONED))
    yield "RedeliverWebhookPayload", {"id": delivery}
    yield "NotFound", {"id": f"delivery_{UNKNOWN}"}
    async with world.database.work(SYSTEM) as work:
        await work.run(update(WebhookEndpoint).values(disabled_at=WebhookEndpoint.created_at))
    yield "WrongState", {"id": delivery}


async def _created(world: World) -> str:
    return (await world.ada.one(_CREATE, input=_NEW))["endpoint"]["id"]
