"""The root query for mails."""

import strawberry

from db.queries import mail
from graph.core.edges import listing
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.mail.inputs import EmailMessageFilter
from graph.mail.types import EmailMessage


@strawberry.type
class MailQueries:
    email_messages: Connection[EmailMessage] = listing(
        mail.listing,
        filtered_by=EmailMessageFilter,
        scope=Scope.ACCOUNT,
        description="The mails to you, newest first; for admins too, only their own: operators list all by `trellis mail list`.",
    )
