"""Inputs of predictions."""

import strawberry
from strawberry import ID

from graph.core.idempotency import IDEMPOTENCY_KEY
from graph.core.scalars import JSON


@strawberry.input(description="A model version and the rows to predict with it.")
class PredictInput:
    model_version_id: ID = strawberry.field(description="The model version.")
    rows: list[JSON] = strawberry.field(
        description="1 to 1,000 objects, each a value for every column that the model takes, by the column's name: numbers (true and false count"
        " as 1 and 0), texts, and dates in ISO 8601. A value that is null or left out is filled in where the model can do so, and"
        " InvalidInput where it cannot; other columns are ignored. `issues` in the result tell of all this."
    )
    idempotency_key: str | None = strawberry.field(description=IDEMPOTENCY_KEY)


@strawberry.input(description="A model version and the dataset version to predict with it.")
class PredictDatasetInput:
    model_version_id: ID = strawberry.field(description="The model version.")
    dataset_version_id: ID = strawberry.field(description="The version to predict; it must be READY and of the model's owner.")
    output_dataset_id: ID | None = strawberry.field(
        description="The dataset that gets the version with the predictions; a new dataset by default."
    )
    idempotency_key: str | None = strawberry.field(description=IDEMPOTENCY_KEY)
