"""Exporting step: what the pipeline makes, in another format."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from workers.ml.steps.step import Parameters, Step, no_part_in_the_body

MODEL_FORMATS = ("onnx",)


class ExportParameters(Parameters):
    format: Literal["csv", "json", "jsonl", "parquet", "huggingface", "pytorch", "tensorflow", "onnx"] = Field(
        default="csv",
        title="Format",
        description="The format of the files: ONNX for the model of a pipeline that trains, any other for the rows of one that does not.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        title="Options",
        description="Options of the format, as `createExport` takes them. Columns are those of the rows that the pipeline writes.",
        json_schema_extra={"x-export-options": True},
    )


EXPORT = Step(
    key="export",
    type="EXPORT",
    title="Export",
    description="Writes what the pipeline makes as an export: files of its rows in a format of other programs, or its model as ONNX. They are kept as those of"
    " `createExport` are. A result that cannot be exported is kept without one.",
    parameters=ExportParameters,
    place="end",
    run=no_part_in_the_body,
)
