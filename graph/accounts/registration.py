"""Registering, with or without an invitation; verifying and changing an address; changing what an account is called."""

from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import accounts as account_queries
from db.queries import invitations as invitation_queries
from db.services import accounts
from graph.accounts.inputs import (
    ChangeEmailInput,
    InviteMemberInput,
    RegisterInput,
    RevokeInvitationInput,
    UpdateAccountInput,
    VerifyEmailInput,
)
from graph.accounts.passwords import ATTEMPT
from graph.accounts.types import Invitation, User
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import one
from graph.core.ids import decode
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidCredentials, InvalidInput, NameTaken, NotFound, WeakPassword, WrongState


@strawberry.type(
    description="A mail was sent to the address. If nobody has an account with it, the mail has the token that `verifyEmail` takes, and there is no"
    " account until then; else it tells the owner of that account."
)
class RegisterPayload:
    email: str = strawberry.field(description="The address as it was sent.")


@strawberry.type(
    description="The address is verified: after a registration there is an account, after a change the address is the new one."
)
class VerifyEmailPayload:
    email: str = strawberry.field(description="The address that is verified.")
    username: str = strawberry.field(description="The username of the account. Sign in with `login`; you are not signed in by this.")


@strawberry.type(
    description="A mail was sent to the new address. If nobody else has it, the mail has the token that `verifyEmail` takes, and the address changes"
    " then. A mail to the present address tells of it."
)
class ChangeEmailPayload:
    email: str = strawberry.field(description="The new address as it was sent.")


@strawberry.type(description="The account was changed.")
class UpdateAccountPayload:
    user_id: strawberry.Private[UUID]
    viewer: User = one(account_queries.live_by_id, key="user_id", description="You, as you are called now.")


@strawberry.type(
    description="The invitation is on its way by mail, unless the address got too many. Earlier ones to it, to the same team or to register, have"
    " ended."
)
class InviteMemberPayload:
    invitation_id: strawberry.Private[UUID]
    invitation: Invitation = one(invitation_queries.by_id, key="invitation_id", description="The new invitation.")


@strawberry.type(description="The invitation has ended: nobody can use it any more.")
class RevokeInvitationPayload:
    revoked_id: strawberry.ID = strawberry.field(description="The id of the invitation that ended.")


RegisterResult = Annotated[
    RegisterPayload | NameTaken | WeakPassword | InvalidInput | WrongState,
    strawberry.union("RegisterResult", description="The possible results of `register`."),
]
VerifyEmailResult = Annotated[
    VerifyEmailPayload | NameTaken | InvalidInput | WrongState,
    strawberry.union("VerifyEmailResult", description="The possible results of `verifyEmail`."),
]
ChangeEmailResult = Annotated[
    ChangeEmailPayload | InvalidCredentials | InvalidInput,
    strawberry.union("ChangeEmailResult", description="The possible results of `changeEmail`."),
]
UpdateAccountResult = Annotated[
    UpdateAccountPayload | NameTaken | InvalidInput,
    strawberry.union("UpdateAccountResult", description="The possible results of `updateAccount`."),
]
InviteMemberResult = Annotated[
    InviteMemberPayload | InvalidInput | WrongState | NotFound,
    strawberry.union("InviteMemberResult", description="The possible results of `inviteMember`."),
]
RevokeInvitationResult = Annotated[
    RevokeInvitationPayload | NotFound,
    strawberry.union("RevokeInvitationResult", description="The possible results of `revokeInvitation`."),
]


@strawberry.type
class Registration:
    @mutation(
        scope=Scope.PUBLIC,
        description="Ask for an account. There is one once `verifyEmail` got the token that is mailed to the address, within 48 hours; until then"
        " nothing is reserved. Neither the answer nor its time tells whether the address has an account already. The operator decides who may"
        " register: nobody, who was invited, or everybody; WrongState tells.",
        metadata=costs(ATTEMPT),
    )
    async def register(
        self, info: Info, input: Annotated[RegisterInput, strawberry.argument(description="The account that you want.")]
    ) -> RegisterResult:
        assert info.context.registrations is not None
        new = accounts.NewRegistration(input.email, input.username, input.password, input.full_name, input.invitation_token)
        await info.context.registrations.register(new, info.context.client)
        return RegisterPayload(email=input.email)

    @mutation(
        scope=Scope.PUBLIC,
        description="Verify an address with the token of a mail, which is valid once: of a registration, which makes the account, or of a change of"
        " address. It signs nobody in. If the username was taken meanwhile, the token stays valid: send it again with another `username`.",
        metadata=costs(ATTEMPT),
    )
    async def verify_email(
        self, info: Info, input: Annotated[VerifyEmailInput, strawberry.argument(description="The token.")]
    ) -> VerifyEmailResult:
        assert info.context.registrations is not None
        verified = await info.context.registrations.verify_email(input.token, input.username, info.context.client)
        return VerifyEmailPayload(email=verified.email, username=verified.username)

    @mutation(
        scope=Scope.SESSION,
        description="Ask for another address. It is yours once `verifyEmail` got the token that is mailed there, within 30 minutes; a change of the"
        " password makes the token void. Neither the answer nor its time tells whether somebody else has the address.",
        metadata=costs(ATTEMPT),
    )
    async def change_email(
        self, info: Info, input: Annotated[ChangeEmailInput, strawberry.argument(description="The address and your password.")]
    ) -> ChangeEmailResult:
        context = info.context
        assert context.email_changes is not None
        await context.email_changes.request(context.signed_in_viewer, input.new_email, input.current_password, context.client)
        return ChangeEmailPayload(email=input.new_email)

    @mutation(scope=Scope.SESSION, description="Change your username or your full name. The former username is free at once.")
    async def update_account(
        self, info: Info, input: Annotated[UpdateAccountInput, strawberry.argument(description="The changes.")]
    ) -> UpdateAccountResult:
        async with info.context.work() as work:
            user_id = await accounts.update_account(work, input.changes())
        return UpdateAccountPayload(user_id=user_id)

    @mutation(
        scope=Scope.SESSION,
        description="Invite somebody to a team, for its ADMINs, or to register, for admins; both signed in less than ten minutes ago, or WrongState says"
        " to sign in again. The invitation is valid once, for seven days, with this address, and only while you are that admin; it ends earlier"
        " ones to the address. Neither the answer nor its time tells who has the address. A user sends 20 an hour at most, and three mails an hour,"
        " and ten a day, go to one address.",
        metadata=costs(ATTEMPT),
    )
    async def invite_member(
        self, info: Info, input: Annotated[InviteMemberInput, strawberry.argument(description="Whom to invite.")]
    ) -> InviteMemberResult:
        context, viewer = info.context, info.context.signed_in_viewer
        assert context.registrations is not None
        assert context.team_invitations is not None
        if input.team_id is None:
            invitation_id = await context.registrations.invite(viewer, input.email, input.role)
        else:
            team_id = decode("user", input.team_id)
            invitation_id = await context.team_invitations.invite(viewer, team_id, input.email, input.role, context.client)
        return InviteMemberPayload(invitation_id=invitation_id)

    @mutation(
        scope=Scope.ACCOUNT,
        description="End an invitation: one to register that you sent, or, with a session, one to a team of which you are ADMIN; for admins, anybody's.",
    )
    async def revoke_invitation(
        self, info: Info, input: Annotated[RevokeInvitationInput, strawberry.argument(description="The invitation.")]
    ) -> RevokeInvitationResult:
        async with info.context.work() as work:
            await accounts.revoke_invitation(work, decode("invitation", input.id))
        return RevokeInvitationPayload(revoked_id=input.id)
