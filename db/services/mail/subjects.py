"""The subjects of mails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db.services.notifications.texts import title_of
from db.tables.mail import EmailTemplate
from db.tables.notifications import EventType

DIGESTS: Mapping[EmailTemplate, str] = {EmailTemplate.DAILY_DIGEST: "day", EmailTemplate.WEEKLY_DIGEST: "week"}
"""By template of a digest, the period of its events."""
MAX_LENGTH = 200  # characters
_PREFIX = "Trellis: "
_ACCOUNTS: Mapping[EmailTemplate, str] = {
    EmailTemplate.PASSWORD_RESET: "Reset your password",
    EmailTemplate.PASSWORD_CHANGED: "Your password was changed",
    EmailTemplate.VERIFY_REGISTRATION: "Verify your address",
    EmailTemplate.ADDRESS_TAKEN: "You have an account already",
    EmailTemplate.INVITATION: "You are invited",
    EmailTemplate.VERIFY_NEW_EMAIL: "Verify your new address",
    EmailTemplate.EMAIL_CHANGE_REQUESTED: "A change of your address was requested",
    EmailTemplate.EMAIL_CHANGED: "Your address was changed",
    EmailTemplate.NEW_DEVICE: "A new sign-in to your account",
    EmailTemplate.TOTP_ADDED: "Codes are asked for when you sign in",
    EmailTemplate.TOTP_REMOVED: "No codes are asked for any more when you sign in",
    EmailTemplate.BACKUP_CODES_REPLACED: "You have new backup codes",
    EmailTemplate.IDENTITY_LINKED: "Another way to sign in to your account",
    EmailTemplate.IDENTITY_UNLINKED: "A way to sign in to your account was removed",
    EmailTemplate.ACCOUNT_DELETED: "Your account was deleted",
    EmailTemplate.ACCOUNT_RESTORED: "Your account was restored",
    EmailTemplate.PASSKEY_ADDED: "A passkey was added to your account",
    EmailTemplate.PASSKEY_REMOVED: "A passkey was removed from your account",
}


def subject_of(
    template: EmailTemplate, event_type: EventType | None = None, name: str | None = None, data: Mapping[str, Any] | None = None
) -> str:
    """The subject of a mail; of one event, its title. Of names, white space and what cannot be printed becomes a space."""
    if template in DIGESTS:
        subject = f"Events of the {DIGESTS[template]}"
    elif template is EmailTemplate.EVENT and event_type is not None:
        subject = title_of(event_type, name, data or {})
    else:
        subject = _ACCOUNTS[template]
    return _PREFIX + " ".join("".join(letter if letter.isprintable() else " " for letter in subject).split())[:MAX_LENGTH]
