"""Changing who is in a team, and ending teams. Only sessions may: a key touches no membership."""

from dataclasses import replace
from typing import Annotated
from uuid import UUID

import strawberry

from db.core.viewer import UserRole
from db.queries import accounts as account_queries
from db.services import accounts
from graph.accounts.inputs import (
    AcceptInvitationInput,
    DeclineInvitationInput,
    DeleteTeamInput,
    LeaveTeamInput,
    RemoveTeamMemberInput,
    SetTeamRoleInput,
)
from graph.accounts.passwords import ATTEMPT
from graph.accounts.types import Invitation, Membership, User
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import one
from graph.core.ids import decode, global_id
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidInput, LastAdmin, NotFound, QuotaExceeded, WrongState


@strawberry.type(description="The member has this role now. Their open streams and websockets follow within seconds.")
class SetTeamRolePayload:
    membership: Membership = strawberry.field(description="The membership with its new role.")


@strawberry.type(
    description="The person is in the team no more, and sees nothing that it owns. Their open streams of it end within seconds."
)
class RemoveTeamMemberPayload:
    team_id: strawberry.Private[UUID]
    team: User | None = one(account_queries.live_by_id, key="team_id", description="The team, without them; null if it was you.")


@strawberry.type(description="You are in the team no more, and see nothing that it owns.")
class LeaveTeamPayload:
    left_id: strawberry.ID = strawberry.field(description="The id of the team, to remove it from caches.")


@strawberry.type(
    description="The team was deleted, with what it owns. It is absent from lists and lookups, and its username is free. For 30 days, whoever runs"
    " this Trellis can restore it."
)
class DeleteTeamPayload:
    deleted_id: strawberry.ID = strawberry.field(description="The id of the team, to remove it from caches.")


@strawberry.type(description="You are in the team now. Your open streams and websockets follow within seconds.")
class AcceptInvitationPayload:
    membership: Membership = strawberry.field(description="Your membership.")


@strawberry.type(description="The invitation has ended: nobody can use it any more.")
class DeclineInvitationPayload:
    declined_id: strawberry.ID = strawberry.field(description="The id of the invitation.")


SetTeamRoleResult = Annotated[
    SetTeamRolePayload | NotFound | LastAdmin,
    strawberry.union("SetTeamRoleResult", description="The possible results of `setTeamRole`."),
]
RemoveTeamMemberResult = Annotated[
    RemoveTeamMemberPayload | NotFound | LastAdmin,
    strawberry.union("RemoveTeamMemberResult", description="The possible results of `removeTeamMember`."),
]
LeaveTeamResult = Annotated[
    LeaveTeamPayload | NotFound | LastAdmin,
    strawberry.union("LeaveTeamResult", description="The possible results of `leaveTeam`."),
]
DeleteTeamResult = Annotated[
    DeleteTeamPayload | NotFound | WrongState,
    strawberry.union("DeleteTeamResult", description="The possible results of `deleteTeam`."),
]

AcceptInvitationResult = Annotated[
    AcceptInvitationPayload | InvalidInput | WrongState | QuotaExceeded,
    strawberry.union("AcceptInvitationResult", description="The possible results of `acceptInvitation`."),
]
DeclineInvitationResult = Annotated[
    DeclineInvitationPayload | InvalidInput,
    strawberry.union("DeclineInvitationResult", description="The possible results of `declineInvitation`."),
]


