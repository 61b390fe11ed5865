"""Mails to users: written as rows with the change that they tell of, and sent by a maintenance task."""

from db.services.mail.composing import ComposedMail, compose
from db.services.mail.sending import queue_mail, send_pending

__all__ = ["ComposedMail", "compose", "queue_mail", "send_pending"]
