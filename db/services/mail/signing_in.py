"""What mails on sign-ins and second factors say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select

from db.core.work import Work
from db.errors import MailVoid
from db.settings import StateSettings
from db.tables import User, UserSession

_SHOWN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,29}")  # of a browser: the client chose it, and it must not read as a link
_IF_NOT_YOURS = "If it was not you, restore it, change your password, and tell whoever runs this Trellis."
_IF_NOT_YOU = "If it was not you, reset your password now, and tell whoever runs this Trellis."
_IF_NOT_YOU_PASSKEY = "If it was not you, sign in, remove it, and reset your password now; and tell whoever runs this Trellis."


async def new_device(work: Work, row: Row[Any]) -> list[str]:
    columns = (UserSession.browser, UserSession.device, UserSession.ip_address, UserSession.created_at)
    return new_device_text(await work.first(select(*columns).where(UserSession.id == row.session_id)))


def new_device_text(session: Any | None) -> list[str]:
    """`session` has `browser`, `device`, `ip_address` and `created_at`."""
    happened = "somebody, we hope you, signed in to your account from a place that it did not know"
    if session is None:  # deleted, long after its end
        return [f"{happened}.", _IF_NOT_YOU]
    browser = session.browser if _SHOWN_NAME.fullmatch(session.browser or "") else "a program that does not say its name"
    lines = [
        f"  {browser}{'' if session.device is None else f' on {session.device}'}",
        f"  from the address {session.ip_address or 'unknown'}",
        f"  on {session.created_at:%Y-%m-%d} at {session.created_at:%H:%M} UTC",
    ]
    return [f"{happened}:", "\n".join(lines), _IF_NOT_YOU]


def totp_added() -> list[str]:
    added = "an app for codes was added to your account, or replaced another one. From now on you sign in with a code as well."
    return [added, "Your other sessions have ended.", _IF_NOT_YOU]


def totp_removed() -> list[str]:
    removed = "the app for codes was removed from your account, with its backup codes, by you or by whoever runs this Trellis."
    return [removed, "From now on you sign in with your password alone.", _IF_NOT_YOU]


def backup_codes_replaced() -> list[str]:
    return ["the backup codes of your account were replaced by new ones. Those from before are not accepted any more.", _IF_NOT_YOU]


def identity_linked() -> list[str]:
    linked = "an identity at a provider, such as Google or GitHub, was linked to your account. Whoever has it can sign in to the account."
    return [linked, "If it was not you, unlink it, reset your password now, and tell whoever runs this Trellis."]


def identity_unlinked() -> list[str]:
    return ["an identity at a provider, such as Google or GitHub, does not open your account any more.", _IF_NOT_YOU]


async def account_deleted(work: Work, settings: StateSettings, row: Row[Any]) -> list[str]:
    """Tell until when it can be restored. Raises `MailVoid` if it was restored meanwhile."""
    columns = (User.deleted_at, User.deleted_by_owner, User.password_hash.is_not(None).label("has_password"))
    user = await work.first(select(*columns).where(User.id == row.user_id, User.deleted_at.is_not(None)))
    if user is None:
        raise MailVoid("The account was restored.")
    by_password = (
        "with `restoreAccount` and your password" if user.has_password else "by the passkey or the provider that you signed in with"
    )
    how = by_password if user.deleted_by_owner else "by whoever runs this Trellis"
    return account_deleted_text(user.deleted_at + timedelta(seconds=settings.deleted_account_retention), how)


def account_deleted_text(until: datetime, how: str) -> list[str]:
    ended = "your account was deleted, with all that it owned. Its sessions have ended, and its API keys are revoked."
    return [ended, f"Until {until:%Y-%m-%d} at {until:%H:%M} UTC it can be restored, {how}. Then all of it is removed.", _IF_NOT_YOURS]


def account_restored() -> list[str]:
    restored = "your account was restored, with all that was deleted with it. Its API keys stay revoked: make new ones."
    return [restored, _IF_NOT_YOU]


def passkey_added() -> list[str]:
    return ["a passkey was added to your account. Whoever has it, and can unlock it, signs in with it alone.", _IF_NOT_YOU_PASSKEY]


def passkey_removed() -> list[str]:
    return ["a passkey was removed from your account, or all of them, by you or by whoever runs this Trellis.", _IF_NOT_YOU]


def password_reset_text(how: str) -> list[str]:
    return [
        "somebody, we hope you, asked to reset the password of your account. If it was not you, ignore this mail: nothing has changed.",
        f"{how} It is valid once, for 30 minutes.",
    ]


def password_changed_text(keys: Sequence[Any], identities: Sequence[Any], passkeys: Sequence[Any]) -> list[str]:
    """Keys have `prefix` and `name`, identities `provider` and `linked_at`, passkeys `name`: all that opens the account still."""
    changed = "the password of your account was changed, and your other sessions have ended."
    paragraphs = [f"{changed} If it was not you, reset your password now, and tell whoever runs this Trellis."]
    if keys:
        lines = "\n".join(f"  {key.prefix}…  {' '.join(key.name.split())}" for key in keys)
        paragraphs.append(f"These API keys stay valid. Revoke those that you do not know:\n{lines}")
    if identities:  # without their addresses, which whoever linked them has chosen
        lines = "\n".join(f"  {identity.provider}, linked on {identity.linked_at:%Y-%m-%d}" for identity in identities)
        paragraphs.append(f"Identities at these providers still open the account. Unlink those that are not yours:\n{lines}")
    if passkeys:
        lines = "\n".join(f"  {' '.join(passkey.name.split())}" for passkey in passkeys)
        paragraphs.append(f"These passkeys stay valid. Remove those that you do not know:\n{lines}")
    return paragraphs
