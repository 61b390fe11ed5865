"""The filter of the audit."""

import strawberry
from strawberry import ID

from graph.core.filters import DateTimeFilter, Filter, reference, reference_to_any


@strawberry.input(description="Conditions on events of the audit, all of which must hold. A list of values means any of them.")
class AuditEventFilter(Filter):
    action: list[str] | None = strawberry.field(description="What was done, such as `create_dataset`.")
    subject_id: ID | None = reference_to_any(description="What was changed or created.")
    actor_id: ID | None = reference("user", description="Who did it.")
    owner_id: ID | None = reference("user", description="Whose it is that was changed; useful to admins, who see everybody's.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was done.")
