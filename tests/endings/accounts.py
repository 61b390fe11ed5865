"""The endings of mutations on accounts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from pyotp.totp import TOTP
from sqlalchemy import func, insert, select, update

from db.core.viewer import SYSTEM, UserRole
from db.services.accounts.api_keys import MAX_KEYS
from db.services.accounts.passkeys import MAX_PASSKEYS
from db.services.accounts.sessions import RECENT
from db.services.mail import compose
from db.settings import state_settings
from db.tables import AccountToken, ApiKey, EmailMessage, Invitation, Membership, OAuthIdentity, User, UserSession
from db.tables.passkeys import Passkey
from tests.accounts.passkey_device import Device, add_passkey, at_localhost, begin, begin_login
from tests.client import PASSWORD, Client
from tests.endings import UNKNOWN, Endings, World, endings_of, key_of


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
    await _add_factor(world)
    yield "TotpRequired", {"login": "ada", "password": PASSWORD}


@endings_of("administerUser")
async def administer_user(world: World) -> Endings:
    bob, admin = [(await client.one("{ viewer { id } }"))["id"] for client in (world.bob, world.admin)]
    world.sender = world.admin
    yield "AdministerUserPayload", {"id": bob, "role": "VIEWER", "tier": "PRO", "isActive": False, "storageQuotaBytes": 5}
    yield "NotFound", {"id": f"user_{UNKNOWN}", "role": "VIEWER"}
    yield "InvalidInput", {"id": bob, "storageQuotaBytes": -1}
    yield "LastAdmin", {"id": admin, "role": "MEMBER"}


@endings_of("createTeam")
async def create_team(world: World) -> Endings:
    await _signed_in(world)
    yield "CreateTeamPayload", {"name": "Bearings", "username": "bearings"}
    yield "InvalidInput", {"name": "Bearings", "username": "no spaces"}
    yield "NameTaken", {"name": "Another", "username": "Bob"}
    for number in (2, 3):
        yield "CreateTeamPayload", {"name": "Bearings", "username": f"bearings-{number}"}
    yield "QuotaExceeded", {"name": "Bearings", "username": "bearings-4"}


async def _team(world: World) -> tuple[str, str]:
    """Ada signs in and makes a team, of which Bob is a member: the ids of both."""
    await _signed_in(world)
    document = 'mutation { createTeam(input: {name: "Bearings", username: "bearings"}) { ... on CreateTeamPayload { team { id } } } }'
    team, bob = (await world.sender.one(document))["team"]["id"], (await world.bob.one("{ viewer { id } }"))["id"]
    async with world.database.work(SYSTEM) as work:
        await work.run(insert(Membership).values(team_id=key_of(team), user_id=key_of(bob), role=UserRole.MEMBER))
    return team, bob


@endings_of("setTeamRole")
async def set_team_role(world: World) -> Endings:
    team, bob = await _team(world)
    ada = (await world.ada.one("{ viewer { id } }"))["id"]
    yield "SetTeamRolePayload", {"teamId": team, "userId": bob, "role": "VIEWER"}
    yield "NotFound", {"teamId": f"user_{UNKNOWN}", "userId": bob, "role": "VIEWER"}
    yield "LastAdmin", {"teamId": team, "userId": ada, "role": "MEMBER"}


@endings_of("removeTeamMember")
async def remove_team_member(world: World) -> Endings:
    team, bob = await _team(world)
    ada = (await world.ada.one("{ viewer { id } }"))["id"]
    yield "RemoveTeamMemberPayload", {"teamId": team, "userId": bob}
    yield "NotFound", {"teamId": team, "userId": bob}
    yield "LastAdmin", {"teamId": team, "userId": ada}


@endings_of("leaveTeam")
async def leave_team(world: World) -> Endings:
    team, _ = await _team(world)
    world.sender = await world.sign_in("bob")
    yield "LeaveTeamPayload", {"teamId": team}
    yield "NotFound", {"teamId": team}
    world.sender = await world.sign_in("ada")
    yield "LastAdmin", {"teamId": team}


@endings_of("deleteTeam")
async def delete_team(world: World) -> Endings:
    team, _ = await _team(world)
    yield "DeleteTeamPayload", {"id": team}
    yield "NotFound", {"id": team}
    async with world.database.work(SYSTEM) as work:
        await work.run(update(User).where(User.id == key_of(team)).values(deleted_at=None))
        work.revalidate_sessions(key_of((await world.ada.one("{ viewer { id } }"))["id"]))
        await work.run(update(UserSession).values(checked_at=func.now() - RECENT))
    yield "WrongState", {"id": team}


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
    await world.sign_in("ada")
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
    team, _ = await _team(world)
    world.sender = await world.sign_in("admin")
    world.set_registration("invited")
    yield "InviteMemberPayload", {"email": "eve@example.org", "role": "MEMBER", "teamId": team}
    yield "NotFound", {"email": "eve@example.org", "teamId": f"user_{UNKNOWN}"}
    yield "InvalidInput", {"email": "eve"}
    world.set_registration("closed")
    yield "WrongState", {"email": "eve@example.org"}


async def _invited(world: World, team: str) -> str:
    """Invite the admin, whose address is verified, to Ada's team: the token of the mail."""
    ada = await world.sign_in("ada")
    document = "mutation($team: ID!, $email: String!) { inviteMember(input: {email: $email, teamId: $team}) { __typename } }"
    await ada.one(document, team=team, email=(await world.admin.one("{ viewer { email } }"))["email"])
    async with world.database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "admin").values(email_verified_at=func.now()))
    return await _token(world)


