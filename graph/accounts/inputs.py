"""Inputs of mutations on accounts."""

from datetime import datetime
from typing import Any

import strawberry
from strawberry import ID, Maybe

from graph.accounts.enums import AccountKind, ApiScope, LoginTransport, UserRole, UserTier
from graph.core.filters import DateTimeFilter, Filter, StringFilter, order_input
from graph.core.scalars import JSON, BigInt


@strawberry.input(description="Conditions on users, all of which must hold. A list of roles or tiers means any of them.")
class UserFilter(Filter):
    email: StringFilter | None = strawberry.field(description="Their e-mail address.")
    username: StringFilter | None = strawberry.field(description="Their short name.")
    full_name: StringFilter | None = strawberry.field(description="Their full name.")
    kind: list[AccountKind] | None = strawberry.field(description="Whether they are persons or teams.")
    role: list[UserRole] | None = strawberry.field(description="Their permissions.")
    tier: list[UserTier] | None = strawberry.field(description="Their limits.")
    is_active: bool | None = strawberry.field(description="Whether they can sign in.")
    created_at: DateTimeFilter | None = strawberry.field(description="When they were added.")
    last_login_at: DateTimeFilter | None = strawberry.field(description="When they last signed in, with a password or a passkey.")


UserOrder = order_input(
    "User",
    "users",
    created_at="When they were added.",
    username="Their short name, ignoring case.",
    email="Their e-mail address, ignoring case.",
    last_login_at="When they last signed in, with a password or a passkey; those who never did come last.",
)


@strawberry.input(description="Changes to a user. Omitted fields stay unchanged.")
class AdministerUserInput:
    id: ID = strawberry.field(description="The user.")
    role: Maybe[UserRole | None] = strawberry.field(description="New permissions; they cannot be cleared.")
    tier: Maybe[UserTier | None] = strawberry.field(description="New limits; they cannot be cleared.")
    is_active: Maybe[bool | None] = strawberry.field(
        description="False refuses their tokens and closes their streams until it is true again. Their data and their jobs stay."
    )
    storage_quota_bytes: Maybe[BigInt | None] = strawberry.field(
        description="How many bytes they may store; with 0, none. Null takes it back, so that they have the quota of their tier."
    )

    def changes(self) -> dict[str, Any]:
        """Return the given fields; None clears one."""
        fields = {"role": self.role, "tier": self.tier, "is_active": self.is_active, "storage_quota_bytes": self.storage_quota_bytes}
        return {name: change.value for name, change in fields.items() if change is not None}


@strawberry.input(description="Who signs in, and their password.")
class LoginInput:
    login: str = strawberry.field(description="The e-mail address or the username, ignoring case.")
    password: str = strawberry.field(description="The password. It is neither stored nor logged.")
    transport: LoginTransport = strawberry.field(default=LoginTransport.TOKEN, description="How the session's token is handed over.")


@strawberry.input(description="The session to end.")
class RevokeSessionInput:
    id: ID = strawberry.field(description="The session, as `sessions` lists it.")


@strawberry.input(description="Whose password is to be reset.")
class RequestPasswordResetInput:
    email: str = strawberry.field(description="The e-mail address of the account, ignoring case.")


@strawberry.input(description="The token of the mail, and the new password.")
class ResetPasswordInput:
    token: str = strawberry.field(description="The token that the mail or its link has.")
    new_password: str = strawberry.field(description="The new password, 10 to 1,000 characters.")


@strawberry.input(description="The password of now, and the new one.")
class ChangePasswordInput:
    current_password: str = strawberry.field(description="The password of now: who only has the session may not change it.")
    new_password: str = strawberry.field(description="The new password, 10 to 1,000 characters.")


@strawberry.input(description="The account that you want.")
class RegisterInput:
    email: str = strawberry.field(description="Your e-mail address. A mail with a token is sent there, which `verifyEmail` takes.")
    username: str = strawberry.field(
        description="Your short name, public and unique among all users ignoring case: 1 to 64 letters, digits, dots, dashes and underscores."
    )
    password: str = strawberry.field(description="The password to sign in with, 10 to 1,000 characters. Only its hash is stored.")
    full_name: str | None = strawberry.field(default=None, description="Your full name, for display; at most 200 characters.")
    invitation_token: str | None = strawberry.field(
        default=None, description="The token of the mail that invited you. It is for the address that it was sent to."
    )


