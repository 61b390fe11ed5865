"""Exporting nodes of a definition: where they stand, what they export, and the options of their format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Row

from db.core.checks import Checks
from db.services.export_options import Source, validated
from db.tables.exports import ExportFormat
from db.tables.pipelines import StepType

_RESULTS = {StepType.TRAIN, StepType.EVALUATE}


def exporting_nodes(definition: Mapping[str, Any], steps: Mapping[str, Row[Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The nodes that export, with their places."""
    for index, node in enumerate(definition["nodes"]):
        if (step := steps.get(node["step"])) is not None and step.type is StepType.EXPORT:
            yield index, node


def format_of(node: Mapping[str, Any], steps: Mapping[str, Row[Any]]) -> ExportFormat:
    """The format of a node whose parameters are valid."""
    default: str = steps[node["step"]].parameter_schema["properties"]["format"]["default"]
    return ExportFormat[str(node["parameters"].get("format", default)).upper()]


def check(checks: Checks, definition: Mapping[str, Any], steps: Mapping[str, Row[Any]]) -> None:
    """Add issues for nodes that export something else than the pipeline makes, or with options that their format does not have.

    The columns that options name are checked when they are known: by the job. Parameters that are invalid by their schema have an issue already.
    """
    types = {node["key"]: steps[node["step"]].type for node in definition["nodes"] if node["step"] in steps}
    is_training = StepType.TRAIN in types.values()
    for index, node in exporting_nodes(definition, steps):
        path = ("definition", "nodes", index)
        for source in (link["source"] for link in definition["links"] if link["target"] == node["key"]):
            others = (link["target"] for link in definition["links"] if link["source"] == source)
            if is_training and types.get(source) not in _RESULTS:
                checks.add(*path, message=f"{node['key']!r} exports the model, so it comes after the training. Link it there.")
            elif (
                not is_training
                and (later := next((key for key in others if types.get(key, StepType.EXPORT) is not StepType.EXPORT), None)) is not None
            ):
                checks.add(
                    *path, message=f"{node['key']!r} exports the rows that the pipeline writes, so it comes after {later!r}. Link it there."
                )
        if any(issue.path[:4] == (*map(str, path), "parameters") for issue in checks.issues):
            continue
        export_format = format_of(node, steps)
        if (export_format is ExportFormat.ONNX) is not is_training:
            made, formats = ("a model", "onnx") if is_training else ("rows", "one of the others")
            message = f"The pipeline makes {made}, which cannot be exported as {export_format.name}. Choose {formats}."
            checks.add(*path, "parameters", "format", message=message)
            continue
        of_options = Checks()
        validated(export_format, node["parameters"].get("options"), Source(None), of_options)
        for issue in of_options.issues:
            checks.add(*path, "parameters", *issue.path, message=issue.message)