@endings_of("acceptInvitation")
async def accept_invitation(world: World) -> Endings:
    team, _ = await _team(world)
    token = await _invited(world, team)
    world.sender = await world.sign_in("admin")
    yield "AcceptInvitationPayload", {"token": token}
    yield "InvalidInput", {"token": token}
    async with world.database.work(SYSTEM) as work:
        await work.run(update(Invitation).values(accepted_at=None))
    yield "WrongState", {"token": token}
    limit, settings = state_settings().memberships_per_user, state_settings()
    settings.memberships_per_user = 1
    try:
        yield "QuotaExceeded", {"token": token}
    finally:
        settings.memberships_per_user = limit


@endings_of("declineInvitation")
async def decline_invitation(world: World) -> Endings:
    team, _ = await _team(world)
    token = await _invited(world, team)
    yield "DeclineInvitationPayload", {"token": token}
    yield "InvalidInput", {"token": token}


@endings_of("revokeInvitation")
async def revoke_invitation(world: World) -> Endings:
    world.sender = await world.sign_in("admin")
    world.set_registration("invited")
    query = "mutation($email: String!) { inviteMember(input: {email: $email}) { ... on InviteMemberPayload { invitation { id } } } }"
    yield "RevokeInvitationPayload", {"id": (await world.sender.one(query, email="eve@example.org"))["invitation"]["id"]}
    yield "NotFound", {"id": f"invitation_{UNKNOWN}"}


async def _code(world: World, secret: str) -> str:
    """The code of now; one that was used in this step before is accepted again."""
    async with world.database.work(SYSTEM) as work:
        await work.run(update(User).where(User.totp_secret.is_not(None)).values(totp_step=0))
    return TOTP(secret).now()


async def _enroll(world: World) -> str:
    """Ada begins to add an app: its secret."""
    session = await _signed_in(world)
    document = "mutation($password: String!) { enrollTotp(input: {password: $password}) { ... on EnrollTotpPayload { secret } } }"
    return (await session.one(document, password=PASSWORD))["secret"]


async def _add_factor(world: World) -> str:
    """Ada has an app: its secret."""
    secret = await _enroll(world)
    document = "mutation($code: String!) { confirmTotp(input: {code: $code}) { __typename } }"
    assert (await world.sender.one(document, code=TOTP(secret).now())) == {"__typename": "ConfirmTotpPayload"}
    return secret


async def _challenge(world: World) -> str:
    return (await world.bob.login("ada"))["challenge"]


@endings_of("confirmLogin")
async def confirm_login(world: World) -> Endings:
    secret = await _add_factor(world)
    yield "LoginPayload", {"challenge": await _challenge(world), "code": await _code(world, secret)}
    challenge = await _challenge(world)
    yield "InvalidCredentials", {"challenge": challenge, "code": "abcd-efgh-ijkl-mnop"}
    yield "InvalidInput", {"challenge": challenge, "code": "1"}
    await _delete_ada(world)
    world.sender = world.bob
    challenge = (await world.bob.one(RESTORE, input={"login": "ada", "password": PASSWORD}))["challenge"]
    await _set_user(world, "bob", username="ada")
    yield "NameTaken", {"challenge": challenge, "code": await _code(world, secret)}


RESTORE = "mutation($input: RestoreAccountInput!) { restoreAccount(input: $input) { __typename ... on TotpRequired { challenge } } }"


async def _set_user(world: World, name: str, **values: Any) -> None:
    async with world.database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == name).values(values))


