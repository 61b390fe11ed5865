"""The endings of mutations on notifications."""

from __future__ import annotations

from tests.endings import UNKNOWN, Endings, World, endings_of
from tests.factories import platform


@endings_of("markNotificationsRead")
async def mark_notifications_read(world: World) -> Endings:
    await platform.fill(world.database, "ada", 1)
    await platform.add_states(world.database, "ada")
    page = await world.ada.one("{ notifications(first: 2, filter: {isRead: false}) { edges { node { id } } } }")
    yield "MarkNotificationsReadPayload", {"ids": [edge["node"]["id"] for edge in page["edges"]], "before": None}
    yield "NotFound", {"ids": [f"notification_{UNKNOWN}"]}
    yield "InvalidInput", {}


@endings_of("setNotificationPreference")
async def set_notification_preference(world: World) -> Endings:
    yield "SetNotificationPreferencePayload", {"eventType": "JOB_COMPLETED", "inApp": True}
    yield "SetNotificationPreferencePayload", {"eventType": "JOB_FAILED", "emailFrequency": "DAILY"}
    yield "InvalidInput", {"eventType": "PASSWORD_CHANGED", "inApp": False}
    yield "InvalidInput", {"eventType": "JOB_FAILED", "email": True, "emailFrequency": "OFF"}
