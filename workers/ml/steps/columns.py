"""Choosing columns: select and drop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from workers.ml.steps.step import Node, Parameters, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle

ColumnName = Annotated[str, Field(min_length=1, max_length=500)]


class ChosenColumns(Parameters):
    columns: list[ColumnName] = Field(
        title="Columns",
        description="Names of columns of the dataset.",
        min_length=1,
        max_length=20_000,
        json_schema_extra={"x-column": True},
    )


def select(bundle: Bundle, node: Node) -> dict[str, Any]:
    chosen = {bundle.column(name, node, "columns", str(place)).name for place, name in enumerate(node.parameters.columns)}
    for name in [name for name in bundle.columns if name not in chosen]:
        bundle.drop(name, node, named=False)
    return {"columns": len(bundle.columns)}


def drop(bundle: Bundle, node: Node) -> dict[str, Any]:
    for place, name in enumerate(dict.fromkeys(node.parameters.columns)):
        bundle.column(name, node, "columns", str(place))
        bundle.drop(name, node, named=True)
    bundle.need_columns(node)
    return {"columns": len(bundle.columns)}


SELECT = Step(
    key="select_columns",
    type="TRANSFORM",
    title="Select columns",
    description="Keeps the named columns and leaves out all others. The target and the column of a split by time need not be named.",
    parameters=ChosenColumns,
    place="choose",
    run=select,
)
DROP = Step(
    key="drop_columns",
    type="TRANSFORM",
    title="Drop columns",
    description="Leaves out the named columns and keeps all others.",
    parameters=ChosenColumns,
    place="choose",
    run=drop,
)
