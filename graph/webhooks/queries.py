"""The root query for webhooks."""

import strawberry

from db.queries import webhooks
from graph.core.edges import listing
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.webhooks.types import WebhookEndpoint


@strawberry.type
class WebhookQueries:
    webhook_endpoints: Connection[WebhookEndpoint] = listing(
        webhooks.listing,
        scope=Scope.ACCOUNT,
        description="The addresses to which your events and your teams' are sent, newest first; for admins, everybody's.",
    )
