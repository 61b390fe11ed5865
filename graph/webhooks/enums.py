"""The enums of webhooks, published in the schema. `graph` imports them from here, so that none is used without a description."""

from __future__ import annotations

from db.tables.webhooks import DeliveryStatus, WebhookProvider
from graph.core.enums import describe

__all__ = ["DeliveryStatus", "WebhookProvider"]

describe(
    WebhookProvider,
    "Whose format the bodies of a webhook have.",
    GENERIC="Standard Webhooks: an object with `type`, `timestamp` and `data`, signed in the headers.",
    SLACK="An incoming webhook of Slack.",
    DISCORD="A webhook of a Discord channel.",
    TEAMS="A workflow of Microsoft Teams that posts adaptive cards.",
)
describe(
    DeliveryStatus,
    "How far a delivery has come.",
    PENDING="It waits for its first try, perhaps behind an earlier one of the same subject.",
    DELIVERED="The receiver answered with a status from 200 to 299.",
    FAILED="The last try failed; `nextAttemptAt` is when it is tried again.",
    ABANDONED="Eight tries failed, or the endpoint was switched off. `redeliverWebhook` sends it again.",
)
