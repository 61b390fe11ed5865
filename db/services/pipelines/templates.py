"""The templates that ship: pipelines of the SYSTEM account, which a start of this release writes to the database. Their steps are those of the workers.

A change of a template's chain takes a higher `version`, as a test reminds; so that of two releases that run side by side the newer one stays.
Copies are not touched. A template is found again by its name.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.viewer import SHIPPED_ACCOUNT, AccountKind, UserRole
from db.core.work import Work
from db.services.ml_tasks import TASKS
from db.tables import Pipeline, User
from db.tables.pipelines import PipelineStatus

_Step = tuple[str, str, dict[str, Any]]
_Chain = tuple[_Step, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A chain of (key, step, parameters) for a task."""

    task: str
    name: str
    description: str
    chain: _Chain
    version: int = 1

    @property
    def definition(self) -> dict[str, Any]:
        nodes = [{"key": key, "step": step, "parameters": parameters} for key, step, parameters in self.chain]
        return {"nodes": nodes, "links": [{"source": before[0], "target": after[0]} for before, after in itertools.pairwise(self.chain)]}


def _chain(*steps: _Step) -> _Chain:
    return (("data", "dataset", {}), *steps, ("evaluate", "evaluate", {}))


_SPLIT: _Step = ("split", "split", {"test_fraction": 0.2})
_SPLIT_TO_STOP: _Step = ("split", "split", {"test_fraction": 0.2, "validation_fraction": 0.1})
_NUMBERS: _Step = ("numbers", "select_numbers", {})
_PREPARE: _Step = ("prepare", "prepare", {})
_PREPARE_SCALED: _Step = ("prepare", "prepare", {"scale": True})
_CLASSES = {"problem_type": "classification"}
_LABELS = {"target": "label", **_CLASSES}
_ROUNDS = {"n_estimators": 500, "learning_rate": 0.05, "early_stopping_rounds": 25}
_TARGET = " It predicts the target column of the dataset; name another one in `target` of the node `train`."
_OF_ITEMS = " It predicts the label of the items, from numbers that were computed when they were uploaded."
_OF_CONTENTS = " It predicts the label of the items."
_OF_TEXTS = (
    " It reads the column `text` and predicts the column `label`, which an archive of texts in folders has; of a table, name its columns."
)

_HELD_BACK = " Half of the traces of each gather are held back and filled in, so that the output says how well; take out the node `kill` to fill in dead traces alone."


def _reconstruction(method: str) -> _Chain:
    return (
        ("data", "dataset", {}),
        ("kill", "kill_traces", {"share": 0.5}),
        ("fill", "reconstruct_traces", {"method": method}),
        ("write", "write_signals", {}),
    )