@strawberry.type
class Members:
    @mutation(
        scope=Scope.SESSION,
        description="Change the role of a member, for ADMINs of the team. One ADMIN who can sign in always stays: else the result is LastAdmin.",
    )
    async def set_team_role(
        self, info: Info, input: Annotated[SetTeamRoleInput, strawberry.argument(description="The member and the role.")]
    ) -> SetTeamRoleResult:
        team_id, user_id = decode("user", input.team_id), decode("user", input.user_id)
        async with info.context.work() as work:
            membership = await accounts.set_team_role(work, team_id, user_id, input.role)
        if user_id == info.context.signed_in_viewer.id:
            set_own_role(info, team_id, input.role)
        return SetTeamRolePayload(membership=Membership.of(membership))

    @mutation(
        scope=Scope.SESSION,
        description="Remove a person from a team, for ADMINs of it. What they made there stays the team's. One ADMIN who can sign in always stays:"
        " else the result is LastAdmin.",
    )
    async def remove_team_member(
        self, info: Info, input: Annotated[RemoveTeamMemberInput, strawberry.argument(description="The member.")]
    ) -> RemoveTeamMemberResult:
        team_id, user_id = decode("user", input.team_id), decode("user", input.user_id)
        async with info.context.work() as work:
            await accounts.remove_team_member(work, team_id, user_id)
        if user_id == info.context.signed_in_viewer.id:
            set_own_role(info, team_id, None)
        return RemoveTeamMemberPayload(team_id=team_id)

    @mutation(
        scope=Scope.SESSION,
        description="Leave a team. What you made there stays the team's. Its last ADMIN who can sign in cannot leave: the result is LastAdmin.",
    )
    async def leave_team(
        self, info: Info, input: Annotated[LeaveTeamInput, strawberry.argument(description="The team.")]
    ) -> LeaveTeamResult:
        team_id = decode("user", input.team_id)
        async with info.context.work() as work:
            await accounts.leave_team(work, team_id)
        set_own_role(info, team_id, None)
        return LeaveTeamPayload(left_id=input.team_id)

    @mutation(
        scope=Scope.SESSION,
        description="Delete a team with all that it owns, for ADMINs of it who signed in less than ten minutes ago; else, and while a job of the team"
        " has not ended, the result is WrongState.",
    )
    async def delete_team(
        self, info: Info, input: Annotated[DeleteTeamInput, strawberry.argument(description="The team to delete.")]
    ) -> DeleteTeamResult:
        team_id = decode("user", input.id)
        async with info.context.work() as work:
            await accounts.delete_team(work, team_id)
        set_own_role(info, team_id, None)
        return DeleteTeamPayload(deleted_id=input.id)

    @mutation(
        scope=Scope.SESSION,
        description="Be in the team that the token of a mail invites you to. It takes a session of the account that has the address of the"
        " invitation, verified; WrongState says that it is not, or that you are in the team already. QuotaExceeded: you are in as many teams as one may be.",
        metadata=costs(ATTEMPT),
    )
    async def accept_invitation(
        self, info: Info, input: Annotated[AcceptInvitationInput, strawberry.argument(description="The token.")]
    ) -> AcceptInvitationResult:
        context = info.context
        assert context.team_invitations is not None
        membership = await context.team_invitations.accept(context.signed_in_viewer, input.token, context.client)
        set_own_role(info, membership.team_id, membership.role)
        return AcceptInvitationPayload(membership=Membership.of(membership))

    @mutation(
        scope=Scope.PUBLIC,
        description="Decline an invitation, to a team or to register, with the token of its mail. Whoever has that may, without an account.",
        metadata=costs(ATTEMPT),
    )
    async def decline_invitation(
        self, info: Info, input: Annotated[DeclineInvitationInput, strawberry.argument(description="The token.")]
    ) -> DeclineInvitationResult:
        context = info.context
        assert context.team_invitations is not None
        invitation_id = await context.team_invitations.decline(input.token, context.client)
        return DeclineInvitationPayload(declined_id=global_id(Invitation, invitation_id))


def set_own_role(info: Info, team_id: UUID, role: UserRole | None) -> None:
    """Execute the rest of the operation with the viewer's new role in a team; None if they are not in it any more."""
    viewer = info.context.signed_in_viewer
    teams = {**dict(viewer.teams), team_id: role}
    info.context.sign_in(replace(viewer, teams=tuple(sorted((id_, role) for id_, role in teams.items() if role is not None))))
