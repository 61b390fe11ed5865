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
    "The permissions of a user.",
    VIEWER="Reads what is theirs and changes nothing.",
    MEMBER="Reads and changes what is theirs.",
    ADMIN="Reads and changes everything.",
)
describe(
    UserTier,
    "How much a user may use. It sets limits, never permissions.",
    FREE="The tier of new users.",
    PRO="Higher limits.",
    ENTERPRISE="The highest limits, or none.",
)


@strawberry.type(
    description="A user, who may own datasets, pipelines, jobs, models and experiments. You see yourself; admins see everyone."
)
class User(Node, prefix="user", found_by=accounts.live_by_id):
    email: str = strawberry.field(description="Their e-mail address.")
    username: str = strawberry.field(description="Their short name, unique among all users.")
    full_name: str | None = strawberry.field(description="Their full name, for display.")
    role: UserRole = strawberry.field(description="Their permissions.")
    tier: UserTier = strawberry.field(description="Their limits.")
    credit_balance: BigInt = strawberry.field(description="The credits that they can spend, without those that unfinished jobs hold.")
    credits_held: BigInt = strawberry.field(
        description="The credits that unfinished jobs hold. They are charged when the job completes, and otherwise returned to `creditBalance`."
    )
    created_at: datetime = strawberry.field(description="When the user was added.")
    updated_at: datetime = strawberry.field(description="When the user was last changed.")
    deleted_at: datetime | None = strawberry.field(description="When the user was deleted. Null at present: users cannot be deleted yet.")
