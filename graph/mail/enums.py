"""The enum of mails, published in the schema. `graph` imports it from here, so that it is not used without a description."""

from __future__ import annotations

from db.tables.mail import EmailStatus
from graph.core.enums import describe

__all__ = ["EmailStatus"]

describe(
    EmailStatus,
    "How far a mail has come. What comes after SENT is known only where the mail server's provider tells it.",
    PENDING="It waits to be sent, perhaps for another try; `error` says why the last one failed.",
    SENDING="It is being sent.",
    SENT="The mail server took it.",
    FAILED="The mail server refused it, or could not be reached for three days, or what it was about has ended.",
    UNCERTAIN="The mail server may have taken it and did not confirm. It is not sent again, since nobody wants it twice.",
    DELIVERED="The recipient's server took it.",
    OPENED="Its pictures were loaded, which a program may do without the reader.",
    CLICKED="A link in it was opened.",
    BOUNCED="The recipient's server refused it for good. Nothing more is sent to the address until that is verified anew.",
    SUPPRESSED="It was not sent: you may no longer see what it was about, or want no such mails, or the address takes none.",
)
