"""The direction of metrics: whether greater or smaller values are better. Everything that ranks by a metric asks here."""

from __future__ import annotations

import re

from db.core.goal import Goal

__all__ = ["Goal", "goal_of"]

# The names of the workers' metrics and the usual names of others, without the affixes below.
_MAXIMIZED = (
    "accuracy accuracy_score acc balanced_accuracy top_5_accuracy f1 f1_score precision precision_score recall recall_score sensitivity specificity"
    " roc_auc roc_auc_score auc auroc pr_auc average_precision map mean_average_precision ndcg mrr matthews_corrcoef mcc cohen_kappa iou dice jaccard"
    " r2 r2_score explained_variance log_likelihood silhouette silhouette_score calinski_harabasz adjusted_rand_score snr psnr"
)
_MINIMIZED = (
    "loss log_loss logloss cross_entropy nll brier_score hinge_loss rmse root_mean_squared_error mse mean_squared_error mae mean_absolute_error"
    " median_absolute_error max_error mape mean_absolute_percentage_error smape rmsle msle mean_squared_log_error mean_squared_logarithmic_error"
    " poisson_deviance error error_rate perplexity wer cer inertia davies_bouldin aic bic outlier_share"
)
_GOALS = {**dict.fromkeys(_MAXIMIZED.split(), Goal.MAXIMIZE), **dict.fromkeys(_MINIMIZED.split(), Goal.MINIMIZE)}

_SEPARATORS = re.compile(r"[\s/.:-]+")
# The rows that a metric is measured on, and its average over classes or folds. `_std` is no average: a spread has no goal of its own.
_ROWS = re.compile(r"^(?:train|training|validation|valid|val|dev|test|testing|eval|evaluation|holdout|oob|cv|final|epoch|batch)_(?=.)")
_AVERAGE = re.compile(r"(?<=.)_(?:mean|avg|average|macro|micro|weighted|ovr|ovo)$")


def goal_of(metric: str) -> Goal | None:
    """Return the goal of a metric by its name, such as `test_accuracy`, `validation/loss` or `cv_rmse_mean`; None for an unknown one."""
    name = _SEPARATORS.sub("_", metric.strip().lower())
    while True:
        if name in _GOALS:
            return _GOALS[name]
        shorter = _ROWS.sub("", name)
        if shorter == name:
            shorter = _AVERAGE.sub("", name)
        if shorter == name:
            return None
        name = shorter
