"""Root queries for datasets."""

from __future__ import annotations

from typing import Annotated

import strawberry
from strawberry import ID

from db.queries import datasets, uploads
from db.services.generators import GENERATORS
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import listing, lookup
from graph.core.ids import parse
from graph.core.paging import Connection
from graph.core.permissions import Scope, query
from graph.datasets.files import Upload
from graph.datasets.generators import DatasetGenerator
from graph.datasets.inputs import DatasetFilter, DatasetOrder
from graph.datasets.types import Dataset


@strawberry.type
class DatasetQueries:
    dataset: Dataset | None = lookup(datasets.live_by_id, prefix="dataset", description="A dataset by its id.")
    datasets: Connection[Dataset] = listing(
        datasets.listing, filtered_by=DatasetFilter, ordered_by=DatasetOrder, description="Your datasets; for admins, everybody's."
    )

    @query(metadata=costs(entries=5), description="The generators of synthetic data that `generateDataset` takes.")
    def dataset_generators(self) -> list[DatasetGenerator]:
        return [DatasetGenerator.of(generator) for generator in GENERATORS.values()]

    @query(
        scope=Scope.WRITE,
        description="An upload, to go on with it after a break. Its URLs are new ones. Null if there is none that you may see.",
    )
    async def upload(
        self, info: Info, id: Annotated[ID, strawberry.argument(description="Its id, as returned by `requestUpload`.")]
    ) -> Upload | None:
        parsed = parse(id)
        if parsed is None or parsed[0] != "upload":
            return None
        row = (await uploads.live_by_id(info.context.database, info.context.signed_in_viewer, [parsed[1]])).get(parsed[1])
        return None if row is None else Upload.of(row)
