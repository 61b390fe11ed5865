"""The body of TRAIN and PROCESS jobs: runs a pipeline node by node."""

from __future__ import annotations

import importlib
import platform
import sys
from importlib.metadata import version
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import polars as pl

from workers.ml import problem
from workers.ml.bundle import MAX_CELLS, Bundle
from workers.ml.columns import Column, kind_of
from workers.ml.contents.places import ItemFiles, Items
from workers.ml.contents.program import ITEM_COLUMN
from workers.ml.contents.state import Contents
from workers.ml.errors import BadInput
from workers.ml.node_errors import RETRYABLE, as_bad_input, keep_model, optional, report_failure
from workers.ml.plan import Plan, make_plan
from workers.ml.reporting import Reporter
from workers.ml.steps.columns import composed
from workers.ml.steps.split import default_split
from workers.ml.steps.step import PipelineNode
from workers.ml.studies.halving import PRUNED, HalvingSpec, Pruned, PruneDecision, RungWatch
from workers.ml.trainer import THREADS, TRAINING_END_PERCENT, TRAINING_START_PERCENT, Trained, thread_pools
from workers.ml.training_checkpoints import CheckpointSettings

if TYPE_CHECKING:
    from workers.ml.architectures import Architecture, ArchitectureDocument
    from workers.ml.artifacts.writer import WrittenArtifact
    from workers.ml.contents.writers import WrittenFile
    from workers.ml.items.reading import ItemsResult
    from workers.ml.profiling import ProfileReport
    from workers.ml.reading.issues import Issue


PREPARATION_START_PERCENT = 2.0
EVALUATION_END_PERCENT = 85.0
# Relative cost of the steps before training: "choose" and "split" scan all rows, the first "fit" loads them into memory.
_PLACEMENT_COSTS: dict[str, float] = {"source": 1.0, "choose": 4.0, "split": 4.0, "rows": 1.0, "fit": 3.0}


class ModelSpec(TypedDict):
    """The model that gets a new version; `problem_type` is None if it has no version yet."""

    name: str
    problem_type: str | None


class OtherVersion(TypedDict):
    """A dataset version that a step joins: its file and its columns, {name, type, nullable}."""

    parquet: str
    columns: list[dict[str, Any]]


class PipelineSpec(TypedDict):
    """`columns` are {name, type, nullable} as in the dataset version; `context` holds the names shown in the model card; `versions` are those that
    steps join, by id; `items` are the files of the version's items, if a step works on their contents."""

    definition: dict[str, Any]
    parquet: str
    columns: list[dict[str, Any]]
    target_column: str | None
    problem_type: str | None
    seed: int
    folder: str
    context: dict[str, Any]
    max_cells: NotRequired[int]
    checkpointing: NotRequired[CheckpointSettings]
    model: NotRequired[ModelSpec]
    versions: NotRequired[dict[str, OtherVersion]]
    items: NotRequired[ItemFiles | None]
    is_joined: NotRequired[bool]
    """Whether the items are files that the rows name, rather than the rows themselves."""
    known_leaks: NotRequired[list[str]]
    """What the ingest of the version told of items that are in two of its splits."""
    halving: NotRequired[HalvingSpec]
    """At which steps the worker says whether the training goes on."""


class ModelResult(TypedDict):
    """`kind` is "model". `artifacts` as from `write_artifacts`; `nodes` are {key, output}; `versions` are of Python and packages; `best_step`
    is the step that the model is of, if the training stops early.

    Of a neural network, `architecture` is a text and `network` tells what it is made of.
    """

    kind: str
    algorithm: str
    framework: str
    architecture: str | None
    network: ArchitectureDocument | None
    config: dict[str, Any]
    problem_type: str
    hyperparameters: dict[str, Any]
    metrics: dict[str, float]
    versions: dict[str, str]
    best_step: int | None
    artifacts: list[WrittenArtifact]
    nodes: list[dict[str, Any]]


class PrunedResult(TypedDict):
    """`kind` is "pruned": the training ended at a rung, and there is no model. `pruning` has what the decision rests on, `network` what
    was trained, if it was a neural network."""

    kind: str
    pruning: PruneDecision
    network: ArchitectureDocument | None


class RawResult(TypedDict):
    """The file that the items of a version lie in, and what reading it told."""

    path: str
    filename: str
    content_type: str
    format: str
    size: int
    sha256: str
    issues: list[Issue]
    issue_count: int


class DatasetResult(TypedDict):
    """`kind` is "dataset". `columns` are {name, type, nullable}; `parquet` is a path; `nodes` are {key, output}. A version with items has a raw file."""

    kind: str
    parquet: str
    row_count: int
    column_count: int
    columns: list[dict[str, Any]]
    preview: list[dict[str, Any]]
    profile: ProfileReport
    nodes: list[dict[str, Any]]
    raw: NotRequired[RawResult]
    items: NotRequired[ItemsResult]


