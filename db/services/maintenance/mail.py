"""The maintenance tasks on mails."""

from __future__ import annotations

from db.errors import NoSecretKey
from db.services.mail import make_digests, send_pending
from db.services.maintenance.context import MaintenanceContext, MaintenanceTaskFailed


async def send_mail(context: MaintenanceContext) -> int:
    """Send the mails that are due; return how many. Without a mail server they wait."""
    if not context.settings.smtp_url.get_secret_value():
        return 0
    try:
        return await send_pending(context.database, context.settings)
    except NoSecretKey as error:
        raise MaintenanceTaskFailed(error.message) from None


async def make_due_digests(context: MaintenanceContext) -> int:
    """Make the digests that are due; return how many."""
    return await make_digests(context.database)