TEMPLATES = (
    Template(
        "tabular_classification",
        "Classify rows: gradient boosting",
        "Boosted trees, which stop when the held-out rows get no better. The first to try for classes." + _TARGET,
        _chain(_SPLIT_TO_STOP, _PREPARE, ("train", "train_lightgbm", {**_CLASSES, **_ROUNDS})),
    ),
    Template(
        "tabular_classification",
        "Classify rows: logistic regression",
        "A linear model, whose coefficients can be read; rare classes count as much as frequent ones." + _TARGET,
        _chain(_SPLIT, _PREPARE_SCALED, ("train", "train_logistic_regression", {"class_weight": "balanced"})),
    ),
    Template(
        "tabular_regression",
        "Predict numbers: gradient boosting",
        "Boosted trees, which stop when the held-out rows get no better. The first to try for numbers." + _TARGET,
        _chain(_SPLIT_TO_STOP, _PREPARE, ("train", "train_lightgbm", {"problem_type": "regression", **_ROUNDS})),
    ),
    Template(
        "tabular_regression",
        "Predict numbers: ridge regression",
        "A linear model with a penalty, whose coefficients can be read; it does well with few rows." + _TARGET,
        _chain(_SPLIT, _PREPARE_SCALED, ("train", "train_ridge_regression", {})),
    ),
    Template(
        "tabular_clustering",
        "Find groups of rows: k-means",
        "Groups around their means, as many as `n_clusters` of the node `train` says. All columns count; leave some out in `exclude`.",
        (("data", "dataset", {}), _PREPARE_SCALED, ("train", "train_k_means", {"n_clusters": 3})),
    ),
    Template(
        "tabular_clustering",
        "Find groups of rows: normal distributions",
        "Groups that may be long and may overlap, as many as `n_components` of the node `train` says. All columns count; leave some out in `exclude`.",
        (("data", "dataset", {}), _PREPARE_SCALED, ("train", "train_gaussian_mixture", {"n_components": 3})),
    ),
    Template(
        "tabular_anomaly_detection",
        "Find unusual rows: isolation forest",
        "Random cuts, which separate an unusual row from the others sooner. All columns count; leave some out in `exclude` of the node `train`, and say in"
        " `contamination` which share of the rows that it learns from is unusual.",
        _chain(_SPLIT, _PREPARE, ("train", "train_isolation_forest", {"contamination": 0.05})),
        version=2,
    ),
    Template(
        "signal_classification",
        "Classify signals: random forest",
        "Trees on the features of each signal: its statistics, its spectrum and its envelope." + _OF_ITEMS,
        _chain(_NUMBERS, _SPLIT, _PREPARE, ("train", "train_random_forest", {**_LABELS, "class_weight": "balanced"})),
    ),
    Template(
        "signal_classification",
        "Classify signals: gradient boosting by recordings",
        "Boosted trees on the features of each signal. Signals of one recording are never both learned from and measured on: it needs the column `group`."
        + _OF_ITEMS,
        _chain(
            _NUMBERS,
            ("split", "split", {"strategy": "group", "group_column": "group", "test_fraction": 0.25}),
            _PREPARE,
            ("train", "train_lightgbm", {**_LABELS, "n_estimators": 200, "min_child_samples": 5}),
        ),
    ),
    Template(
        "signal_reconstruction",
        "Reconstruct traces: projection onto convex sets",
        "Strong waves of patches of the gather, which missing traces share with their neighbours: the better one where many traces are missing."
        + _HELD_BACK,
        _reconstruction("pocs"),
    ),
    Template(
        "signal_reconstruction",
        "Reconstruct traces: interpolation",
        "Straight lines between the samples of the traces beside: fast, and enough for few missing traces and flat events." + _HELD_BACK,
        _reconstruction("linear"),
    ),
    Template(
        "image_classification",
        "Classify images: edges",
        "Which way edges run in each part of an image, and support vectors: for shapes, such as letters, in any light." + _OF_CONTENTS,
        _chain(
            ("size", "resize_image", {"width": 32, "height": 32}),
            ("grey", "grayscale", {}),
            ("edges", "image_hog", {"cell": 8}),
            _NUMBERS,
            _SPLIT,
            _PREPARE_SCALED,
            ("train", "train_svm", {**_LABELS, "C": 10.0, "class_weight": "balanced"}),
        ),
    ),
    Template(
        "image_classification",
        "Classify images: pixels",
        "Every pixel of a small image, and trees: for what is told by its colours and where they are." + _OF_CONTENTS,
        _chain(
            ("size", "resize_image", {"width": 12, "height": 12}),
            ("pixels", "image_pixels", {}),
            _NUMBERS,
            _SPLIT,
            _PREPARE,
            ("train", "train_random_forest", {**_LABELS, "class_weight": "balanced"}),
        ),
    ),
    Template(
        "audio_classification",
        "Classify recordings: random forest",
        "Trees on the features of each recording: its loudness and its spectrum." + _OF_ITEMS,
        _chain(_NUMBERS, _SPLIT, _PREPARE, ("train", "train_random_forest", {**_LABELS, "class_weight": "balanced"})),
    ),
    Template(
        "audio_classification",
        "Classify recordings: support vectors",
        "A smooth border between the classes of mel-frequency cepstral coefficients and mel bands; it does well with few recordings."
        + _OF_CONTENTS,
        _chain(
            ("mono", "audio_mono", {}),
            ("sound", "audio_features", {}),
            _NUMBERS,
            _SPLIT,
            _PREPARE_SCALED,
            ("train", "train_svm", {**_LABELS, "C": 10.0, "class_weight": "balanced"}),
        ),
        version=2,
    ),
    Template(
        "video_classification",
        "Classify videos: motion",
        "Where in the picture and when something moves, and which way, and trees: for what happens in front of a camera that stands still."
        + _OF_CONTENTS,
        _chain(
            ("frames", "sample_frames", {"count": 24}),
            ("size", "resize_image", {"width": 48, "height": 48}),
            ("motion", "video_motion", {"grid": 3, "parts": 3}),
            _NUMBERS,
            _SPLIT,
            _PREPARE,
            ("train", "train_random_forest", {**_LABELS, "class_weight": "balanced"}),
        ),
    ),
    Template(
        "video_classification",
        "Classify videos: pictures",
        "Which way edges run in each part of the picture and which colours it has, over some frames, and support vectors: for what a video shows."
        + _OF_CONTENTS,
        _chain(
            ("frames", "sample_frames", {"count": 8}),
            ("size", "resize_image", {"width": 48, "height": 48}),
            ("colours", "video_colours", {"bins": 4}),
            ("grey", "grayscale", {}),
            ("edges", "video_hog", {"cell": 12}),
            _NUMBERS,
            _SPLIT,
            _PREPARE_SCALED,
            ("train", "train_svm", {**_LABELS, "C": 10.0, "class_weight": "balanced"}),
        ),
    ),
    Template(
        "multimodal_classification",
        "Classify rows with images: gradient boosting",
        "Which way edges run in each part of the image of a row, beside its numbers and categories, and boosted trees. It reads the images that the column with most"
        " of them names; name another one in the node `files`." + _TARGET,
        _chain(
            ("files", "use_files", {"kind": "image"}),
            ("size", "resize_image", {"width": 24, "height": 24}),
            ("grey", "grayscale", {}),
            ("edges", "image_hog", {"cell": 8}),
            _SPLIT,
            _PREPARE,
            ("train", "train_lightgbm", {**_CLASSES, "n_estimators": 200, "learning_rate": 0.05, "min_child_samples": 5}),
        ),
    ),
    Template(
        "multimodal_classification",
        "Classify rows with files: gradient boosting",
        "Boosted trees on the columns of a table and on the features of its files, which were computed when they were uploaded. Files may be of any kind, and"
        " missing." + _TARGET,
        _chain(_SPLIT_TO_STOP, _PREPARE, ("train", "train_lightgbm", {**_CLASSES, **_ROUNDS})),
    ),
    Template(
        "text_classification",
        "Classify texts: words",
        "Which words occur, weighted by how rare they are, and a linear model, whose coefficients name the words that count." + _OF_TEXTS,
        _chain(
            ("text", "select_columns", {"columns": ["text"]}),
            _SPLIT,
            ("words", "tfidf_text", {"columns": ["text"], "max_features": 1_000, "max_words": 2}),
            ("train", "train_logistic_regression", {"target": "label", "C": 10.0, "class_weight": "balanced"}),
        ),
    ),
    Template(
        "text_classification",
        "Classify texts: parts of words",
        "Which sequences of three characters occur, so that endings and misspellings matter less, in any language, and support vectors."
        + _OF_TEXTS,
        _chain(
            ("text", "select_columns", {"columns": ["text"]}),
            _SPLIT,
            ("parts", "tfidf_text", {"columns": ["text"], "max_features": 2_000, "analyzer": "characters"}),
            ("train", "train_svm", {**_LABELS, "kernel": "linear", "class_weight": "balanced"}),
        ),
    ),
)


