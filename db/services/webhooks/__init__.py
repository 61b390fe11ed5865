"""Webhooks: events of an account are sent to addresses that it names, signed, at least once, in the order of each subject."""

from db.services.webhooks.bodies import body_of
from db.services.webhooks.endpoints import (
    MAX_ENDPOINTS,
    NewEndpoint,
    create,
    redeliver,
    remove,
    rotate_secret,
    send_test,
    shown_url,
    update,
)
from db.services.webhooks.sending import claim, serve

__all__ = [
    "MAX_ENDPOINTS",
    "NewEndpoint",
    "body_of",
    "claim",
    "create",
    "redeliver",
    "remove",
    "rotate_secret",
    "send_test",
    "serve",
    "shown_url",
    "update",
]
