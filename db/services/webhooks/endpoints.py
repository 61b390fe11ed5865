"""Create, change and delete addresses; send tests, and send again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select
from sqlalchemy import update as update_rows

from db.core.audit import differences, ref
from db.core.checks import Checks
from db.core.outbound import is_allowed, is_public, literal_address, parse_networks
from db.core.policy import visible
from db.core.viewer import UserRole, Viewer
from db.core.work import Work
from db.errors import NotFound, QuotaExceeded, WrongState, invalid
from db.services import sealing
from db.services.webhooks import signing
from db.settings import StateSettings, state_settings
from db.stores.outbound import not_public, parse_url
from db.tables import WebhookDelivery, WebhookEndpoint
from db.tables.notifications import EventType
from db.tables.webhooks import OPEN_DELIVERIES, DeliveryStatus, WebhookProvider

MAX_ENDPOINTS = 20  # of an account
OVERLAP = timedelta(days=1)  # for which the secret before is used too
_AUDITED = ("name", "description", "provider", "events")  # the address of a chat is a secret


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """An address to be created."""

    name: str
    url: str
    events: Collection[EventType]
    provider: WebhookProvider = WebhookProvider.GENERIC
    description: str | None = None
    owner_id: UUID | None = None
    """A team, or the viewer if None."""


def shown_url(viewer: Viewer, owner_id: UUID, url: str) -> str:
    """The address as a viewer sees it: who may only read in the team sees its host alone, as whoever has the address of a chat can write there."""
    if viewer.sees_all or viewer.role_in(owner_id) is not UserRole.VIEWER:
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}/…"


async def create(work: Work, new: NewEndpoint) -> tuple[UUID, str]:
    """Return the id and the secret. Raises `InvalidInput`, `QuotaExceeded` or `NoSecretKey`."""
    work.viewer.require_write()
    owner_id = work.viewer.owner_of_new(new.owner_id)
    checks = Checks()
    url = _checked_url(checks, new.url)
    values = {"name": checks.name(new.name, "name"), "description": new.description, "provider": new.provider}
    checks.text(new.description, "description", length=1_000)
    values |= {"url": url, "events": _checked_events(checks, new.events)}
    checks.raise_if_invalid()
    await _lock_addresses(work, owner_id)
    count: int = await work.scalar(select(func.count()).where(WebhookEndpoint.owner_id == owner_id))
    if count >= MAX_ENDPOINTS:
        raise QuotaExceeded("webhook endpoints", MAX_ENDPOINTS, count)
    await _require_other_address(work, owner_id, url)
    secret = signing.new_secret()
    sealed = sealing.seal(state_settings(), signing.PURPOSE, owner_id, secret)
    row = {"owner_id": owner_id, "created_by_id": work.viewer.maker_id, "secret": sealed, **values}
    endpoint_id: UUID = await work.scalar(insert(WebhookEndpoint).values(row).returning(WebhookEndpoint.id))
    work.record("create_webhook_endpoint", "webhook", endpoint_id, owner_id, after={name: values[name] for name in _AUDITED})
    return endpoint_id, signing.shown(secret)


async def update(work: Work, endpoint_id: UUID, changes: dict[str, Any]) -> UUID:
    """`changes` holds the fields to set; `is_active` switches it off, or on again. Raises `NotFound` or `InvalidInput`."""
    work.viewer.require_write()
    endpoint = await _lock(work, endpoint_id)
    checks = Checks()
    values = dict(changes)
    checks.new_name(values, "A webhook endpoint")
    for name in ("url", "events", "is_active"):
        if name in values and values[name] is None:
            checks.add(
                {"is_active": "isActive"}.get(name, name), message="This cannot be cleared; leave the field out to keep it as it is."
            )
    if values.get("description") is not None:
        checks.text(values["description"], "description", length=1_000)
    if values.get("url") is not None:
        values["url"] = _checked_url(checks, values["url"])
    if values.get("events") is not None:
        values["events"] = _checked_events(checks, values["events"])
    checks.raise_if_invalid()
    if "url" in values and values["url"] != endpoint.url:
        await _lock_addresses(work, endpoint.owner_id)
        await _require_other_address(work, endpoint.owner_id, values["url"])
    audited = {name: value for name, value in values.items() if name in _AUDITED}
    before, after = differences(endpoint, audited)
    is_active = values.pop("is_active", None)
    if is_active is not None and is_active != (endpoint.disabled_at is None):
        values |= {"disabled_at": None if is_active else func.now(), "failing_since": None, "consecutive_failures": 0}
        before, after = {**(before or {}), "is_active": not is_active}, {**(after or {}), "is_active": is_active}
        if not is_active:
            await abandon(work, endpoint_id)
    if "url" in values and values["url"] != endpoint.url:
        after = {**(after or {}), "url": "changed"}
    if values:
        await work.run(update_rows(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id).values(values))
        work.record("update_webhook_endpoint", "webhook", endpoint_id, endpoint.owner_id, before, after)
    return endpoint_id


async def _lock_addresses(work: Work, owner_id: UUID) -> None:
    """Nobody adds an address of the account, or changes one, until the end of the transaction."""
    await work.run(select(func.pg_advisory_xact_lock(func.hashtextextended(f"webhooks {owner_id}", 0))))


async def _require_other_address(work: Work, owner_id: UUID, url: str) -> None:
    """Raise `InvalidInput` if the account has this address already: it would get each event twice."""
    same = await work.first(select(WebhookEndpoint.id).where(WebhookEndpoint.owner_id == owner_id, WebhookEndpoint.url == url))
    if same is not None:
        raise invalid("url", message=f"{ref('webhook', same.id)} has this address already. Change its events, or switch it on.")


async def abandon(work: Work, endpoint_id: UUID) -> None:
    """Give up the open deliveries of an endpoint that is switched off."""
    is_open = (WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.status.in_(OPEN_DELIVERIES))
    await work.run(update_rows(WebhookDelivery).where(*is_open).values(status=DeliveryStatus.ABANDONED))


async def remove(work: Work, endpoint_id: UUID) -> None:
    """Delete an endpoint with its deliveries. Raises `NotFound`."""
    work.viewer.require_write()
    endpoint = await _lock(work, endpoint_id)
    await work.run(delete(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id))
    before = {name: getattr(endpoint, name) for name in _AUDITED}
    work.record("delete_webhook_endpoint", "webhook", endpoint_id, endpoint.owner_id, before=before)


async def rotate_secret(work: Work, endpoint_id: UUID) -> str:
    """Return a new secret; what is sent in the next day is signed with the one before as well. Raises `NotFound` or `NoSecretKey`."""
    work.viewer.require_write()
    endpoint = await _lock(work, endpoint_id)
    secret = signing.new_secret()
    values = {
        "secret": sealing.seal(state_settings(), signing.PURPOSE, endpoint.owner_id, secret),
        "previous_secret": endpoint.secret,
        "previous_secret_until": func.now() + OVERLAP,
    }
    await work.run(update_rows(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id).values(values))
    work.record("rotate_webhook_secret", "webhook", endpoint_id, endpoint.owner_id)
    return signing.shown(secret)


def secrets_of(settings: StateSettings, endpoint: Row[Any]) -> list[bytes]:
    """The secrets to sign with, the current one first; `endpoint` has the previous one only while it is used. Raises `NoSecretKey`."""
    sealed = [endpoint.secret, *([endpoint.previous_secret] if endpoint.previous_secret is not None else [])]
    opened = [sealing.unseal(settings, signing.PURPOSE, endpoint.owner_id, each) for each in sealed]
    return [secret for secret in opened if secret is not None]


async def send_test(work: Work, endpoint_id: UUID, event_type: EventType | None) -> UUID:
    """Add a delivery of an event that did not happen; return its id. Raises `NotFound`, or `WrongState` for an endpoint that is switched off."""
    work.viewer.require_write()
    endpoint = await _lock(work, endpoint_id)
    _require_active(endpoint)
    chosen = event_type or EventType(endpoint.events[0])
    data = {"kind": "train", "number": 1, "alias": "production"}
    values = {"endpoint_id": endpoint_id, "event_id": func.uuidv7(), "event_type": chosen, "name": "a test", "data": data, "is_test": True}
    delivery_id: UUID = await work.scalar(insert(WebhookDelivery).values(values).returning(WebhookDelivery.id))
    await _set_due(work, endpoint_id)
    work.record("send_test_webhook", "webhook", endpoint_id, endpoint.owner_id, after={"event_type": chosen})
    return delivery_id


async def redeliver(work: Work, delivery_id: UUID) -> UUID:
    """Send a delivery again, under the same event id. Raises `NotFound`, or `WrongState` if it is still tried, or the endpoint is switched off."""
    work.viewer.require_write()
    is_visible = (WebhookDelivery.id == delivery_id, visible(WebhookDelivery, work.viewer))
    endpoint_id = await work.scalar(select(WebhookDelivery.endpoint_id).where(*is_visible))
    if endpoint_id is None:
        raise NotFound(str(delivery_id))
    endpoint = await _lock(work, endpoint_id)
    _require_active(endpoint)
    again = {"status": DeliveryStatus.PENDING, "attempts": 0, "run_after": func.now()}
    statement = update_rows(WebhookDelivery).where(WebhookDelivery.id == delivery_id, WebhookDelivery.status.not_in(OPEN_DELIVERIES))
    if not await work.run(statement.values(again)):
        status = await work.scalar(select(WebhookDelivery.status).where(WebhookDelivery.id == delivery_id))
        raise WrongState(status.name, "The delivery is still tried by itself; `nextAttemptAt` says when.")
    await _set_due(work, endpoint_id)
    work.record("redeliver_webhook", "webhook", endpoint_id, endpoint.owner_id)
    return delivery_id


def _require_active(endpoint: Row[Any]) -> None:
    if endpoint.disabled_at is not None:
        raise WrongState("DISABLED", "The endpoint is switched off; switch it on by `updateWebhookEndpoint` with `isActive: true`.")


async def _set_due(work: Work, endpoint_id: UUID) -> None:
    due = func.least(WebhookEndpoint.due_at, func.now())  # which leaves nulls out
    await work.run(update_rows(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id).values(due_at=due))


async def _lock(work: Work, endpoint_id: UUID) -> Row[Any]:
    statement = select(*WebhookEndpoint.__table__.c).where(WebhookEndpoint.id == endpoint_id, visible(WebhookEndpoint, work.viewer))
    row = await work.first(statement.with_for_update())
    if row is None:
        raise NotFound(str(endpoint_id))
    return row


def _checked_url(checks: Checks, url: str) -> str:
    allowed = parse_networks(state_settings().webhook_allowed_networks)
    try:
        parsed = parse_url(url, insecure=bool(allowed))
    except ValueError as error:
        checks.add("url", message=str(error))
        return url
    # A name is checked with each request, by what it resolves to then.
    address = literal_address(parsed.host)
    if address is not None and not (is_allowed(address, allowed) or is_public(address)):
        checks.add("url", message=not_public(parsed.host))
    return str(parsed)


def _checked_events(checks: Checks, events: Collection[EventType]) -> list[str]:
    if not events:
        checks.add("events", message="Name one event or more.")
    return sorted({event_type.value for event_type in events})
