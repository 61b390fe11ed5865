"""Metrics: names, descriptions and computation.

A name without a prefix is measured on the test rows; `train_`, `validation_` and `oob_` (out of bag) name other rows. `cv_` is one fold of a
cross-validation (the step is the fold's number), with `_mean` and `_std` over the folds. A loss is log loss for classifiers and mean squared
error for regressors. A training that iterates reports, beside its loss, accuracy or R² of each step, and how it went: `learning_rate` and `step_seconds`
(see `TrainingMonitor.add_step`), which are no measures of the model.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

METRICS: dict[str, str] = {
    "train_loss": "Log loss (classification) or mean squared error (regression) on the training rows, during training.",
    "validation_loss": "Log loss (classification) or mean squared error (regression) on the validation rows, during training.",
    "accuracy": "Share of rows whose class is predicted correctly.",
    "f1_macro": "Harmonic mean of precision and recall, averaged over classes.",
    "precision_macro": "Share of correct predictions among the rows predicted as a class, averaged over classes.",
    "recall_macro": "Share of correct predictions among the rows of a class, averaged over classes.",
    "roc_auc": "Area under the ROC curve; with more than two classes, the mean over classes of one against the rest.",
    "log_loss": "Mean negative logarithm of the probability predicted for the true class.",
    "rmse": "Square root of the mean squared error, in units of the target.",
    "mae": "Mean absolute error, in units of the target.",
    "r2": "Coefficient of determination: share of the target's variance that the model explains.",
    "inertia": "Sum of squared distances from the training rows to their cluster's centre.",
    "silhouette": "How much closer rows are to their own cluster than to the nearest other one, from -1 to 1.",
    "noise_share": "Share of rows that belong to no cluster.",
    "outlier_share": "Share of rows that are outliers.",
    "log_likelihood": "Mean logarithm of the density of a training row under the model.",
}
SILHOUETTE_ROWS = 2_000


def finite_scores(scores: dict[str, float]) -> dict[str, float]:
    """Drop scores that are NaN or infinite."""
    return {name: float(value) for name, value in scores.items() if math.isfinite(value)}


def classification_scores(truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Score `predicted` labels and `probabilities` (rows by `classes`) against `truth`.

    `roc_auc` and `log_loss` are omitted if `truth` holds a class that is not in `classes`; `roc_auc` also if it lacks one.
    """
    from sklearn import metrics  # sklearn takes seconds to import

    scores: dict[str, Any] = {"accuracy": metrics.accuracy_score(truth, predicted)}
    measures: dict[str, Any] = {"f1": metrics.f1_score, "precision": metrics.precision_score, "recall": metrics.recall_score}
    for name, measure in measures.items():
        scores[f"{name}_macro"] = measure(truth, predicted, average="macro", zero_division=0)
    if np.isin(truth, classes).all():
        scores["log_loss"] = metrics.log_loss(truth, probabilities, labels=classes)
        if len(np.unique(truth)) == len(classes):
            scores["roc_auc"] = (
                metrics.roc_auc_score(truth == classes[1], probabilities[:, 1])
                if len(classes) == 2
                else metrics.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro", labels=classes)
            )
    return finite_scores(scores)


def regression_scores(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Score `predicted` values against `truth`; `r2` is omitted for a single row."""
    from sklearn import metrics  # see classification_scores

    return finite_scores(
        {
            "rmse": metrics.root_mean_squared_error(truth, predicted),
            "mae": metrics.mean_absolute_error(truth, predicted),
            "r2": metrics.r2_score(truth, predicted) if len(truth) > 1 else math.nan,
        }
    )


def clustering_scores(matrix: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, float]:
    """Silhouette of `matrix` (rows by features), and the share of rows in no cluster (label -1), which the silhouette leaves out.

    The silhouette is quadratic in the rows, so more than 2,000 are sampled with `seed`.
    """
    from sklearn import metrics  # see classification_scores

    scores: dict[str, float] = {}
    in_clusters = labels >= 0
    if not in_clusters.all():
        scores["noise_share"] = 1 - float(in_clusters.mean())
        matrix, labels = matrix[in_clusters], labels[in_clusters]
    if len(labels) > SILHOUETTE_ROWS:
        sample = np.random.default_rng(seed).choice(len(labels), SILHOUETTE_ROWS, replace=False)
        matrix, labels = matrix[sample], labels[sample]
    if not 2 <= len(np.unique(labels)) < len(labels):
        return scores
    return finite_scores({**scores, "silhouette": float(metrics.silhouette_score(matrix, labels))})


def outlier_scores(labels: np.ndarray) -> dict[str, float]:
    """The share of rows that are outliers (label -1)."""
    return {"outlier_share": float((labels == -1).mean())}


def loss(estimator: Any, matrix: np.ndarray, truth: np.ndarray) -> float:
    """Log loss of a classifier, mean squared error of a regressor. `truth` must not hold a class that the classifier was not fitted on."""
    return training_measures(estimator, matrix, truth)["loss"]


def training_measures(estimator: Any, matrix: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The `loss`, and of the same predictions `accuracy` or `r2`; no `r2` if all of `truth` are equal.

    The same numbers as sklearn's `log_loss`, `mean_squared_error` and scores, whose checks take longer than an epoch of a small training.
    """
    if hasattr(estimator, "predict_proba"):
        probabilities = estimator.predict_proba(matrix)
        epsilon = np.finfo(probabilities.dtype).eps
        classes = np.searchsorted(estimator.classes_, truth)
        of_truth = probabilities[np.arange(len(truth)), classes]
        return {
            "loss": float(-np.log(np.clip(of_truth, epsilon, 1 - epsilon)).mean()),
            "accuracy": float((probabilities.argmax(axis=1) == classes).mean()),
        }
    return regression_measures(float(np.square(truth - estimator.predict(matrix)).mean()), truth)


def regression_measures(squared_error: float, truth: np.ndarray) -> dict[str, float]:
    """The mean squared error as `loss`, and the `r2` that it means for these targets."""
    variance = float(truth.var())
    return {"loss": squared_error} if variance == 0 else {"loss": squared_error, "r2": 1 - squared_error / variance}