def run_pipeline(spec: PipelineSpec, reporter: Reporter) -> ModelResult | DatasetResult | PrunedResult:
    """Run a definition on one Parquet file, writing only into `spec["folder"]`.

    Raises BadInput if the definition is invalid or does not fit the data; the node at fault is then reported as failed.
    """
    plan = make_plan(spec["definition"])
    reporter.progress(1, "Read")
    bundle = _make_bundle(spec, plan, reporter)
    if plan.training is not None:
        importlib.import_module(
            "sklearn"
        )  # before its thread pools are limited: a body of a worker that preloads nothing has not yet imported it
    with thread_pools().limit(limits=THREADS):
        try:
            nodes = _run_nodes(bundle, plan, spec)
        except Pruned as pruned:
            return {"kind": PRUNED, "pruning": pruned.decision, "network": _network(bundle.architecture)}
        if bundle.trained is not None:
            return _write_model(bundle, bundle.trained, spec, nodes)
        try:
            return _write_dataset(bundle, plan, spec, nodes)
        except Exception as error:
            last_node = plan.chain[-1]
            bad_input = as_bad_input(reporter, error, last_node)
            if bad_input is None:
                raise
            report_failure(bundle, bad_input, last_node, [last_node])
            raise bad_input from error


def _make_bundle(spec: PipelineSpec, plan: Plan, reporter: Reporter) -> Bundle:
    is_training = plan.training is not None
    lazy, types = _read(spec["parquet"], spec["columns"], is_training=is_training)
    columns = {name: Column(name, types.get(name, str(dtype)), kind_of(dtype)) for name, dtype in lazy.collect_schema().items()}
    contents = None
    if (files := spec.get("items")) is not None:
        contents = Contents(Items(files), is_joined=spec.get("is_joined", False))
        if not contents.is_joined:
            if len(contents.items) != (rows := int(lazy.select(pl.len()).collect().item())):
                raise RuntimeError(f"The version has {rows} rows and {len(contents.items)} items.")
            lazy = lazy.with_row_index(ITEM_COLUMN)
    bundle = Bundle(
        lazy,
        columns,
        reporter,
        spec["seed"],
        max_cells=spec.get("max_cells", MAX_CELLS),
        folder=Path(spec["folder"]),
        checkpoint_settings=spec.get("checkpointing"),
        contents=contents,
        known_leaks=spec.get("known_leaks", ()),
        rung_watch=RungWatch(spec["halving"], reporter) if "halving" in spec else None,
        other_versions={
            id_: _read(other["parquet"], other["columns"], is_training=is_training) for id_, other in spec.get("versions", {}).items()
        },
    )
    if contents is not None and not contents.is_joined:
        bundle.extra_columns.add(ITEM_COLUMN)
    for node in plan.nodes_at("split"):
        _name_split_columns(bundle, node.parameters)
    target = getattr(plan.training.parameters, "target", None) if plan.training is not None else None
    bundle.target = target or _default_target(spec)
    if bundle.target not in columns:
        bundle.target = None  # a step may make it; see `_determine_target`
    return bundle


def _name_split_columns(bundle: Bundle, parameters: Any) -> None:
    """Those that a step splits by are loaded without being features."""
    bundle.time_column, bundle.group_column, bundle.split_column = (
        getattr(parameters, name, None) for name in ("time_column", "group_column", "split_column")
    )
    named = (bundle.time_column, bundle.group_column, bundle.split_column, getattr(parameters, "stratify_by", None))
    bundle.extra_columns |= {name for name in named if name is not None}


def _read(parquet: str, columns: list[dict[str, Any]], *, is_training: bool) -> tuple[pl.LazyFrame, dict[str, str]]:
    """Return the rows of a version's file, and the types of its columns by name."""
    lazy = pl.scan_parquet(parquet)
    names = lazy.collect_schema().names()
    if len({composed(name) for name in names}) == len(names):  # files written before names were composed
        lazy = lazy.rename({name: composed(name) for name in names if not name.isascii()})
    types = {composed(column["name"]): str(column["type"]) for column in columns}
    return _as_numbers(lazy, types, is_training=is_training), types


