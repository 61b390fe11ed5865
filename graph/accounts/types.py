"""Users."""

from __future__ import annotations

from datetime import datetime

import strawberry

from db.core.viewer import UserRole, UserTier
from db.queries import accounts
from graph.core.enums import describe
from graph.core.ids import Node
from graph.core.scalars import BigInt

describe(
    UserRole,
    "What a user may do.",
    VIEWER="Read what is theirs, and change nothing.",
    MEMBER="Read and change what is theirs.",
    ADMIN="Read and change everything.",
)
describe(
    UserTier,
    "How much a user may use up. It sets limits, never permissions.",
    FREE="What everybody starts with.",
    PRO="More of all that is limited.",
    ENTERPRISE="The most, or without a limit.",
)


@strawberry.type(description="Somebody who owns things here. You see yourself; admins see everyone.")
class User(Node, prefix="user", found_by=accounts.live_by_id):
    email: str = strawberry.field(description="Their e-mail address.")
    username: str = strawberry.field(description="Their short name, unique here.")
    full_name: str | None = strawberry.field(description="Their name as people say it.")
    role: UserRole = strawberry.field(description="What they may do.")
    tier: UserTier = strawberry.field(description="How much they may use up.")
    credit_balance: BigInt = strawberry.field(
        description="The credits that they can spend. What jobs under way hold is not among them any more."
    )
    credits_held: BigInt = strawberry.field(
        description="The credits that jobs under way hold: each is charged once its job has completed, or given back to `creditBalance`."
    )
    created_at: datetime = strawberry.field(description="When they were added.")
    updated_at: datetime = strawberry.field(description="When something about them was last changed.")
    deleted_at: datetime | None = strawberry.field(description="When they were deleted; edges still lead to them.")
