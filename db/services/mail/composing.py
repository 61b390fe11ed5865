"""What mails say. They are made when a mail is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from db.core.work import Work
from db.errors import NotFound
from db.queries.accounts import is_valid_key
from db.services import account_tokens
from db.services.mail import registering, signing_in
from db.services.mail.links import how_to_use
from db.services.mail.notifying import compose_notification
from db.services.mail.rendering import ComposedMail, blocks_of, render
from db.services.mail.subjects import subject_of
from db.settings import StateSettings
from db.tables import ApiKey, EmailMessage, OAuthIdentity, User
from db.tables.accounts import TokenPurpose
from db.tables.mail import EmailTemplate
from db.tables.passkeys import Passkey

MAX_KEYS = 100  # listed in a mail
FIXED: Mapping[EmailTemplate, Callable[[], list[str]]] = {
    EmailTemplate.ADDRESS_TAKEN: registering.address_taken,
    EmailTemplate.EMAIL_CHANGE_REQUESTED: registering.email_change_requested,
    EmailTemplate.EMAIL_CHANGED: registering.email_changed,
    EmailTemplate.TOTP_ADDED: signing_in.totp_added,
    EmailTemplate.TOTP_REMOVED: signing_in.totp_removed,
    EmailTemplate.BACKUP_CODES_REPLACED: signing_in.backup_codes_replaced,
    EmailTemplate.ACCOUNT_RESTORED: signing_in.account_restored,
    EmailTemplate.IDENTITY_LINKED: signing_in.identity_linked,
    EmailTemplate.IDENTITY_UNLINKED: signing_in.identity_unlinked,
    EmailTemplate.PASSKEY_ADDED: signing_in.passkey_added,
    EmailTemplate.PASSKEY_REMOVED: signing_in.passkey_removed,
}
"""The texts of mails that are the same for everybody."""


async def compose(work: Work, settings: StateSettings, message_id: UUID) -> ComposedMail:
    """Compose a mail; the time of its token begins.

    Raises `NotFound`, `MailVoid` if what it is about has ended, `MailSuppressed` if its reader is not to have it, or `NoSecretKey` if it has a token.
    """
    row = await work.first(
        select(*EmailMessage.__table__.c, User.username)
        .outerjoin(User, User.id == EmailMessage.user_id)
        .where(EmailMessage.id == message_id)
    )
    if row is None:
        raise NotFound(str(message_id))
    work.record("show_mail", "mail", message_id, row.user_id, after={"template": row.template})  # unless a worker sends it
    if row.is_notification:
        return await compose_notification(work, settings, row)
    paragraphs = await _paragraphs(work, settings, row)
    # At an address that may be a stranger's, a username could be an advertisement.
    is_strangers = row.username is None or row.template is EmailTemplate.VERIFY_NEW_EMAIL
    greeting = "Hello," if is_strangers else f"Hello {row.username},"
    return account_mail(settings, row.template, row.address, greeting, paragraphs)


def account_mail(settings: StateSettings, template: EmailTemplate, address: str, greeting: str, paragraphs: Sequence[str]) -> ComposedMail:
    """A mail about an account, of paragraphs of plain text."""
    values = {
        "greeting": greeting,
        "paragraphs": paragraphs,
        "blocks": blocks_of(paragraphs, settings.public_url),
        "public_url": settings.public_url,
    }
    return render("account", address, subject_of(template), values)


async def _paragraphs(work: Work, settings: StateSettings, row: Row[Any]) -> list[str]:
    match row.template:
        case EmailTemplate.PASSWORD_RESET:
            return await _password_reset(work, settings, row)
        case EmailTemplate.PASSWORD_CHANGED:
            return await _password_changed(work, row)
        case EmailTemplate.VERIFY_REGISTRATION:
            return await registering.verify_registration(work, settings, row)
        case EmailTemplate.INVITATION:
            return await registering.invitation(work, settings, row)
        case EmailTemplate.VERIFY_NEW_EMAIL:
            return await registering.verify_new_email(work, settings, row)
        case EmailTemplate.NEW_DEVICE:
            return await signing_in.new_device(work, row)
        case EmailTemplate.ACCOUNT_DELETED:
            return await signing_in.account_deleted(work, settings, row)
        case _:
            return FIXED[row.template]()


async def _password_reset(work: Work, settings: StateSettings, row: Row[Any]) -> list[str]:
    token = account_tokens.token_text(settings, row.token_id, TokenPurpose.RESET_PASSWORD)
    await account_tokens.activate(work, row.token_id)
    return signing_in.password_reset_text(how_to_use(settings, token, "reset-password", "resetPassword"))


async def _password_changed(work: Work, row: Row[Any]) -> list[str]:
    statement = select(ApiKey.prefix, ApiKey.name).where(ApiKey.user_id == row.user_id, is_valid_key()).order_by(ApiKey.created_at.desc())
    keys = await work.all(statement.limit(MAX_KEYS))
    identities = await work.all(
        select(OAuthIdentity.provider, OAuthIdentity.linked_at)
        .where(OAuthIdentity.user_id == row.user_id)
        .order_by(OAuthIdentity.linked_at)
    )
    passkeys = await work.all(select(Passkey.name).where(Passkey.user_id == row.user_id).order_by(Passkey.created_at.desc()))
    return signing_in.password_changed_text(keys, identities, passkeys)
