"""Inputs of mutations on explanations."""

import strawberry
from strawberry import ID

from graph.core.idempotency import IDEMPOTENCY_KEY
from graph.core.scalars import JSON, BigInt
from graph.explanations.enums import ExplanationMethod


@strawberry.input(
    description="What to explain, and how. Without `datasetVersionId`, `itemId` and `rows`, the rows are those that the model was measured on in its"
    " training: its test rows, or where there were none those that it learned from."
)
class CreateExplanationInput:
    model_version_id: ID = strawberry.field(description="The model version whose predictions are explained.")
    method: ExplanationMethod = strawberry.field(description="The method. One that cannot explain this model is Unsupported.")
    dataset_version_id: ID | None = strawberry.field(
        default=None,
        description="A version whose rows are used; it must be READY and of the model's owner. PERMUTATION needs the target in it.",
    )
    item_id: ID | None = strawberry.field(
        default=None, description="One item of a version instead, whose prediction is explained; OCCLUSION needs it."
    )
    rows: list[JSON] | None = strawberry.field(
        default=None,
        description="Rows instead, at most 1,000, as `predict` takes them. PERMUTATION cannot use them, as they have no target.",
    )
    max_rows: int | None = strawberry.field(
        default=None,
        description="How many rows are used at most, 1 to 10,000; 1,000 by default. Of more rows, a sample by `seed`. Of wide data, and of contributions"
        " to many classes, fewer are used, as `data` tells.",
    )
    features: list[str] | None = strawberry.field(
        default=None,
        description="The columns to explain, all by default. The contributions to a prediction are computed of all columns, and told of these."
        " PARTIAL_DEPENDENCE takes at most 50.",
    )
    class_label: str | None = strawberry.field(
        default=None,
        description="The class whose prediction is explained, as text. By default the second of two classes, and each of several; for OCCLUSION the one"
        " that the item is predicted to be.",
    )
    seed: BigInt | None = strawberry.field(
        default=None,
        description="The seed of samples and permutations, 0 by default. Equal inputs with equal seeds give equal explanations.",
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description=IDEMPOTENCY_KEY,
    )


@strawberry.input(description="The explanation to delete.")
class DeleteExplanationInput:
    id: ID = strawberry.field(description="The explanation.")
