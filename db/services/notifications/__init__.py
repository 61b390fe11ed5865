"""Notifications: dispatched from the outbox to those whom an event concerns, as their preferences say."""

from db.services.notifications.dispatching import dispatch
from db.services.notifications.preferences import ALWAYS, ON_BY_DEFAULT, set_preference
from db.services.notifications.reading import mark_read
from db.services.notifications.texts import body_of, title_of

__all__ = ["ALWAYS", "ON_BY_DEFAULT", "body_of", "dispatch", "mark_read", "set_preference", "title_of"]
