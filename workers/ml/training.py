"""The body of TRAIN and PROCESS jobs: a pipeline run node by node."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import polars as pl

from workers.ml import problem
from workers.ml.bundle import MAX_CELLS, Bundle, Column, kind_of
from workers.ml.errors import BadInput
from workers.ml.plan import Plan, make_plan
from workers.ml.reporting import Reporter
from workers.ml.steps.keeping import Keeping
from workers.ml.steps.split import default_division
from workers.ml.steps.step import Node
from workers.ml.steps.trainer import THREADS, TRAINING_STARTS, Trained

if TYPE_CHECKING:
    from workers.ml.profiling import ProfileReport


PREPARING_STARTS = 2.0
# What steps before the training cost next to each other: those that choose or divide go over all rows, one that fits first has them read.
_COST: dict[str, float] = {"source": 1.0, "choose": 4.0, "split": 4.0, "fit": 3.0}


class PipelineSpec(TypedDict):
    """`columns` are {name, type, nullable} as in the dataset version; `context` names things in the model card."""

    definition: dict[str, Any]
    parquet: str
    columns: list[dict[str, Any]]
    target_column: str | None
    problem_type: str | None
    seed: int
    folder: str
    context: dict[str, Any]
    max_cells: NotRequired[int]
    keeping: NotRequired[Keeping]


class ModelResult(TypedDict):
    kind: str
    algorithm: str
    framework: str
    architecture: str | None
    problem_type: str
    hyperparameters: dict[str, Any]
    metrics: dict[str, float]
    versions: dict[str, str]
    artifacts: list[dict[str, str]]
    nodes: list[dict[str, Any]]


class DatasetResult(TypedDict):
    kind: str
    parquet: str
    row_count: int
    column_count: int
    columns: list[dict[str, Any]]
    preview: list[dict[str, Any]]
    profile: ProfileReport
    nodes: list[dict[str, Any]]


def run_pipeline(spec: PipelineSpec, report: Reporter) -> ModelResult | DatasetResult:
    """Runs a definition on one Parquet file; writes into `spec["folder"]` and nowhere else.

    Raises BadInput where the definition is unsound or the data do not suit it; the node at fault has then been reported as failed.
    """
    from threadpoolctl import threadpool_limits  # with scikit-learn, which it comes with: seconds to import

    plan = make_plan(spec["definition"])
    report.progress(1, "Reading")
    bundle = _bundle(spec, plan, report)
    with threadpool_limits(limits=THREADS):
        nodes = _run_nodes(bundle, plan, spec)
        last = plan.training or plan.line[-1]
        try:
            if bundle.trained is not None:
                return _model(bundle, bundle.trained, spec, nodes)
            return _dataset(bundle, plan, spec, nodes)
        except unsuitable() as error:
            what = "made a model that cannot be measured on these data" if bundle.trained is not None else "cannot be applied to these data"
            raise _refusal(error, last, what) from error


def _bundle(spec: PipelineSpec, plan: Plan, report: Reporter) -> Bundle:
    lazy = pl.scan_parquet(spec["parquet"])
    types = {column["name"]: str(column["type"]) for column in spec["columns"]}
    columns = {name: Column(name, types.get(name, str(dtype)), kind_of(dtype)) for name, dtype in lazy.collect_schema().items()}
    bundle = Bundle(
        lazy,
        columns,
        report,
        spec["seed"],
        max_cells=spec.get("max_cells", MAX_CELLS),
        folder=Path(spec["folder"]),
        keeping=spec.get("keeping"),
    )
    for node in plan.of("split"):
        bundle.time_column = node.parameters.time_column
        bundle.extra |= {name for name in (node.parameters.time_column, node.parameters.stratify_by) if name in columns}
    if plan.training is None and spec["target_column"] in columns:
        bundle.target = spec["target_column"]
    return bundle


def _run_nodes(bundle: Bundle, plan: Plan, spec: PipelineSpec) -> list[dict[str, Any]]:
    outputs: dict[str, dict[str, Any]] = {}
    settled = plan.training is None
    read = False
    steps = plan.in_order
    costs = [_COST.get(node.step.place, 0.0) for node in steps]
    for number, node in enumerate(steps):
        bundle.report.node(node.key, "running")
        if node.step.place in _COST:
            bundle.report.progress(_reached(costs, number), node.step.title)
        try:
            if not settled and node.step.place not in ("source", "choose"):
                _settle(bundle, plan, spec)
                settled = True
            if not read and node.step.place in ("fit", "train"):
                _read(bundle, plan)
                read = True
            outputs[node.key] = node.step.run(bundle, node)
        except BadInput as error:
            _report_failure(bundle.report, error, node, steps)
            raise
        except unsuitable() as error:
            refused = _refusal(error, node, "cannot work on these data")
            _report_failure(bundle.report, refused, node, steps)
            raise refused from error
        if node.step.place in _COST:
            bundle.report.progress(_reached(costs, number + 1), node.step.title)
        bundle.report.node(node.key, "completed", 100, outputs[node.key])
    return [{"key": node.key, "output": outputs[node.key]} for node in (*plan.line, *plan.after)]


def _reached(costs: list[float], number: int) -> float:
    """Percent, with so many steps done."""
    return PREPARING_STARTS + (TRAINING_STARTS - PREPARING_STARTS) * sum(costs[:number]) / sum(costs)


def unsuitable() -> tuple[type[Exception], ...]:
    """What the libraries raise of numbers and columns that they cannot work on. Steps name what they foresee; this is the rest of it."""
    from lightgbm.basic import LightGBMError  # see run_pipeline

    return (ValueError, ArithmeticError, LightGBMError, pl.exceptions.InvalidOperationError, pl.exceptions.SchemaError)


def _refusal(error: Exception, node: Node, what: str) -> BadInput:
    said = " ".join(str(error).split()).rstrip(".")[:500]
    advice = "Look at the columns it works on for values that are extreme, missing or of another kind, and at its parameters."
    return BadInput("UNSUITABLE_DATA", f"Step '{node.key}' ({node.step.title}) {what}: {said}. {advice}", path=node.path())


def _settle(bundle: Bundle, plan: Plan, spec: PipelineSpec) -> None:
    """Target, problem and excluded columns: known once rows are filtered, needed before they are divided."""
    training = plan.training
    assert training is not None
    problem.settle(bundle, training, spec["target_column"], spec["problem_type"])
    for place, name in enumerate(dict.fromkeys(training.parameters.exclude)):
        bundle.column(name, training, "exclude", str(place))
        if name == bundle.target and bundle.problem != "CLUSTERING":
            message = f"Step '{training.key}' excludes the column '{name}', which it is to predict. Take it out of exclude."
            raise BadInput("BAD_PARAMETER", message, column=name, path=training.path("exclude", str(place)))
        bundle.drop(name, training, named=True)


def _read(bundle: Bundle, plan: Plan) -> None:
    """Rows are in memory and divided before anything is learnt from them."""
    _ = bundle.frame
    if plan.training is not None and bundle.division is None:
        default_division(bundle, plan.training)


def _report_failure(report: Reporter, error: BadInput, running: Node, steps: list[Node]) -> None:
    """The node that the error's path names failed, which may be another than the one that found out."""
    at = error.path[2] if error.path and error.path[:2] == ["definition", "nodes"] else str(running.index)
    failed = next((node for node in steps if str(node.index) == at), running)
    if failed is not running:
        report.node(running.key, "skipped")
    report.node(failed.key, "failed", 0, None, {"code": error.code, "message": error.message, "retryable": False})
    for node in steps[steps.index(running) + 1 :]:
        if node is not failed:
            report.node(node.key, "skipped")


