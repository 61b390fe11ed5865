"""What external runs read."""

from uuid import UUID

import strawberry

from db.queries import run_inputs, versions
from graph.core.costs import costs
from graph.core.edges import extend, many, one
from graph.core.ids import RowObject
from graph.datasets.types import DatasetVersion
from graph.experiments.types import Run


@strawberry.type(description="Data that an external run reads, as its code named it.")
class RunInput(RowObject):
    dataset_version_id: strawberry.Private[UUID | None]
    source: str = strawberry.field(description="What it was named by: an id, a SHA-256 or any other name, such as a path.")
    digest: str = strawberry.field(description="A digest of the data as the code computed it; empty if it gave none.")
    name: str | None = strawberry.field(description="A name to show.")
    context: str | None = strawberry.field(description="What it is read for, such as `training`.")
    dataset_version: DatasetVersion | None = one(
        versions.by_id,
        key="dataset_version_id",
        description="The version that source or digest name: of a SHA-256, the newest one when it was logged. Null for data that Trellis does not have.",
    )


extend(
    Run,
    "inputs",
    list[RunInput],
    many(
        run_inputs.of_run, metadata=costs(entries=10), description="The data that it said it reads, at most 100; of an external run alone."
    ),
)