async def _delete_ada(world: World) -> None:
    """Delete Ada's account as she would, also if she has an app for codes."""
    await _set_user(world, "ada", deleted_at=func.now(), deleted_by_owner=True)


@endings_of("deleteAccount")
async def delete_account(world: World) -> Endings:
    await _signed_in(world)
    async with world.database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(checked_at=func.now() - timedelta(hours=1)))
    yield "DeleteAccountPayload", {"password": PASSWORD}
    await _set_user(world, "ada", deleted_at=None, deleted_by_owner=False)
    await _signed_in(world)
    yield "InvalidCredentials", {"password": "not the password"}
    async with world.database.work(SYSTEM) as work:
        await work.run(update(ApiKey).values(revoked_at=None))
    await world.submit_job()
    yield "WrongState", {}
    world.sender = await world.sign_in("admin")
    yield "LastAdmin", {"password": PASSWORD}


@endings_of("restoreAccount")
async def restore_account(world: World) -> Endings:
    await world.sign_in("ada")
    await _delete_ada(world)
    world.sender = world.bob
    yield "LoginPayload", {"login": "ada", "password": PASSWORD}
    await _delete_ada(world)
    yield "InvalidCredentials", {"login": "ada", "password": "not the password"}
    yield "InvalidInput", {"login": "", "password": PASSWORD}
    await _set_user(world, "bob", username="ada")
    yield "NameTaken", {"login": "ada@example.org", "password": PASSWORD}
    await _set_user(world, "ada", totp_secret=b"0", totp_step=0)
    yield "TotpRequired", {"login": "ada@example.org", "password": PASSWORD, "username": "ada2"}


@endings_of("enrollTotp")
async def enroll_totp(world: World) -> Endings:
    await _signed_in(world)
    yield "EnrollTotpPayload", {"password": PASSWORD}
    yield "InvalidCredentials", {"password": "not the password"}
    async with world.database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(checked_at=func.now() - timedelta(hours=1)))
    yield "WrongState", {"password": PASSWORD}


@endings_of("confirmTotp")
async def confirm_totp(world: World) -> Endings:
    secret = await _enroll(world)
    yield "ConfirmTotpPayload", {"code": TOTP(secret).now()}
    yield "WrongState", {"code": TOTP(secret).now()}
    await world.sender.one(f'mutation {{ enrollTotp(input: {{password: "{PASSWORD}"}}) {{ __typename }} }}')
    yield "InvalidCredentials", {"code": "abcd-efgh-ijkl-mnop"}
    yield "InvalidInput", {"code": "1"}


@endings_of("disableTotp")
async def disable_totp(world: World) -> Endings:
    secret = await _add_factor(world)
    yield "DisableTotpPayload", {"password": PASSWORD, "code": await _code(world, secret)}
    yield "WrongState", {"password": PASSWORD, "code": TOTP(secret).now()}
    secret = await _add_factor(world)
    yield "InvalidCredentials", {"password": "not the password", "code": await _code(world, secret)}
    yield "InvalidInput", {"password": PASSWORD, "code": "1"}


@endings_of("regenerateBackupCodes")
async def regenerate_backup_codes(world: World) -> Endings:
    secret = await _add_factor(world)
    yield "RegenerateBackupCodesPayload", {"password": PASSWORD, "code": await _code(world, secret)}
    yield "InvalidCredentials", {"password": "not the password", "code": await _code(world, secret)}
    yield "InvalidInput", {"password": PASSWORD, "code": "1"}
    async with world.database.work(SYSTEM) as work:
        await work.run(update(User).values(totp_secret=None, totp_step=None))
    yield "WrongState", {"password": PASSWORD, "code": "000000"}


@endings_of("createApiKey")
async def create_api_key(world: World) -> Endings:
    await _signed_in(world)
    key = {"name": "nightly", "scopes": ["READ", "RUN"], "expiresAt": "2100-01-01T00:00:00Z", "pointsPerMinute": 600}
    old = (await world.ada.one("{ apiKeys { edges { node { id } } } }"))["edges"][0]["node"]["id"]
    yield "CreateApiKeyPayload", {**key, "replaces": old, "overlap": 3600}
    yield "NotFound", {**key, "replaces": f"apikey_{UNKNOWN}"}
    yield "InvalidInput", {**key, "scopes": []}
    owner = key_of((await world.ada.one("{ viewer { id } }"))["id"])
    async with world.database.work(SYSTEM) as work:
        values = [{"user_id": owner, "name": "one of many", "prefix": "trk_", "token_sha256": bytes([i])} for i in range(MAX_KEYS)]
        await work.run(insert(ApiKey).values(values))
    yield "QuotaExceeded", key
    async with world.database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(checked_at=func.now() - RECENT))
    yield "WrongState", key


