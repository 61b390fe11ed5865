"""Webhooks: addresses to which an account's events are sent, and the deliveries to them."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, LargeBinary, Text, UniqueConstraint, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, created_by_column, enum_column, filter_index, jsonb_column, now_column, uuid_primary_key
from db.core.policy import Owned, Through
from db.tables.notifications import EventType

_IS_OPEN = text("status IN ('pending', 'failed')")


class WebhookProvider(StrEnum):
    """Whose format the bodies have."""

    GENERIC = "generic"
    SLACK = "slack"
    DISCORD = "discord"
    TEAMS = "teams"


class DeliveryStatus(StrEnum):
    """How far a delivery has come."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    ABANDONED = "abandoned"


OPEN_DELIVERIES = (DeliveryStatus.PENDING, DeliveryStatus.FAILED)


class WebhookEndpoint(Table, policy=Owned()):
    """An address, with the events that are sent to it.

    `secret` and, until `previous_secret_until`, `previous_secret` are sealed, see `db.services.sealing`. `due_at` is not after the time at which a
    delivery to it is due, null if none is open; `claimed_until` is until when one worker delivers to it. `failing_since` is null unless the last try
    failed.
    """

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        filter_index("webhook_endpoints", "owner_id"),
        filter_index("webhook_endpoints"),
        Index("ix_webhook_endpoints_due", "due_at", postgresql_where=text("disabled_at IS NULL AND due_at IS NOT NULL")),
        CheckConstraint("consecutive_failures >= 0", name="failures_not_negative"),
        CheckConstraint("(previous_secret IS NULL) = (previous_secret_until IS NULL)", name="previous_secret_has_an_end"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_by_id: Mapped[UUID | None] = created_by_column()
    name: Mapped[str]
    description: Mapped[str | None]
    url: Mapped[str]
    provider: Mapped[WebhookProvider] = enum_column("provider", WebhookProvider)
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    previous_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_secret_until: Mapped[datetime | None]
    consecutive_failures: Mapped[int] = mapped_column(server_default="0")
    failing_since: Mapped[datetime | None]
    last_error: Mapped[str | None]
    last_used_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    claimed_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = now_column()


class WebhookDelivery(Table, policy=Through("endpoint_id")):
    """An event as sent to one address: tried until it is delivered or abandoned, those of one subject in the order of their events.

    `event_id` is the id of the event, by which a receiver knows that it has got it already. `run_after` is when it is tried next.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "event_id"),
        filter_index("webhook_deliveries", "endpoint_id"),
        filter_index("webhook_deliveries", "endpoint_id", "status"),
        Index("ix_webhook_deliveries_open", "endpoint_id", "event_id", postgresql_where=_IS_OPEN),
        Index("ix_webhook_deliveries_open_of_subject", "endpoint_id", "subject_id", "event_id", postgresql_where=_IS_OPEN),
        Index("ix_webhook_deliveries_created_at", "created_at"),
        CheckConstraint("attempts >= 0", name="attempts_not_negative"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    event_id: Mapped[UUID] = mapped_column(Uuid)
    event_type: Mapped[EventType] = enum_column("event_type", EventType)
    subject_id: Mapped[str | None]
    name: Mapped[str | None]
    data: Mapped[dict[str, Any]] = jsonb_column("{}")
    is_test: Mapped[bool] = mapped_column(server_default=text("false"))
    status: Mapped[DeliveryStatus] = enum_column("status", DeliveryStatus, server_default="pending")
    attempts: Mapped[int] = mapped_column(server_default="0")
    run_after: Mapped[datetime] = now_column()
    http_status: Mapped[int | None]
    duration: Mapped[float | None]
    response_body: Mapped[str | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = now_column()
    delivered_at: Mapped[datetime | None]
