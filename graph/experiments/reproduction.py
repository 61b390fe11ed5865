"""Runs that reproduce others, and what came of it."""

from typing import TYPE_CHECKING, Annotated, Self
from uuid import UUID

import strawberry

from db.queries import reproductions, runs
from db.queries.reproductions import DifferenceKind
from graph.core.costs import costs
from graph.core.edges import one
from graph.core.enums import describe
from graph.core.scalars import JSON

if TYPE_CHECKING:
    from graph.experiments.types import Run

describe(
    DifferenceKind,
    "What differs between a run and the one that it reproduces.",
    METRIC="A metric: the number of its points, or its last, least or greatest value, or their steps.",
    FILE="A file of the model: its bytes.",
)


@strawberry.type(description="Something that is not the same in a run and in the one that it reproduces.")
class RunDifference:
    kind: DifferenceKind = strawberry.field(description="What it is.")
    name: str = strawberry.field(description="The metric's key, or the file's path in the run.")
    original: JSON | None = strawberry.field(
        description="What the original has: of a metric `{count, last, lastStep, min, minStep, max, maxStep}`, of a file the SHA-256 of its bytes; null if"
        " it has none."
    )
    reproduced: JSON | None = strawberry.field(description="The same of the run that reproduces it.")


@strawberry.type(
    description="What came of reproducing a run: its training done again with the same definition, data and seed. Metrics of speed, such as"
    " `step_seconds`, and files that name versions and times, such as the card, are not compared; nor are files of a model that is gone for good."
)
class Reproduction:
    run_id: strawberry.Private[UUID]
    original_run_id: strawberry.Private[UUID]
    run: Annotated["Run", strawberry.lazy("graph.experiments.types")] = one(
        runs.by_id, key="run_id", description="The run that was made again."
    )
    original: Annotated["Run", strawberry.lazy("graph.experiments.types")] = one(
        runs.by_id, key="original_run_id", description="The run that it reproduces."
    )
    is_identical: bool | None = strawberry.field(
        description="Whether its metrics and the files of its model are those of the original, to the last bit. Null unless both have completed."
    )
    differences: list[RunDifference] = strawberry.field(
        metadata=costs(entries=10),
        description="What differs, metrics before files and by name. Empty if nothing does, and unless both have completed.",
    )

    @classmethod
    def of(cls, told: reproductions.Reproduction) -> Self:
        differences = told.differences or ()
        return cls(
            run_id=told.run_id,
            original_run_id=told.original_run_id,
            is_identical=None if told.differences is None else not told.differences,
            differences=[
                RunDifference(kind=each.kind, name=each.name, original=each.original, reproduced=each.reproduced) for each in differences
            ],
        )