@endings_of("revokeApiKey")
async def revoke_api_key(world: World) -> Endings:
    await _signed_in(world)
    key = (await world.ada.one("{ apiKeys { edges { node { id } } } }"))["edges"][0]["node"]["id"]
    yield "RevokeApiKeyPayload", {"id": key}
    yield "NotFound", {"id": f"apikey_{UNKNOWN}"}


@endings_of("unlinkOAuthIdentity")
async def unlink_oauth_identity(world: World) -> Endings:
    await _signed_in(world)
    owner = key_of((await world.ada.one("{ viewer { id } }"))["id"])
    async with world.database.work(SYSTEM) as work:
        for name in ("one", "two"):
            await work.run(insert(OAuthIdentity).values(user_id=owner, provider=name, issuer=f"https://{name}.example.org", subject="7"))
    yield "UnlinkOAuthIdentityPayload", {"provider": "one"}
    yield "NotFound", {"provider": "one"}
    async with world.database.work(SYSTEM) as work:
        await work.run(update(User).where(User.id == owner).values(password_hash=None))
    yield "WrongState", {"provider": "two"}


async def _aged_sessions(world: World) -> None:
    async with world.database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(checked_at=func.now() - RECENT))


async def _many_passkeys(world: World) -> None:
    owner = key_of((await world.ada.one("{ viewer { id } }"))["id"])
    common = {"user_id": owner, "public_key": b"", "sign_count": 0, "transports": [], "is_backup_eligible": False, "is_backed_up": False}
    async with world.database.work(SYSTEM) as work:
        await work.run(
            insert(Passkey).values([{**common, "name": f"one of many {i}", "webauthn_id": bytes([i])} for i in range(MAX_PASSKEYS)])
        )


@endings_of("beginPasskeyRegistration")
async def begin_passkey_registration(world: World) -> Endings:
    session = await _signed_in(world)
    device = Device(at_localhost(session))
    yield "BeginPasskeyRegistrationPayload", {"name": "laptop"}
    await add_passkey(session, device)
    yield "NameTaken", {"name": "Phone"}
    yield "InvalidInput", {"name": ""}
    await _many_passkeys(world)
    yield "QuotaExceeded", {"name": "another"}
    await _aged_sessions(world)
    yield "WrongState", {"name": "another"}


@endings_of("finishPasskeyRegistration")
async def finish_passkey_registration(world: World) -> Endings:
    session = await _signed_in(world)
    device = Device(at_localhost(session))
    credential, same_name, one_more = [device.create(await begin(session, name)) for name in ("phone", "Phone", "laptop")]
    yield "FinishPasskeyRegistrationPayload", {"credential": credential}
    yield "NameTaken", {"credential": same_name}
    yield "InvalidInput", {"credential": credential}
    await _many_passkeys(world)
    yield "QuotaExceeded", {"credential": one_more}
    session.http.headers["host"] = "trellis.example.org"
    yield "WrongState", {"credential": one_more}


@endings_of("beginPasskeyLogin")
async def begin_passkey_login(world: World) -> Endings:
    at_localhost(world.ada)
    yield "BeginPasskeyLoginPayload", {}
    yield "InvalidInput", {"challenge": "trc_made-up"}
    world.ada.http.headers["host"] = "trellis.example.org"
    yield "WrongState", {}


@endings_of("finishPasskeyLogin")
async def finish_passkey_login(world: World) -> Endings:
    session = await _signed_in(world)
    device = Device(at_localhost(session))
    await add_passkey(session, device)
    credential = device.get(await begin_login(session))
    yield "LoginPayload", {"credential": credential}
    yield "InvalidInput", {"credential": credential}
    yield "InvalidCredentials", {"credential": replace(device, flags=0).get(await begin_login(session))}
    await _delete_ada(world)
    await _set_user(world, "bob", username="ada")
    world.sender = world.bob
    at_localhost(world.bob)
    yield "NameTaken", {"credential": device.get(await begin_login(world.bob)), "restore": True}
    world.bob.http.headers["host"] = "trellis.example.org"
    yield "WrongState", {"credential": credential}


@endings_of("removePasskey")
async def remove_passkey(world: World) -> Endings:
    session = await _signed_in(world)
    device = Device(at_localhost(session))
    passkey = await add_passkey(session, device)
    yield "RemovePasskeyPayload", {"id": passkey["id"]}
    yield "NotFound", {"id": passkey["id"]}
    await _aged_sessions(world)
    yield "WrongState", {"id": passkey["id"]}
