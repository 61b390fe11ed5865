"""Running a pipeline's body in this process, and keeping what it reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from workers.ml.errors import BadInput
from workers.ml.training import PipelineSpec, run_pipeline


@dataclass
class Recorder:
    """A Reporter that keeps everything, and holds the body to what it promises: progress never falls."""

    percents: list[float] = field(default_factory=list[float])
    nodes: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    errors: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict[str, list[tuple[int, float]]])
    lines: list[str] = field(default_factory=list[str])
    kept: list[tuple[dict[str, Any], Path]] = field(default_factory=list[tuple[dict[str, Any], Path]])
    told: list[str] = field(default_factory=list[str])

    def progress(self, percent: float, step: str) -> None:
        assert step
        assert not self.percents or self.percents[-1] <= percent <= 100
        self.percents.append(percent)

    def node(
        self, key: str, status: str, progress: int = 0, output: dict[str, Any] | None = None, error: dict[str, Any] | None = None
    ) -> None:
        assert 0 <= progress <= 100
        self.nodes.append((key, status))
        if output is not None:
            self.outputs[key] = output
        if error is not None:
            self.errors[key] = error

    def metric(self, key: str, step: int, value: float) -> None:
        self.points.setdefault(key, []).append((step, value))

    def checkpoint(self, name: str, position: int, state: dict[str, Any], file: Path | None = None, *, disposable: bool = False) -> None:
        assert (name, disposable) == ("training", True)
        assert file is not None
        self.kept.append((json.loads(json.dumps(state, allow_nan=False)), file))

    def resumed(self, name: str, message: str) -> None:
        assert not self.points
        self.told.append(message)

    def restarted(self, name: str, message: str) -> None:
        self.resumed(name, message)

    def log(self, message: str) -> None:
        self.lines.append(message)


def chain(*steps: tuple[str, dict[str, Any]] | str) -> dict[str, Any]:
    """A definition whose nodes stand in one line behind the dataset; a node's key is its step's, numbered from the second of a kind on."""
    nodes: list[dict[str, Any]] = [{"key": "dataset", "step": "dataset", "parameters": {}}]
    for step in steps:
        name, parameters = step if isinstance(step, tuple) else (step, {})
        same = sum(node["step"] == name for node in nodes)
        nodes.append({"key": f"{name}{same + 1}" if same else name, "step": name, "parameters": parameters})
    return {"nodes": nodes, "links": [{"source": a["key"], "target": b["key"]} for a, b in pairwise(nodes)]}


def types_of(frame: pl.DataFrame) -> list[dict[str, Any]]:
    names: dict[Any, str] = {pl.Boolean: "BOOLEAN", pl.String: "STRING", pl.Date: "DATE"}
    return [
        {"name": name, "type": names.get(type(dtype), "INTEGER" if dtype.is_integer() else "FLOAT"), "nullable": True}
        for name, dtype in frame.schema.items()
    ]


def run(folder: Path, frame: pl.DataFrame, definition: dict[str, Any], **options: Any) -> tuple[Mapping[str, Any], Recorder]:
    """The result, proven to survive the pipe as JSON, and what was reported. Options: target, problem, seed, max_cells, keeping, report."""
    out = folder / "out"
    out.mkdir(exist_ok=True)
    frame.write_parquet(folder / "in.parquet")
    report: Recorder = options.get("report") or Recorder()
    spec: PipelineSpec = {
        "definition": definition,
        "parquet": str(folder / "in.parquet"),
        "columns": types_of(frame),
        "target_column": options.get("target"),
        "problem_type": options.get("problem"),
        "seed": options.get("seed", 7),
        "folder": str(out),
        "context": {"dataset_name": "a dataset", "version_number": 3, "pipeline_name": "a pipeline"},
    }
    if "max_cells" in options:
        spec["max_cells"] = options["max_cells"]
    if "keeping" in options:
        spec["keeping"] = options["keeping"]
    result = run_pipeline(spec, report)
    return json.loads(json.dumps(result, allow_nan=False)), report


def refusal(folder: Path, frame: pl.DataFrame, definition: dict[str, Any], **options: Any) -> BadInput:
    """The BadInput that the pipeline ends with."""
    try:
        run(folder, frame, definition, **options)
    except BadInput as error:
        return error
    raise AssertionError("the pipeline was not refused")


def artifact(result: Mapping[str, Any], role: str) -> Path:
    return Path(next(one["path"] for one in result["artifacts"] if one["role"] == role))
