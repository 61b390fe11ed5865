"""Making teams. Only sessions may: a key touches no membership."""

from dataclasses import replace
from typing import Annotated
from uuid import UUID

import strawberry

from db.core.viewer import UserRole
from db.queries import accounts as account_queries
from db.services import accounts
from graph.accounts.inputs import CreateTeamInput
from graph.accounts.types import User
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import one
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidInput, NameTaken, QuotaExceeded

CREATION = 20  # points: the rows are kept


@strawberry.type(description="The team was made, and you are its ADMIN.")
class CreateTeamPayload:
    team_id: strawberry.Private[UUID]
    team: User = one(account_queries.live_by_id, key="team_id", description="The new team.")


CreateTeamResult = Annotated[
    CreateTeamPayload | InvalidInput | NameTaken | QuotaExceeded,
    strawberry.union("CreateTeamResult", description="The possible results of `createTeam`."),
]


@strawberry.type
class Teams:
    @mutation(
        scope=Scope.SESSION,
        description="Make a team: an account that owns things as a person does, and that its members share. You are its first member, as ADMIN. It"
        " counts in your limits, and spends your credits, until an admin gives it a storage quota of its own.",
        metadata=costs(CREATION),
    )
    async def create_team(
        self, info: Info, input: Annotated[CreateTeamInput, strawberry.argument(description="The team.")]
    ) -> CreateTeamResult:
        async with info.context.work() as work:
            team_id = await accounts.create_team(work, input.name, input.username)
        viewer = info.context.signed_in_viewer
        info.context.sign_in(replace(viewer, teams=tuple(sorted({*viewer.teams, (team_id, UserRole.ADMIN)}))))
        return CreateTeamPayload(team_id=team_id)