def _as_numbers(lazy: pl.LazyFrame, types: dict[str, str], *, is_training: bool) -> pl.LazyFrame:
    """Durations and times of day become FLOAT columns of seconds; a training, which computes with doubles, reads decimals as such."""
    changes: list[pl.Expr] = []
    for name, dtype in lazy.collect_schema().items():
        if dtype == pl.Time or isinstance(dtype, pl.Duration):
            unit = 1e9 if dtype == pl.Time else {"ms": 1e3, "us": 1e6, "ns": 1e9}[dtype.time_unit]
            changes.append(pl.col(name).to_physical().cast(pl.Float64) / unit)
            types[name] = "FLOAT"
        elif dtype.is_decimal() and is_training:
            changes.append(pl.col(name).cast(pl.Float64))
    return lazy.with_columns(changes)


def _default_target(spec: PipelineSpec) -> str | None:
    return None if spec["target_column"] is None else composed(spec["target_column"])


def _run_nodes(bundle: Bundle, plan: Plan, spec: PipelineSpec) -> list[dict[str, Any]]:
    outputs: dict[str, dict[str, Any]] = {}
    is_target_determined = plan.training is None
    is_loaded = is_chosen = False
    nodes = plan.execution_order
    spans = _progress_spans(plan)
    for node, span in zip(nodes, spans, strict=True):
        bundle.reporter.node(node.key, "running")
        bundle.progress_span = span
        bundle.reporter.progress(span[0], node.step.title)
        try:
            if not is_chosen and node.step.place not in ("source", "choose"):
                for later in plan.chain:
                    if later.step.before_split is not None:
                        later.step.before_split(bundle, later)
                is_chosen = True
            if not is_target_determined and node.step.place not in ("source", "choose"):
                _determine_target(bundle, plan, spec)
                is_target_determined = True
            if not is_loaded and node.step.place in ("rows", "fit", "train"):
                _load_rows(bundle, plan)
                is_loaded = True
            if node is plan.training:
                _check_later_steps(bundle, plan)
            outputs[node.key] = node.step.run(bundle, node)
        except Pruned as pruned:
            bundle.reporter.node(node.key, "completed", 100, {"note": str(pruned)})
            for later in nodes[nodes.index(node) + 1 :]:
                bundle.reporter.node(later.key, "skipped")
            raise
        except Exception as error:
            if bundle.trained is not None and not isinstance(error, RETRYABLE):
                keep_model(bundle.reporter, error, node)
                continue
            bad_input = as_bad_input(bundle.reporter, error, node)
            if bad_input is None:
                raise
            report_failure(bundle, bad_input, node, nodes)
            raise bad_input from error
        bundle.reporter.progress(span[1], node.step.title)
        bundle.reporter.node(node.key, "completed", 100, outputs[node.key])
    return [{"key": node.key, "output": outputs[node.key]} for node in (*plan.chain, *plan.after) if node.key in outputs]


def _progress_spans(plan: Plan) -> list[tuple[float, float]]:
    """The progress at the start and the end of each node in execution order, in percent."""
    nodes = plan.execution_order
    costs = [_PLACEMENT_COSTS.get(node.step.place, 0.0) for node in nodes]
    shares = [start / sum(costs) for start in accumulate(costs, initial=0.0)]
    prepared = [PREPARATION_START_PERCENT + (TRAINING_START_PERCENT - PREPARATION_START_PERCENT) * share for share in shares]
    spans = list(pairwise(prepared))
    if plan.training is not None:
        first = len(nodes) - len(plan.after)
        step = (EVALUATION_END_PERCENT - TRAINING_END_PERCENT) / max(len(plan.after), 1)
        spans[first - 1] = (TRAINING_START_PERCENT, TRAINING_END_PERCENT)
        spans[first:] = [
            (TRAINING_END_PERCENT + step * number, TRAINING_END_PERCENT + step * (number + 1)) for number in range(len(plan.after))
        ]
    return spans


def _determine_target(bundle: Bundle, plan: Plan, spec: PipelineSpec) -> None:
    """Determine target, problem type and excluded columns. Needs the filtered rows; the split needs the result."""
    training = plan.training
    assert training is not None
    problem.determine_problem(bundle, training, _default_target(spec), spec["problem_type"])
    _check_model(bundle, training, spec.get("model"))
    for index, name in enumerate(dict.fromkeys(training.parameters.exclude)):
        bundle.column(name, training, "exclude", str(index))
        if name == bundle.target and bundle.is_supervised:
            message = f"Step '{training.key}' excludes the column '{name}', which is its target. Remove it from exclude."
            raise BadInput("BAD_PARAMETER", message, column=name, path=training.path("exclude", str(index)))
        bundle.drop(name, training, by_name=True)


