"""Queries of webhooks; none selects a secret."""

from __future__ import annotations

from sqlalchemy import select

from db.core.batch import rows_by_key
from db.core.criteria import Filters
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import WebhookDelivery, WebhookEndpoint

_INTERNAL = {"secret", "previous_secret", "previous_secret_until", "failing_since", "due_at", "claimed_until", "url", "events"}
_COLUMNS = [column for column in WebhookEndpoint.__table__.c if column.name not in _INTERNAL]


def endpoints(viewer: Viewer) -> Rows:
    """The addresses that a viewer may see."""
    columns = (*_COLUMNS, WebhookEndpoint.url.label("stored_url"), WebhookEndpoint.events.label("event_names"))
    return select(*columns).where(visible(WebhookEndpoint, viewer))


endpoint_by_id = rows_by_key(endpoints, WebhookEndpoint.id)
listing = Listing(endpoints, lambda _: Sort("createdAt", WebhookEndpoint.created_at, WebhookEndpoint.id))
of_owner = listing.under(WebhookEndpoint.owner_id)


def deliveries(viewer: Viewer) -> Rows:
    """The deliveries that a viewer may see, each with the format and the owner of its address."""
    return (
        select(WebhookDelivery.__table__, WebhookEndpoint.provider, WebhookEndpoint.owner_id)
        .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
        .where(visible(WebhookDelivery, viewer))
    )


delivery_by_id = rows_by_key(deliveries, WebhookDelivery.id)
deliveries_of_endpoint = Listing(
    deliveries, lambda _: Sort("createdAt", WebhookDelivery.created_at, WebhookDelivery.id), Filters(WebhookDelivery)
).under(WebhookDelivery.endpoint_id)
