"""Root queries for datasets."""

from typing import Annotated

import strawberry
from strawberry import ID

from db.queries import datasets, uploads, versions
from db.services.generators import GENERATORS
from graph.core.context import Info
from graph.core.costs import COMPUTED, costs
from graph.core.edges import listing, lookup
from graph.core.ids import lookup_key, parse
from graph.core.paging import Connection
from graph.core.permissions import Scope, query
from graph.datasets.comparison import VersionComparison, compare
from graph.datasets.files import Upload
from graph.datasets.generators import DatasetGenerator
from graph.datasets.inputs import DatasetFilter, DatasetOrder
from graph.datasets.types import Dataset, DatasetVersion


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

    @query(
        metadata=costs(COMPUTED),
        description="Compare two versions, of one dataset or of two: their columns and, from their profiles, the distributions. Null if one of them does not"
        " exist or you may not see it.",
    )
    async def compare_versions(
        self,
        info: Info,
        from_: Annotated[ID, strawberry.argument(name="from", description="The first version, such as the older one.")],
        to: Annotated[ID, strawberry.argument(description="The second version.")],
    ) -> VersionComparison | None:
        keys = [lookup_key(DatasetVersion.prefix, text) for text in (from_, to)]
        if None in keys:
            return None
        before, after = await info.context.loaders.one(versions.live_by_id, DatasetVersion.of).load_many(keys)
        return None if before is None or after is None else await compare(info, before, after)
