"""Root queries for models."""

import strawberry

from db.queries import models
from graph.core.edges import listing, lookup
from graph.core.paging import Connection
from graph.models.inputs import ModelFilter, ModelOrder
from graph.models.types import Model


@strawberry.type
class ModelQueries:
    model: Model | None = lookup(models.live_by_id, prefix="model", description="A model by its id.")
    models: Connection[Model] = listing(
        models.listing, filtered_by=ModelFilter, ordered_by=ModelOrder, description="Your models; for admins, everybody's."
    )
