"""Events of the audit."""

from datetime import datetime
from uuid import UUID

import strawberry

from db.core.audit import AuditOrigin
from db.queries import accounts, audit
from graph.accounts.queries import load_node
from graph.accounts.types import Profile
from graph.core.context import Info
from graph.core.edges import one
from graph.core.enums import describe
from graph.core.ids import Node
from graph.core.permissions import Scope
from graph.core.scalars import JSON

describe(
    AuditOrigin,
    "How a change was asked for.",
    API="By a mutation.",
    COMMAND_LINE="By an operator, with the command `trellis` on the server; or by its settings, when it started.",
)


@strawberry.type(
    description="A change that somebody made: a mutation, a sign-in or a command. Events never change. You see those of what is yours, and"
    " your own; admins see all. What jobs do is told by their events."
)
class AuditEvent(Node, prefix="audit", found_by=audit.by_id, scope=Scope.ACCOUNT):
    actor_id: strawberry.Private[UUID | None]
    owner_id: strawberry.Private[UUID | None]
    action: str = strawberry.field(
        description="What was done: the name of the mutation in lower case, such as `create_dataset`; what only commands do has a name of that form."
    )
    actor: Profile | None = one(
        accounts.profile_by_id,
        key="actor_id",
        description="Who did it. Null if nobody was signed in, as on the command line or to reset a password.",
    )
    credential_id: strawberry.ID | None = strawberry.field(
        description="The session or the API key that the actor used, `session_…` or `apikey_…`."
    )
    owner: Profile | None = one(accounts.profile_by_id, key="owner_id", description="Whose it is that was changed.")
    subject_id: strawberry.ID | None = strawberry.field(
        description="The id of what was changed or created, whether or not it still exists."
    )
    before: JSON | None = strawberry.field(
        description="The values that changed, as they were. Null if it was created. Secrets are left out; of a value over 4 KiB, `bytes` and `sha256` stand here."
    )
    after: JSON | None = strawberry.field(
        description="The values that were set, or what else is known of the change, in the form of `before`."
    )
    origin: AuditOrigin = strawberry.field(description="How it was asked for.")
    ip_address: str | None = strawberry.field(description="The address from which the request came; null for commands.")
    request_id: str | None = strawberry.field(
        description="The id of the request, which its response has as `x-request-id` and logs as well."
    )
    created_at: datetime = strawberry.field(description="When its transaction began.")

    @strawberry.field(description="What was changed or created; null if it does not exist any more or you may not see it.")
    async def subject(self, info: Info) -> Node | None:
        return None if self.subject_id is None else await load_node(info.context, self.subject_id)
