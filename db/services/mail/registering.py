"""What mails on registrations and addresses say.

Those to addresses that are not verified name nothing that whoever registers has chosen: it could be an advertisement.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, exists, func, select, update

from db.core.work import Work
from db.errors import MailVoid
from db.queries import invitations
from db.queries.accounts import has_email
from db.services import account_tokens
from db.services.mail.links import how_to_use
from db.settings import StateSettings
from db.tables import Membership, Registration, User
from db.tables.accounts import TokenPurpose

ONCE = "It is valid once, for 30 minutes."


async def verify_registration(work: Work, settings: StateSettings, row: Row[Any]) -> list[str]:
    """The time of the registration's token begins. Raises `MailVoid` if it expired, or if the address has a user by now."""
    is_waiting = (Registration.id == row.registration_id, Registration.expires_at > func.now(), ~exists().where(has_email(row.address)))
    statement = update(Registration).where(*is_waiting).values(token_expires_at=func.now() + account_tokens.LIFETIME)
    if not await work.run(statement):
        raise MailVoid("The registration was completed or has expired, or the address has an account by now.")
    token = account_tokens.token_text(settings, row.registration_id, account_tokens.REGISTRATION)
    return verify_registration_text(how_to_use(settings, token, "verify-email", "verifyEmail"))


def verify_registration_text(how: str) -> list[str]:
    return [
        "somebody, we hope you, registered with this address. If it was not you, ignore this mail: there is no account, and there will be none.",
        f"{how}{ONCE} Then sign in with the password that you registered with.",
    ]


async def invitation(work: Work, settings: StateSettings, row: Row[Any]) -> list[str]:
    """Raises `MailVoid` if nobody can use the invitation any more."""
    to_team = await work.first(invitations.usable_for_team(row.invitation_id))
    if to_team is not None:
        return await _invitation_to_team(work, settings, to_team)
    invited = await work.first(invitations.usable(row.invitation_id))
    if invited is None:
        raise MailVoid("The invitation was used or revoked, or has expired, or its sender is no admin any more.")
    if await work.scalar(select(exists().where(has_email(row.address)))):
        return [f"{invited.sender} invited you to register, but you have an account with this address already: sign in with its password."]
    token = account_tokens.token_text(settings, row.invitation_id, account_tokens.INVITATION)
    return invitation_text(invited.sender, invited.role.name, how_to_use(settings, token, "register", "register"), invited.expires_at)


def invitation_text(sender: str, role: str, how: str, expires_at: datetime) -> list[str]:
    return [
        f"{sender} invites you to register with this address. Your role will be {role}.",
        f"{how}It is valid once, until {expires_at:%Y-%m-%d %H:%M} UTC. A further mail will verify your address.",
    ]


async def _invitation_to_team(work: Work, settings: StateSettings, invited: Row[Any]) -> list[str]:
    """Raises `MailVoid` if the account with the address is disabled."""
    is_member = exists().where(Membership.team_id == invited.team_id, Membership.user_id == User.id).label("is_member")
    user = await work.first(select(User.disabled_at, is_member).where(has_email(invited.email)))
    if user is not None and user.disabled_at is not None:
        raise MailVoid("The account with the address is disabled.")
    if user is not None and user.is_member:
        return [f"{invited.sender} invited you to the team {invited.team}, which you are in already."]
    token = account_tokens.token_text(settings, invited.id, account_tokens.INVITATION)
    used = how_to_use(settings, token, "accept-invitation", "acceptInvitation")
    valid = f"It is valid once, until {invited.expires_at:%Y-%m-%d %H:%M} UTC, for who is signed in with this address."
    if user is not None:
        first = f"{invited.sender} invites you to the team {invited.team}. Your role there will be {invited.role.name}."
    elif settings.registration == "open":
        first = "somebody invites you to a team. You need an account for it: register with this address first."
    else:
        first = "somebody invites you to a team. You need an account for it: ask whoever runs this Trellis for one with this address first."
    return [first, f"{used}{valid} To decline, pass the token to the mutation `declineInvitation`, or ignore this mail."]


def address_taken() -> list[str]:
    text = (
        "somebody, perhaps you, gave this address for another account. It is that of yours already, so nothing has changed. If it was you, sign in,"
        " by this address or your username; if you have forgotten the password, reset it."
    )
    return [text]


async def verify_new_email(work: Work, settings: StateSettings, row: Row[Any]) -> list[str]:
    """The time of the token begins."""
    token = account_tokens.token_text(settings, row.token_id, TokenPurpose.CHANGE_EMAIL)
    await account_tokens.activate(work, row.token_id)
    return verify_new_email_text(how_to_use(settings, token, "verify-email", "verifyEmail"))


def verify_new_email_text(how: str) -> list[str]:
    return [
        "somebody, we hope you, asked for this to be the address of your account. If it was not you, ignore this mail: nothing has changed.",
        f"{how}{ONCE}",
    ]


def email_change_requested() -> list[str]:
    text = (
        "somebody, we hope you, asked for your account to have another address. It changes once a link that was sent there is opened. If it was not"
        " you, change your password now: that makes the link void."
    )
    return [text]


def email_changed() -> list[str]:
    text = (
        "your account has another address, as was asked for; mails about it do not come here any more. If it was not you, tell whoever runs this"
        " Trellis now."
    )
    return [text]