def _check_model(bundle: Bundle, training: PipelineNode, model: ModelSpec | None) -> None:
    """Raises BadInput (OTHER_PROBLEM_TYPE)."""
    if model is None or model["problem_type"] in (None, bundle.problem):
        return
    own_choice = " or set its problem_type," if len(training.step.problem_types) > 1 else ""
    raise BadInput(
        "OTHER_PROBLEM_TYPE",
        f"The model '{model['name']}' is a {model['problem_type']} model, and step '{training.key}' would train {bundle.problem}; all versions of a model "
        f"have one problem type. Choose another step{own_choice} or run the pipeline with another modelName.",
        path=training.path(*(["problem_type"] if own_choice else [])),
    )


def _load_rows(bundle: Bundle, plan: Plan) -> None:
    """Load the rows and split them before anything is fitted."""
    _ = bundle.frame
    if plan.training is not None and bundle.data_split is None:
        default_split(bundle, plan.training)


def _check_later_steps(bundle: Bundle, plan: Plan) -> None:
    """Raise BadInput, before anything is trained, for a step after the training that could not run."""
    for node in plan.after:
        if node.step.check is not None:
            node.step.check(bundle, node)


def _write_model(bundle: Bundle, trained: Trained, spec: PipelineSpec, nodes: list[dict[str, Any]]) -> ModelResult:
    from workers.ml.artifacts import write_artifacts  # the API imports the steps only for their schemas
    from workers.ml.steps.evaluate import measure

    bundle.reporter.progress(86, "Evaluate")
    with optional(bundle.reporter, "The metrics of the test rows"):
        measure(bundle, "test")
    packages = [*dict.fromkeys(("scikit-learn", trained.framework)), "numpy", "polars", "skops"]
    # A distribution may have another name than its module, as xgboost-cpu has.
    versions = {package: sys.modules[package].__version__ if package == "xgboost" else version(package) for package in packages}
    versions = {"python": platform.python_version(), **versions}
    bundle.reporter.progress(88, "Write the model")
    artifacts = write_artifacts(bundle, trained, Path(spec["folder"]), versions, spec["context"], spec["definition"])
    bundle.reporter.progress(99, "Write the model")
    return {
        "kind": "model",
        "algorithm": trained.algorithm,
        "framework": trained.framework,
        "architecture": None if trained.architecture is None else trained.architecture.text,
        "network": _network(trained.architecture),
        "config": trained.config,
        "problem_type": trained.problem,
        "hyperparameters": trained.hyperparameters,
        "metrics": dict(sorted(bundle.metrics.items())),
        "versions": versions,
        "best_step": trained.best_step,
        "artifacts": artifacts,
        "nodes": nodes,
    }


def _network(architecture: Architecture | None) -> ArchitectureDocument | None:
    return None if architecture is None else architecture.document()


def _write_dataset(bundle: Bundle, plan: Plan, spec: PipelineSpec, nodes: list[dict[str, Any]]) -> DatasetResult:
    from workers.ml.dataset_output import write_dataset
    from workers.ml.profiling import profile_parquet

    bundle.reporter.progress(30, "Write the dataset")
    path = Path(spec["folder"]) / "data.parquet"
    if bundle.written is not None:
        return _read_written(bundle, bundle.written, path, nodes)
    dataset = write_dataset(bundle, plan, path)
    return {
        "kind": "dataset",
        "parquet": str(path),
        "row_count": dataset.row_count,
        "column_count": len(dataset.columns),
        "columns": dataset.columns,
        "preview": dataset.preview,
        "profile": profile_parquet(str(path), bundle.reporter, start_percent=50, end_percent=99),
        "nodes": nodes,
    }


def _read_written(bundle: Bundle, written: WrittenFile, path: Path, nodes: list[dict[str, Any]]) -> DatasetResult:
    """Read the version of the file that was written, as an ingest reads an upload."""
    from workers.ml.contents.writing import read_written
    from workers.ml.preview import preview
    from workers.ml.profiling import profile_parquet

    folder = bundle.folder / "items"
    folder.mkdir()
    read = read_written(written, folder, path, lambda share, step: bundle.reporter.progress(30 + 40 * share, step))
    profile = profile_parquet(str(path), bundle.reporter, start_percent=70, end_percent=99)
    types = {column["name"]: column["type"] for column in profile["columns"]}
    return {
        "kind": "dataset",
        "parquet": str(path),
        "row_count": profile["row_count"],
        "column_count": len(types),
        "columns": [
            {"name": column["name"], "type": column["type"], "nullable": column["missing_count"] > 0} for column in profile["columns"]
        ],
        "preview": preview(path, types),
        "profile": profile,
        "nodes": nodes,
        "raw": {
            "path": str(written.path),
            "filename": written.filename,
            "content_type": written.content_type,
            "format": read.format,
            "size": read.size,
            "sha256": read.sha256,
            "issues": read.issues,
            "issue_count": read.issue_count,
        },
        "items": read.items,
    }
