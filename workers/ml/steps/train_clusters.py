"""Clustering step: k-means."""

from __future__ import annotations

import warnings
from typing import Any

from pydantic import Field

from workers.ml.steps.step import Step
from workers.ml.steps.train import run
from workers.ml.steps.training_parameters import TrainParameters
from workers.ml.trainer import Trainer, TrainingMonitor, TrainingRows


class KMeansParameters(TrainParameters):
    n_clusters: int = Field(default=3, ge=2, le=1_000, title="Clusters", description="Number of clusters.")
    n_init: int = Field(
        default=3,
        ge=1,
        le=50,
        title="Initializations",
        description="Number of seeded initializations (k-means++); the one with the lowest inertia is kept.",
    )
    max_iter: int = Field(
        default=300, ge=1, le=10_000, title="Maximum iterations", description="Maximum number of iterations per initialization."
    )


def build(parameters: KMeansParameters, _problem: str, seed: int) -> Any:
    from sklearn.cluster import KMeans  # the API imports the registry only for its schemas

    options: dict[str, Any] = {"n_clusters": parameters.n_clusters, "n_init": parameters.n_init, "max_iter": parameters.max_iter}
    return KMeans(**options, random_state=seed)


def fit(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    """Fit iteration by iteration, reporting the lowest inertia so far.

    An iteration of Lloyd's algorithm depends only on the current centres, so single iterations give the same result as one fit.
    """
    import numpy as np
    from sklearn.cluster import kmeans_plusplus
    from sklearn.exceptions import ConvergenceWarning

    seeds = np.random.default_rng(estimator.random_state).integers(0, 2**31, estimator.n_init)
    max_iter, starts = estimator.max_iter, estimator.n_init
    best: tuple[float, Any] | None = None
    step = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for start, seed in enumerate(seeds):
            centres, _ = kmeans_plusplus(rows.train, estimator.n_clusters, random_state=int(seed))
            for _ in range(max_iter):
                estimator.set_params(init=centres, n_init=1, max_iter=1).fit(rows.train)
                if best is None or estimator.inertia_ < best[0]:
                    best = float(estimator.inertia_), estimator.cluster_centers_
                monitor.add_point("inertia", step, best[0])
                step += 1
                centre_shift = float(((estimator.cluster_centers_ - centres) ** 2).sum())
                centres = estimator.cluster_centers_
                if centre_shift <= estimator.tol * float(rows.train.var(axis=0).mean()):
                    break
            monitor.progress(start + 1, starts)
        assert best is not None
        estimator.set_params(init=best[1], max_iter=max_iter).fit(rows.train)
    return estimator.set_params(init="k-means++", n_init=starts)


K_MEANS = Step(
    key="train_k_means",
    type="TRAIN",
    title="Train k-means",
    description="Groups rows around centres; the dataset's target is not used. Features should be scaled. Reports the inertia after each iteration.",
    parameters=KMeansParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build, fit),
    problem_types=("CLUSTERING",),
)
