"""Runs a pipeline's body in the test process and records its reports."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from workers.ml.errors import BadInput
from workers.ml.training import PipelineSpec, run_pipeline


@dataclass
class PipelineRecorder:
    """A Reporter that records its calls and asserts that progress never falls."""

    percents: list[float] = field(default_factory=list[float])
    steps: list[str] = field(default_factory=list[str])
    nodes: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    node_percents: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    errors: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    metric_points: dict[str, list[tuple[int, float]]] = field(default_factory=dict[str, list[tuple[int, float]]])
    log_lines: list[str] = field(default_factory=list[str])
    checkpoints: list[tuple[dict[str, Any], Path]] = field(default_factory=list[tuple[dict[str, Any], Path]])
    resume_messages: list[str] = field(default_factory=list[str])
    answers: dict[str, Callable[[dict[str, Any]], Any]] = field(default_factory=dict[str, "Callable[[dict[str, Any]], Any]"])

    def progress(self, percent: float, step: str) -> None:
        assert step
        assert not self.percents or self.percents[-1] <= percent <= 100
        self.percents.append(percent)
        self.steps.append(step)

    def node(
        self, key: str, status: str, progress: int = 0, output: dict[str, Any] | None = None, error: dict[str, Any] | None = None
    ) -> None:
        assert 0 <= progress <= 100
        percents = self.node_percents.setdefault(key, [])
        if status == "running" and percents:
            assert percents[-1] < progress
        else:
            self.nodes.append((key, status))
        percents.append(progress)
        if output is not None:
            self.outputs[key] = output
        if error is not None:
            self.errors[key] = error

    def metric(self, key: str, step: int, value: float) -> None:
        self.metric_points.setdefault(key, []).append((step, value))

    def checkpoint(self, name: str, position: int, state: dict[str, Any], file: Path | None = None, *, disposable: bool = False) -> None:
        assert (name, disposable) == ("training", True)
        assert file is not None
        self.checkpoints.append((json.loads(json.dumps(state, allow_nan=False)), file))

    def resumed(self, name: str, message: str) -> None:
        assert not self.metric_points
        self.resume_messages.append(message)

    def restarted(self, name: str, message: str) -> None:
        self.resumed(name, message)

    def ask(self, question: str, arguments: dict[str, Any]) -> Any:
        return json.loads(json.dumps(self.answers[question](arguments)))

    def log(self, message: str) -> None:
        self.log_lines.append(message)


def chain(*steps: tuple[str, dict[str, Any]] | str) -> dict[str, Any]:
    """A linear pipeline definition after the dataset node. A node's key is its step, numbered from the second of a kind on."""
    nodes: list[dict[str, Any]] = [{"key": "dataset", "step": "dataset", "parameters": {}}]
    for step in steps:
        name, parameters = step if isinstance(step, tuple) else (step, {})
        earlier = sum(node["step"] == name for node in nodes)
        nodes.append({"key": f"{name}{earlier + 1}" if earlier else name, "step": name, "parameters": parameters})
    return {"nodes": nodes, "links": [{"source": a["key"], "target": b["key"]} for a, b in pairwise(nodes)]}


def column_schema(frame: pl.DataFrame) -> list[dict[str, Any]]:
    type_names: dict[Any, str] = {pl.Boolean: "BOOLEAN", pl.String: "STRING", pl.Date: "DATE"}
    return [
        {"name": name, "type": type_names.get(type(dtype), "INTEGER" if dtype.is_integer() else "FLOAT"), "nullable": True}
        for name, dtype in frame.schema.items()
    ]


def run(folder: Path, frame: pl.DataFrame, definition: dict[str, Any], **options: Any) -> tuple[Mapping[str, Any], PipelineRecorder]:
    """Return the result, which must survive JSON, and the recorder. Options: target, problem, seed, max_cells, checkpointing, halving, report,
    and `items`: the files of its items, which are named by the rows if it `is_joined`."""
    output = folder / "out"
    output.mkdir(exist_ok=True)
    frame.write_parquet(folder / "in.parquet")
    report: PipelineRecorder = options.get("report") or PipelineRecorder()
    spec: PipelineSpec = {
        "definition": definition,
        "parquet": str(folder / "in.parquet"),
        "columns": column_schema(frame),
        "target_column": options.get("target"),
        "problem_type": options.get("problem"),
        "seed": options.get("seed", 7),
        "folder": str(output),
        "context": {"dataset_name": "a dataset", "version_number": 3, "pipeline_name": "a pipeline"},
    }
    if "max_cells" in options:
        spec["max_cells"] = options["max_cells"]
    if "checkpointing" in options:
        spec["checkpointing"] = options["checkpointing"]
    if "halving" in options:
        spec["halving"] = options["halving"]
    if "items" in options:
        spec["items"] = options["items"]
        spec["is_joined"] = options.get("is_joined", False)
    result = run_pipeline(spec, report)
    return json.loads(json.dumps(result, allow_nan=False)), report


def pipeline_error(folder: Path, frame: pl.DataFrame, definition: dict[str, Any], **options: Any) -> BadInput:
    """Return the BadInput that the pipeline must raise."""
    try:
        run(folder, frame, definition, **options)
    except BadInput as error:
        return error
    raise AssertionError("the pipeline was not refused")


def artifact_path(result: Mapping[str, Any], role: str) -> Path:
    return Path(next(entry["path"] for entry in result["artifacts"] if entry["role"] == role))
