"""Root queries for datasets."""

from __future__ import annotations

import strawberry

from db.queries import datasets
from graph.core.edges import listing, lookup
from graph.core.paging import Connection
from graph.datasets.inputs import DatasetFilter, DatasetOrder
from graph.datasets.types import Dataset


@strawberry.type
class DatasetQueries:
    dataset: Dataset | None = lookup(datasets.live_by_id, prefix="dataset", description="A dataset by its id.")
    datasets: Connection[Dataset] = listing(
        datasets.listing, filtered_by=DatasetFilter, ordered_by=DatasetOrder, description="Your datasets; for admins, everybody's."
    )
