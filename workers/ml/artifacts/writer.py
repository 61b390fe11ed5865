"""Writes all artifacts of a training into one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

import polars as pl

from workers.ml.artifacts.importance import feature_importance
from workers.ml.artifacts.model_card import model_card
from workers.ml.artifacts.model_file import write_model
from workers.ml.artifacts.plots import plot_clusters, plot_confusion, plot_importance, plot_residuals
from workers.ml.artifacts.results import write_results
from workers.ml.artifacts.signature import signature
from workers.ml.bundle import Bundle
from workers.ml.data_split import Subset
from workers.ml.node_errors import optional
from workers.ml.steps.evaluate import predict_rows
from workers.ml.steps.train import feature_matrix, target_values
from workers.ml.trainer import Trained

PARQUET = "application/vnd.apache.parquet"
SKOPS = "application/octet-stream"
MODEL_FILENAME = "model.skops"
VERIFIED_ROWS = 10_000


class WrittenArtifact(TypedDict):
    """A file at `path`, which another artifact may share; `step` is that of the training that a CHECKPOINT is of."""

    role: str
    filename: str
    content_type: str
    path: str
    step: int | None


def write_artifacts(
    bundle: Bundle, trained: Trained, folder: Path, versions: dict[str, str], context: dict[str, Any], definition: dict[str, Any]
) -> list[WrittenArtifact]:
    """Write the files and return them; the first is the MODEL. Raises RuntimeError as `write_model` does."""
    artifacts: list[WrittenArtifact] = []

    def add(role: str, filename: str, content_type: str) -> Path:
        path = folder / filename
        artifacts.append({"role": role, "filename": filename, "content_type": content_type, "path": str(path), "step": None})
        return path

    part: Subset = "test" if len(bundle.rows_of("test")) else "train"
    rows, rows_label = bundle.rows_of(part), "test rows" if part == "test" else "all rows"
    sample: pl.DataFrame = bundle.features(trained.features, rows[:VERIFIED_ROWS])
    write_model(trained.pipeline, model := add("MODEL", MODEL_FILENAME, SKOPS), sample)
    if hasattr(trained.estimator, "named_weights"):
        with optional(bundle.reporter, "The file of the weights"):
            _write_weights(trained.estimator, add("WEIGHTS", "weights.safetensors", SKOPS))
    bundle.reporter.progress(93, "Draw plots")
    _write_json(signature(bundle, trained), add("SIGNATURE", "signature.json", "application/json"))
    with optional(bundle.reporter, "The feature importance"):
        importance = feature_importance(bundle, trained)
        if importance is not None:
            _write_json(importance, add("FEATURE_IMPORTANCE", "feature_importance.json", "application/json"))
            plot_importance(importance, add("FEATURE_IMPORTANCE_PLOT", "feature_importance.png", "image/png"))
    with optional(bundle.reporter, "The plot of the predictions"):
        if not bundle.is_supervised:
            points = feature_matrix(trained.pipeline["features"], bundle, trained.features, rows)
            plot_clusters(points, trained.estimator.predict(points), add("CLUSTER_PLOT", "clusters.png", "image/png"), rows_label)
        else:
            truth, predicted = target_values(bundle, rows), predict_rows(bundle, trained, part).values
            if trained.problem == "CLASSIFICATION":
                plot_confusion(truth, predicted, add("CONFUSION_MATRIX", "confusion_matrix.png", "image/png"), rows_label)
            else:
                plot_residuals(truth, predicted, add("RESIDUAL_PLOT", "residuals.png", "image/png"), rows_label, str(trained.target))
    with optional(bundle.reporter, "The file of the predictions"):
        write_results(bundle, trained, part, add("RESULTS", "results.parquet", PARQUET))
    card = model_card(bundle, trained, versions, context, definition)
    add("MODEL_CARD", "model_card.md", "text/markdown; charset=utf-8").write_text(card, encoding="utf-8")
    artifacts += _write_checkpoints(trained, folder, model, sample)
    return [artifact for artifact in artifacts if Path(artifact["path"]).exists()]


def _write_checkpoints(trained: Trained, folder: Path, model: Path, sample: pl.DataFrame) -> list[WrittenArtifact]:
    """The models after steps of the training, in their order. That of the best step is the model, and shares its file."""
    artifacts: list[WrittenArtifact] = []
    steps = set(trained.checkpoints)
    if trained.best_step is not None:
        steps.add(trained.best_step)
    for step in sorted(steps):
        filename = f"step-{step:06}.skops"
        path = model if step == trained.best_step else folder / filename
        if path != model:
            write_model(trained.checkpoints[step], path, sample)
        artifacts.append({"role": "CHECKPOINT", "filename": filename, "content_type": SKOPS, "path": str(path), "step": step})
    return artifacts


def _write_weights(estimator: Any, path: Path) -> None:
    """The weights by name, for other frameworks; what they are the weights of is the text `architecture` of the file's metadata, as JSON."""
    from safetensors.numpy import save_file  # an extra, which the training needs

    save_file(estimator.named_weights(), path, metadata={"architecture": json.dumps(estimator.definition)})


def _write_json(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
