"""Mails to users: written as rows with the change that they tell of, and sent by a maintenance task."""

from db.services.mail.composing import compose
from db.services.mail.digests import make_digests
from db.services.mail.rendering import ComposedMail
from db.services.mail.sending import queue_mail, send_pending
from db.services.mail.subjects import subject_of

__all__ = ["ComposedMail", "compose", "make_digests", "queue_mail", "send_pending", "subject_of"]
