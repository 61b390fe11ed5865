"""Registry of all steps by key, and the rows of the table `step_definitions`. Only registered steps can run: ours, and those that an
operator installed."""

from __future__ import annotations

from typing import Any

from workers.ml.declared_types import DECLARED_TYPES
from workers.ml.steps import (
    audio,
    clean_text,
    columns,
    dates,
    derive,
    encode,
    evaluate,
    explain,
    export,
    files,
    gathers,
    images,
    impute,
    join,
    numeric,
    prepare,
    reshape,
    row_choice,
    row_filter,
    scale,
    signals,
    source,
    split,
    split_by_column,
    tfidf,
    train_clusters,
    train_density,
    train_lightgbm,
    train_linear,
    train_mlp,
    train_neighbors,
    train_svm,
    train_trees,
    train_xgboost,
    videos,
    write_signals,
)
from workers.ml.steps.installed import installed_steps
from workers.ml.steps.step import Step

_OWN = {
    step.key: step
    for step in (
        source.DATASET,
        columns.SELECT,
        columns.DROP,
        columns.SELECT_NUMBERS,
        row_filter.FILTER,
        join.JOIN,
        reshape.DEDUPLICATE,
        reshape.RENAME,
        reshape.CAST,
        derive.DERIVE,
        clean_text.CLEAN_TEXT,
        files.USE_FILES,
        images.RESIZE,
        images.CROP,
        images.NORMALISE,
        images.GRAYSCALE,
        images.FLIP,
        images.ROTATE,
        images.PIXELS,
        images.HOG,
        videos.SAMPLE,
        videos.PIXELS,
        videos.HOG,
        videos.COLOURS,
        videos.MOTION,
        audio.MONO,
        audio.RESAMPLE,
        audio.TRIM,
        audio.FEATURES,
        signals.DETREND,
        signals.BANDPASS,
        signals.RESAMPLE,
        signals.ENVELOPE,
        signals.WINDOWS,
        signals.FEATURES,
        signals.SPECTROGRAM,
        gathers.GAIN,
        gathers.KILL,
        gathers.RECONSTRUCT,
        gathers.DENOISE,
        gathers.QUALITY,
        write_signals.WRITE_SIGNALS,
        prepare.PREPARE,
        dates.DECOMPOSE_DATES,
        impute.IMPUTE,
        scale.SCALE,
        numeric.LOG,
        numeric.BIN,
        encode.ONE_HOT,
        encode.ORDINAL,
        tfidf.TFIDF,
        encode.TARGET,
        split.SPLIT,
        split_by_column.SPLIT_BY_COLUMN,
        row_choice.SAMPLE,
        row_choice.BALANCE,
        row_choice.OUTLIERS,
        train_linear.LOGISTIC_REGRESSION,
        train_linear.LINEAR_REGRESSION,
        train_linear.RIDGE_REGRESSION,
        train_linear.ELASTIC_NET,
        train_trees.RANDOM_FOREST,
        train_trees.EXTRA_TREES,
        train_trees.GRADIENT_BOOSTING,
        train_lightgbm.LIGHTGBM,
        train_xgboost.XGBOOST,
        train_svm.SVM,
        train_neighbors.NEIGHBORS,
        train_neighbors.NAIVE_BAYES,
        train_mlp.MLP,
        train_clusters.K_MEANS,
        train_density.MIXTURE,
        train_density.DBSCAN,
        train_density.ISOLATION_FOREST,
        evaluate.CROSS_VALIDATE,
        evaluate.EVALUATE,
        explain.EXPLAIN,
        export.EXPORT,
    )
}

_INSTALLED = installed_steps(_OWN)
DECLARED_TYPES[:] = dict.fromkeys(name for step in _INSTALLED.values() for name in step.trusted_types)

STEPS: dict[str, Step] = {**_OWN, **_INSTALLED}

DEFINITIONS: list[dict[str, Any]] = [
    {
        "key": step.key,
        "type": step.type,
        "title": step.title,
        "description": step.description,
        "modalities": list(step.modalities),
        "parameter_schema": step.parameter_schema,
    }
    for step in STEPS.values()
]
