"""Notifications: dispatched from the outbox to those whom an event concerns, as their preferences say."""

from db.services.notifications.dispatching import dispatch
from db.services.notifications.preferences import (
    ALWAYS,
    MAILED_BY_DEFAULT,
    OF_ACCOUNTS,
    ON_BY_DEFAULT,
    email_frequency,
    set_preference,
    stop_mails,
)
from db.services.notifications.reading import mark_read
from db.services.notifications.texts import body_of, title_of

__all__ = [
    "ALWAYS",
    "MAILED_BY_DEFAULT",
    "OF_ACCOUNTS",
    "ON_BY_DEFAULT",
    "body_of",
    "dispatch",
    "email_frequency",
    "mark_read",
    "set_preference",
    "stop_mails",
    "title_of",
]
