"""The root query for the audit."""

import strawberry

from db.queries import audit
from graph.audit.inputs import AuditEventFilter
from graph.audit.types import AuditEvent
from graph.core.edges import listing
from graph.core.paging import Connection
from graph.core.permissions import Scope


@strawberry.type
class AuditQueries:
    audit_events: Connection[AuditEvent] = listing(
        audit.listing,
        filtered_by=AuditEventFilter,
        scope=Scope.ACCOUNT,
        description="Who changed what is yours, and what you changed, newest first; for admins, all changes.",
    )
