"""Feature importance of a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from workers.ml.bundle import Bundle
from workers.ml.steps.train import feature_matrix
from workers.ml.trainer import Trained


def feature_importance(bundle: Bundle, trained: Trained) -> dict[str, Any] | None:
    """Return shares that sum to 1, by raw column and by derived numeric feature, largest first; None if the model has no importances.

    Trees: the loss reduction by splits on the feature. Linear models: the absolute coefficient times the standard deviation of its feature
    over the training rows, averaged over classes.
    """
    transformer = trained.pipeline["features"]
    estimator = trained.estimator
    if trained.framework == "xgboost" and hasattr(estimator, "estimators_"):
        (estimator,) = estimator.estimators_
    if hasattr(estimator, "feature_importances_"):
        method, raw = "split gain", np.asarray(estimator.feature_importances_, dtype=np.float64)
    elif hasattr(estimator, "coef_"):
        deviation = feature_matrix(transformer, bundle, trained.features, bundle.rows_of("train")).std(axis=0)
        method, raw = "coefficient times deviation", np.abs(np.atleast_2d(estimator.coef_)).mean(axis=0) * deviation
    else:
        return None
    total = raw.sum()
    shares = raw / total if total > 0 else raw
    names = bundle.feature_names(transformer)
    columns: dict[str, float] = {}
    for group, _, members in transformer.transformers_:
        if group == "remainder":
            continue
        column_shares = shares[transformer.output_indices_[group]]
        for member, values in zip(members, np.split(column_shares, len(members)), strict=True):
            columns[str(member)] = float(values.sum())
    return {
        "method": method,
        "columns": [{"name": name, "importance": value} for name, value in sorted(columns.items(), key=_importance_order)],
        "features": [
            {"name": name, "importance": float(value)} for name, value in sorted(zip(names, shares, strict=True), key=_importance_order)
        ],
    }


def _importance_order(pair: tuple[str, float]) -> tuple[float, str]:
    return -pair[1], pair[0]