async def publish_templates(work: Work) -> None:
    """Write the account of what ships and the templates of this release. Safe to run concurrently."""
    account = {
        "id": SHIPPED_ACCOUNT,
        "kind": AccountKind.SYSTEM,
        "email": "trellis@system.invalid",
        "username": "_trellis",
    }  # no person's name
    await work.run(upsert(User).values(**account, full_name="Trellis", role=UserRole.MEMBER).on_conflict_do_nothing())
    statement = upsert(Pipeline).values([_row(template) for template in sorted(TEMPLATES, key=lambda template: template.name)])
    new = statement.excluded
    updated = ("description", "modality", "version", "task_key", "definition")
    await work.run(
        statement.on_conflict_do_update(
            index_elements=[Pipeline.owner_id, func.lower(Pipeline.name)],
            index_where=Pipeline.deleted_at.is_(None),
            set_={**{name: new[name] for name in updated}, "validated_at": func.now()},
            where=Pipeline.version < new.version,
        )
    )


def _row(template: Template) -> dict[str, Any]:
    return {
        "owner_id": SHIPPED_ACCOUNT,
        "name": template.name,
        "description": template.description,
        "modality": TASKS[template.task].modality,
        "status": PipelineStatus.VALIDATED,
        "version": template.version,
        "is_template": True,
        "task_key": template.task,
        "definition": template.definition,
        "validated_at": func.now(),
    }
