"""Step that scales numeric columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle


class ScaleParameters(Parameters):
    columns: list[ColumnName] | None = Field(
        default=None,
        title="Columns",
        description="The columns to scale; by default every numeric feature, including encoded ones.",
        min_length=1,
        max_length=20_000,
        json_schema_extra={"x-column": True},
    )
    method: Literal["standard", "minmax", "robust"] = Field(
        default="standard",
        title="Method",
        description="`standard`: mean 0 and standard deviation 1; `minmax`: from 0 to 1; `robust`: median 0 and interquartile range 1, for data with outliers.",
    )


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler  # the API imports the registry only for its schemas

    scalers: dict[str, Any] = {"standard": StandardScaler, "minmax": MinMaxScaler, "robust": RobustScaler}
    columns = [
        column for column in bundle.columns_to_transform(node, node.parameters.columns, ("number",)) if column.name in bundle.columns
    ]
    bundle.add_stage(node, columns, scalers[node.parameters.method]())
    names = [column.name for column in columns]
    if names:
        bundle.fit_transformer(names, node)
    return {"rows": bundle.height, "columns": len(bundle.columns), "scaled_columns": len(names)}


SCALE = Step(
    key="scale",
    type="TRANSFORM",
    title="Scale",
    description="Scales numeric columns by statistics of the training rows.",
    parameters=ScaleParameters,
    place="fit",
    run=run,
)
