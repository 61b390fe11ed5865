"""Steps that select and drop columns."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from workers.ml.errors import BadInput
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle


def composed(name: str) -> str:
    """The form NFC, in which column names are stored and compared."""
    return unicodedata.normalize("NFC", name)


ColumnName = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(composed)]


class ChosenColumns(Parameters):
    columns: list[ColumnName] = Field(
        title="Columns",
        description="Names of columns of the dataset.",
        min_length=1,
        max_length=20_000,
        json_schema_extra={"x-column": True},
    )


def select(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    chosen = {bundle.column(name, node, "columns", str(index)).name for index, name in enumerate(node.parameters.columns)}
    for name in [name for name in bundle.columns if name not in chosen]:
        bundle.drop(name, node, by_name=False)
    return {"columns": len(bundle.columns)}


def drop(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    for index, name in enumerate(dict.fromkeys(node.parameters.columns)):
        bundle.column(name, node, "columns", str(index))
        bundle.drop(name, node, by_name=True)
    bundle.require_columns(node)
    return {"columns": len(bundle.columns)}


class NoParameters(Parameters):
    """No parameters: the values decide."""


def select_numbers(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput (NO_COLUMNS)."""
    for name in [column.name for column in bundle.columns.values() if column.kind != "number"]:
        bundle.drop(name, node, by_name=False)
    if not bundle.columns:
        raise BadInput("NO_COLUMNS", f"No column is left after step '{node.key}': none is a number. Remove the step.", path=node.path())
    return {"columns": len(bundle.columns)}


SELECT = Step(
    key="select_columns",
    type="TRANSFORM",
    title="Select columns",
    description="Keeps the named columns and drops all others. The target and the time column of a split need not be named.",
    parameters=ChosenColumns,
    place="choose",
    run=select,
    chooses="keep",
)
DROP = Step(
    key="drop_columns",
    type="TRANSFORM",
    title="Drop columns",
    description="Drops the named columns and keeps all others.",
    parameters=ChosenColumns,
    place="choose",
    run=drop,
    chooses="drop",
)
SELECT_NUMBERS = Step(
    key="select_numbers",
    type="TRANSFORM",
    title="Select numbers",
    description="Keeps the columns of numbers and drops all others, such as the key, the split and the group of items. The target and the columns of a split"
    " may be of any type.",
    parameters=NoParameters,
    place="choose",
    run=select_numbers,
    chooses="numbers",
)
