"""Root queries for exports."""

import strawberry

from db.queries import exports
from graph.core.edges import listing, lookup
from graph.core.paging import Connection
from graph.exports.inputs import ExportFilter, ExportOrder
from graph.exports.types import Export


@strawberry.type
class ExportQueries:
    export: Export | None = lookup(exports.by_id, prefix="export", description="An export by its id.")
    exports: Connection[Export] = listing(
        exports.listing,
        filtered_by=ExportFilter,
        ordered_by=ExportOrder,
        description="Your exports, expired ones included; for admins, everybody's.",
    )