@strawberry.input(description="The token of the mail that verifies an address.")
class VerifyEmailInput:
    token: str = strawberry.field(description="The token that the mail or its link has.")
    username: str | None = strawberry.field(
        default=None,
        description="Another username than you registered with, as when that was taken meanwhile. Changes of address ignore it.",
    )


@strawberry.input(description="The new address, and your password.")
class ChangeEmailInput:
    new_email: str = strawberry.field(
        description="The address that you want to have. A mail with a token is sent there, which `verifyEmail` takes; your present address, to verify it."
    )
    current_password: str = strawberry.field(description="The password of now: who only has the session may not change the address.")


@strawberry.input(description="Changes to your account. Omitted fields stay unchanged; null clears a field.")
class UpdateAccountInput:
    full_name: Maybe[str | None] = strawberry.field(description="Your full name, for display; at most 200 characters.")
    username: Maybe[str | None] = strawberry.field(
        description="Your short name, public and unique among all users ignoring case; it cannot be cleared."
    )

    def changes(self) -> dict[str, Any]:
        """Return the given fields; None clears one."""
        fields = {"full_name": self.full_name, "username": self.username}
        return {name: change.value for name, change in fields.items() if change is not None}


@strawberry.input(description="Whom to invite, and what they may do.")
class InviteMemberInput:
    email: str = strawberry.field(description="The address of who is invited. The invitation can be used with no other.")
    role: UserRole = strawberry.field(
        default=UserRole.MEMBER, description="The role that they get: in the team, or in the whole of Trellis when they register."
    )
    team_id: ID | None = strawberry.field(
        default=None, description="A team of which you are ADMIN; without it, they are invited to register."
    )


@strawberry.input(description="The invitation to a team that you accept.")
class AcceptInvitationInput:
    token: str = strawberry.field(description="The token that the mail or its link has.")


@strawberry.input(description="The invitation that you decline.")
class DeclineInvitationInput:
    token: str = strawberry.field(description="The token that the mail or its link has.")


@strawberry.input(description="The team that you want.")
class CreateTeamInput:
    name: str = strawberry.field(description="What it is called, for display; 1 to 200 characters.")
    username: str = strawberry.field(
        description="Its short name, unique among all users and teams ignoring case: 1 to 64 letters, digits, dots, dashes and underscores."
    )


@strawberry.input(description="A member of a team, and what they may do from now on.")
class SetTeamRoleInput:
    team_id: ID = strawberry.field(description="The team.")
    user_id: ID = strawberry.field(description="The member: the `accountId` of their profile.")
    role: UserRole = strawberry.field(description="The role in the team. That in the whole of Trellis stays.")


@strawberry.input(description="Who is to be in a team no more.")
class RemoveTeamMemberInput:
    team_id: ID = strawberry.field(description="The team.")
    user_id: ID = strawberry.field(description="The member: the `accountId` of their profile.")


@strawberry.input(description="The team to leave.")
class LeaveTeamInput:
    team_id: ID = strawberry.field(description="The team.")


@strawberry.input(description="The team to delete.")
class DeleteTeamInput:
    id: ID = strawberry.field(description="The team.")


@strawberry.input(description="The invitation to end.")
class RevokeInvitationInput:
    id: ID = strawberry.field(description="The invitation, as `User.invitations` lists it.")


@strawberry.input(description="The second step of a sign-in.")
class ConfirmLoginInput:
    challenge: str = strawberry.field(description="The challenge that `login` returned, valid for 5 minutes.")
    code: str = strawberry.field(description="The code that your app shows now, or a backup code. Spaces and dashes are ignored.")
    transport: LoginTransport = strawberry.field(default=LoginTransport.TOKEN, description="How the session's token is handed over.")


@strawberry.input(description="What shows that it is you who deletes the account.")
class DeleteAccountInput:
    password: str | None = strawberry.field(
        default=None, description="Your password. It may be left out if you signed in less than ten minutes ago."
    )


