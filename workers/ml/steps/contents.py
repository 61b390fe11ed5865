"""Steps that work on the contents of items: what all of them share."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import Field

from workers.ml.contents.content import ContentOperation, Role
from workers.ml.errors import BadInput
from workers.ml.steps.step import Parameters, PipelineNode, Step, StepFunction, StepType

if TYPE_CHECKING:
    import numpy as np

    from workers.ml.bundle import Bundle

MAX_AUGMENTED_ROWS = 1_000_000


def columns_name(default: str) -> Any:
    """The parameter `name` of a step that reads contents."""
    return Field(
        default=default,
        min_length=1,
        max_length=100,
        title="Name",
        description="What the names of the columns begin with, before an underscore. No two steps have the same.",
        json_schema_extra={"x-column-prefix": True},
    )


class AugmentParameters(Parameters):
    """Parameters of a step that makes copies of training rows."""

    copies: int = Field(default=1, ge=1, le=20, title="Copies", description="How many copies are made of each training row.")


_OF_THE_STEP = ("name", "copies")  # parameters that the step itself uses, see above


def operation(role: Role, module: str, function: str) -> ContentOperation:
    """A function of a module of `workers.ml.contents` with the step's parameters. It is imported where it is used, since the API imports the steps."""

    def make(parameters: Parameters) -> Any:
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in parameters if name not in _OF_THE_STEP}
        return partial(getattr(import_module(f"workers.ml.contents.{module}"), function), **values)

    return ContentOperation(role, make)


def content_step(
    key: str,
    *,
    title: str,
    description: str,
    parameters: type[Parameters],
    modalities: tuple[str, ...],
    content: ContentOperation,
    type: StepType = "TRANSFORM",  # noqa: A002 - as the field of Step
    run: StepFunction | None = None,
) -> Step:
    """A step on the contents of items. `run` is that of its role, but for one that writes."""
    run = run or {"change": change, "divide": change, "read": read, "augment": augment}[content.role]
    place = "rows" if content.role == "augment" else "choose"
    return Step(key, type, title, description, parameters, place, run, modalities=modalities, content=content)


def change(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Take the operation on; the steps that read the contents apply it. Raises BadInput (NO_ITEMS, UNSOUND_PIPELINE)."""
    contents = bundle.contents_for(node)
    contents.add(node)
    return {"items": len(contents.items)}


def read(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Add columns. Raises BadInput: NO_ITEMS, NO_ROWS, NAME_TAKEN, TOO_LARGE, BAD_CONTENT, DIFFERENT_SIZES."""
    from workers.ml.steps.content_rows import add_columns  # polars; the API imports the registry only for its schemas

    contents = bundle.contents_for(node)
    rows_before = bundle.count()
    contents.add(node)
    names = add_columns(bundle, contents, node)
    output = {"rows": bundle.count(), "columns": len(bundle.columns), "added_columns": len(names)}
    return {**output, "rows_before": rows_before} if contents.is_divided else output


def augment(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Add copies of the training rows, whose columns are read from changed contents.

    Raises BadInput: NO_ITEMS, NO_TRAINING, NOT_SUPPORTED, TOO_LARGE, BAD_CONTENT.
    """
    import numpy as np  # the API imports the registry only for its schemas

    from workers.ml.steps.content_rows import copies_of
    from workers.ml.steps.row_choice import apply_choice

    copies = copies_of(bundle, bundle.contents_for(node), node)

    def choose(rows: np.ndarray) -> np.ndarray:
        copied = copies.of(rows)
        if len(copied) + len(rows) > MAX_AUGMENTED_ROWS:
            raise BadInput(
                "TOO_LARGE",
                f"Step '{node.key}' makes {len(copied) + len(rows):,} training rows; the maximum is {MAX_AUGMENTED_ROWS:,}. Make fewer copies.",
                path=node.path("copies"),
            )
        return np.concatenate([rows, copied])

    return apply_choice(bundle, node, choose)
