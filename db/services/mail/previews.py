"""Each mail with made-up names, as it would be sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from db.services.mail import registering, signing_in
from db.services.mail.composing import FIXED, account_mail
from db.services.mail.links import how_to_use
from db.services.mail.notifying import digest_mail, event_mail
from db.services.mail.rendering import ComposedMail
from db.services.notifications.preferences import OF_ACCOUNTS
from db.settings import StateSettings
from db.tables.mail import EmailTemplate
from db.tables.notifications import EventType

_ADDRESS, _USERNAME, _USER = "ada@example.org", "ada", UUID(int=1)
_TIME = datetime(2026, 11, 30, 18, tzinfo=UTC)
_TOKEN = "an-example-of-a-token"  # noqa: S105 - of no use


@dataclass(frozen=True, slots=True)
class _Event:
    event_type: EventType
    total: int = 1
    name: str = "<wine> & cheese"
    subject_id: str = f"example_{1:032x}"
    data: Mapping[str, Any] = field(default_factory=lambda: {"kind": "train", "number": 3, "alias": "production"})
    created_at: datetime = _TIME


def previews(settings: StateSettings) -> dict[str, ComposedMail]:
    """The mails by name: those of accounts by template, those of events by type, and the digests."""
    mailed = [event_type for event_type in EventType if event_type not in OF_ACCOUNTS]
    mails = {
        template.value: account_mail(settings, template, _ADDRESS, f"Hello {_USERNAME},", paragraphs)
        for template, paragraphs in _accounts(settings).items()
    }
    mails |= {
        f"{EmailTemplate.EVENT.value}-{event_type.value}": event_mail(settings, _USER, _USERNAME, _ADDRESS, _Event(event_type))
        for event_type in mailed
    }
    events = [_Event(event_type, total=1 if number % 2 else 25) for number, event_type in enumerate(mailed)]
    for template in (EmailTemplate.DAILY_DIGEST, EmailTemplate.WEEKLY_DIGEST):
        mails[template.value] = digest_mail(settings, _USER, _USERNAME, _ADDRESS, template, events)
    return mails


def _accounts(settings: StateSettings) -> dict[EmailTemplate, list[str]]:
    key, passkey = SimpleNamespace(prefix="trl_1a2b", name="laptop"), SimpleNamespace(name="phone")
    identity = SimpleNamespace(provider="google", linked_at=_TIME)
    session = SimpleNamespace(browser="Firefox", device="Linux", ip_address="192.0.2.7", created_at=_TIME)
    verify = how_to_use(settings, _TOKEN, "verify-email", "verifyEmail")
    varying = {
        EmailTemplate.PASSWORD_RESET: signing_in.password_reset_text(how_to_use(settings, _TOKEN, "reset-password", "resetPassword")),
        EmailTemplate.PASSWORD_CHANGED: signing_in.password_changed_text([key], [identity], [passkey]),
        EmailTemplate.VERIFY_REGISTRATION: registering.verify_registration_text(verify),
        EmailTemplate.INVITATION: registering.invitation_text("bob", "MEMBER", how_to_use(settings, _TOKEN, "register", "register"), _TIME),
        EmailTemplate.VERIFY_NEW_EMAIL: registering.verify_new_email_text(verify),
        EmailTemplate.NEW_DEVICE: signing_in.new_device_text(session),
        EmailTemplate.ACCOUNT_DELETED: signing_in.account_deleted_text(
            _TIME + timedelta(days=30), "with `restoreAccount` and your password"
        ),
    }
    return varying | {template: write() for template, write in FIXED.items()}