@strawberry.input(description="The deleted account, and how it is to be called.")
class RestoreAccountInput:
    login: str = strawberry.field(
        description="The address or the username that it had. Of several accounts that had it, the one deleted last is restored."
    )
    password: str = strawberry.field(description="The password that it had.")
    username: str | None = strawberry.field(
        default=None,
        description="Another username than it had, as when that was taken meanwhile; 1 to 64 letters, digits, `.`, `_` and `-`.",
    )
    transport: LoginTransport = strawberry.field(default=LoginTransport.TOKEN, description="How the session's token is handed over.")


@strawberry.input(description="Who adds an app for codes.")
class EnrollTotpInput:
    password: str = strawberry.field(description="Your password.")


@strawberry.input(description="A code of the new secret, which shows that an app has it.")
class ConfirmTotpInput:
    code: str = strawberry.field(description="The six digits that the app shows now.")


@strawberry.input(description="Who removes the app for codes.")
class DisableTotpInput:
    password: str = strawberry.field(description="Your password.")
    code: str = strawberry.field(description="The code that your app shows now, or a backup code.")


@strawberry.input(description="Who replaces the backup codes.")
class RegenerateBackupCodesInput:
    password: str = strawberry.field(description="Your password.")
    code: str = strawberry.field(description="The code that your app shows now, or a backup code.")


@strawberry.input(name="UnlinkOAuthIdentityInput", description="The identity to unlink.")
class UnlinkOAuthIdentityInput:
    provider: str = strawberry.field(description="The provider, as `User.oauthIdentities` names it.")


@strawberry.input(description="The passkey to add.")
class BeginPasskeyRegistrationInput:
    name: str = strawberry.field(description="What you recognise it by, 1 to 100 characters, unique among your passkeys ignoring case.")


@strawberry.input(description="What the browser got from the device that made the passkey.")
class FinishPasskeyRegistrationInput:
    credential: JSON = strawberry.field(description="What `navigator.credentials.create` returned, as its `toJSON()` writes it.")


@strawberry.input(description="Who signs in with a passkey, if that is known already.")
class BeginPasskeyLoginInput:
    challenge: str | None = strawberry.field(
        default=None, description="The challenge that `login` returned: the browser then offers only the passkeys of its user."
    )


@strawberry.input(description="What the browser got from the passkey.")
class FinishPasskeyLoginInput:
    credential: JSON = strawberry.field(description="What `navigator.credentials.get` returned, as its `toJSON()` writes it.")
    challenge: str | None = strawberry.field(
        default=None, description="The challenge that `login` returned, if the passkey is to stand for the code. It is used up."
    )
    transport: LoginTransport = strawberry.field(default=LoginTransport.TOKEN, description="How the session's token is handed over.")
    restore: bool = strawberry.field(
        default=False, description="Restore the account of the passkey, which its owner deleted, and sign in to it."
    )
    username: str | None = strawberry.field(
        default=None, description="Another username than the account had, to restore it; without `restore` it has no effect."
    )


@strawberry.input(description="The passkey to remove.")
class RemovePasskeyInput:
    id: ID = strawberry.field(description="The passkey, as `User.passkeys` lists it.")


@strawberry.input(description="The API key to make.")
class CreateApiKeyInput:
    name: str = strawberry.field(description="What it is for, 1 to 100 characters. Several keys may have one name.")
    scopes: list[ApiScope] = strawberry.field(
        description="What it may be used for: at least one scope, and none that your role does not allow."
    )
    expires_at: datetime | None = strawberry.field(
        description="From when on it is refused; it does not expire if this is left out.", default=None
    )
    points_per_minute: int | None = strawberry.field(
        description="How many points it may spend in a minute, within those of your account; only those limit it if this is left out.",
        default=None,
    )
    replaces: ID | None = strawberry.field(
        description="A valid key of yours that the new one is to replace. Both are valid for the time `overlap`; then the old one expires.",
        default=None,
    )
    overlap: int = strawberry.field(
        description="Seconds for which the replaced key stays valid, unless it expires before: 0 to 2,592,000, which is 30 days. A day by default.",
        default=86_400,
    )


@strawberry.input(description="The API key to revoke.")
class RevokeApiKeyInput:
    id: ID = strawberry.field(description="The key, as `apiKeys` lists it.")
