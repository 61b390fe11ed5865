"""The endings of mutations on accounts."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select, update

from db.core.viewer import SYSTEM
from db.services.mail import compose
from db.settings import state_settings
from db.tables import AccountToken, EmailMessage
from tests.client import PASSWORD, Client
from tests.endings import UNKNOWN, Endings, World, endings_of


async def _other_session(world: World) -> str:
    other = await world.sign_in("ada")
    return (await other.one("{ sessions { id isCurrent } }"))[0]["id"]


async def _token(world: World) -> str:
    """Compose the newest mail, as when it is sent; return its token."""
    (message,) = await world.database.rows(select(EmailMessage.id).order_by(EmailMessage.id.desc()).limit(1))
    async with world.database.work(SYSTEM) as work:
        text = (await compose(work, state_settings(), message.id)).text
    return next(line.strip() for line in text.splitlines() if "." in line and line.startswith("  "))


async def _signed_in(world: World) -> Client:
    world.sender = await world.sign_in("ada")
    return world.sender


@endings_of("login")
async def login(world: World) -> Endings:
    await world.sign_in("ada")
    yield "LoginPayload", {"login": "ada@example.org", "password": PASSWORD}
    yield "InvalidCredentials", {"login": "ada", "password": "not the password"}
    yield "InvalidInput", {"login": "ada", "password": ""}


@endings_of("logout")
async def logout(world: World) -> Endings:
    await _signed_in(world)
    yield "LogoutPayload", {}


@endings_of("revokeSession")
async def revoke_session(world: World) -> Endings:
    await _signed_in(world)
    yield "RevokeSessionPayload", {"id": await _other_session(world)}
    yield "NotFound", {"id": f"session_{UNKNOWN}"}


@endings_of("revokeOtherSessions")
async def revoke_other_sessions(world: World) -> Endings:
    await _signed_in(world)
    yield "RevokeOtherSessionsPayload", {}


@endings_of("requestPasswordReset")
async def request_password_reset(world: World) -> Endings:
    yield "RequestPasswordResetPayload", {"email": "ada@example.org"}
    yield "InvalidInput", {"email": "ada"}


@endings_of("resetPassword")
async def reset_password(world: World) -> Endings:
    await world.ada.one('mutation { requestPasswordReset(input: {email: "ada@example.org"}) { __typename } }')
    token = await _token(world)
    yield "ResetPasswordPayload", {"token": token, "newPassword": "a new password 7"}
    yield "InvalidInput", {"token": token, "newPassword": "a new password 7"}
    async with world.database.work(SYSTEM) as work:
        await work.run(update(AccountToken).values(used_at=None, created_at=func.now() + timedelta(seconds=1)))
    yield "WeakPassword", {"token": token, "newPassword": "short"}


@endings_of("changePassword")
async def change_password(world: World) -> Endings:
    await _signed_in(world)
    new = "a new password 7"
    yield "ChangePasswordPayload", {"currentPassword": PASSWORD, "newPassword": new}
    yield "InvalidCredentials", {"currentPassword": PASSWORD, "newPassword": new}
    yield "WeakPassword", {"currentPassword": new, "newPassword": "short"}


NEWCOMER = {"email": "eve@example.org", "username": "eve", "password": PASSWORD, "fullName": "Eve"}
REGISTER = "mutation($input: RegisterInput!) { register(input: $input) { __typename } }"


@endings_of("register")
async def register(world: World) -> Endings:
    world.set_registration("open")
    yield "RegisterPayload", NEWCOMER
    yield "NameTaken", {**NEWCOMER, "username": "ADA"}
    yield "WeakPassword", {**NEWCOMER, "password": "short"}
    yield "InvalidInput", {**NEWCOMER, "email": "eve"}
    world.set_registration("closed")
    yield "WrongState", NEWCOMER


@endings_of("verifyEmail")
async def verify_email(world: World) -> Endings:
    world.set_registration("open")
    await world.ada.one(REGISTER, input=NEWCOMER)
    token = await _token(world)
    yield "VerifyEmailPayload", {"token": token}
    yield "InvalidInput", {"token": token}
    await world.ada.one(REGISTER, input={**NEWCOMER, "email": "eve@example.com", "username": "eve2"})
    token = await _token(world)
    yield "NameTaken", {"token": token, "username": "Eve"}
    world.set_registration("closed")
    yield "WrongState", {"token": token}


@endings_of("changeEmail")
async def change_email(world: World) -> Endings:
    await _signed_in(world)
    yield "ChangeEmailPayload", {"newEmail": "ada@example.com", "currentPassword": PASSWORD}
    yield "InvalidCredentials", {"newEmail": "ada@example.com", "currentPassword": "not the password"}
    yield "InvalidInput", {"newEmail": "ada", "currentPassword": PASSWORD}


@endings_of("updateAccount")
async def update_account(world: World) -> Endings:
    await _signed_in(world)
    yield "UpdateAccountPayload", {"fullName": "Ada Lovelace", "username": "lovelace"}
    yield "NameTaken", {"username": "BOB"}
    yield "InvalidInput", {"username": None}


@endings_of("inviteMember")
async def invite_member(world: World) -> Endings:
    world.sender = world.admin
    world.set_registration("invited")
    yield "InviteMemberPayload", {"email": "eve@example.org", "role": "MEMBER"}
    yield "InvalidInput", {"email": "eve"}
    world.set_registration("closed")
    yield "WrongState", {"email": "eve@example.org"}


@endings_of("revokeInvitation")
async def revoke_invitation(world: World) -> Endings:
    world.sender = world.admin
    world.set_registration("invited")
    query = "mutation($email: String!) { inviteMember(input: {email: $email}) { ... on InviteMemberPayload { invitation { id } } } }"
    yield "RevokeInvitationPayload", {"id": (await world.admin.one(query, email="eve@example.org"))["invitation"]["id"]}
    yield "NotFound", {"id": f"invitation_{UNKNOWN}"}