def _model(bundle: Bundle, trained: Trained, spec: PipelineSpec, nodes: list[dict[str, Any]]) -> ModelResult:
    from workers.ml.artifacts import write_artifacts  # matplotlib and skops: a second to import, needed at the end
    from workers.ml.steps.evaluate import measure

    bundle.report.progress(86, "Measuring")
    measure(bundle, "test")
    packages = ["scikit-learn", *(["lightgbm"] if trained.framework == "lightgbm" else []), "numpy", "polars", "skops"]
    versions = {"python": platform.python_version(), **{package: version(package) for package in packages}}
    bundle.report.progress(88, "Writing the model")
    artifacts = write_artifacts(bundle, trained, Path(spec["folder"]), versions, spec["context"], spec["definition"])
    bundle.report.progress(99, "Done")
    return {
        "kind": "model",
        "algorithm": type(trained.estimator).__name__,
        "framework": trained.framework,
        "architecture": None,
        "problem_type": trained.problem,
        "hyperparameters": trained.hyperparameters,
        "metrics": dict(sorted(bundle.metrics.items())),
        "versions": versions,
        "artifacts": artifacts,
        "nodes": nodes,
    }


def _dataset(bundle: Bundle, plan: Plan, spec: PipelineSpec, nodes: list[dict[str, Any]]) -> DatasetResult:
    from workers.ml.process import write_dataset
    from workers.ml.profiling import profile_parquet

    bundle.report.progress(30, "Writing the dataset")
    path = Path(spec["folder"]) / "data.parquet"
    written = write_dataset(bundle, plan, path)
    return {
        "kind": "dataset",
        "parquet": str(path),
        "row_count": written.row_count,
        "column_count": len(written.columns),
        "columns": written.columns,
        "preview": written.preview,
        "profile": profile_parquet(str(path), bundle.report, lo=50, hi=99),
        "nodes": nodes,
    }
