"""Training steps without a target that model the density of the rows: Gaussian mixture, DBSCAN and isolation forest."""

from __future__ import annotations

import warnings
from typing import Any, Literal

from pydantic import Field

from workers.ml.errors import BadInput
from workers.ml.steps.step import PipelineNode, Step
from workers.ml.steps.train import run
from workers.ml.steps.training_parameters import TrainParameters
from workers.ml.trainer import THREADS, Trainer, TrainingMonitor, TrainingRows

# The neighbours of all rows are computed at once.
MAX_DBSCAN_ROWS = 20_000
MAX_MIXTURE_FEATURES = 500


class MixtureParameters(TrainParameters):
    n_components: int = Field(default=3, ge=2, le=200, title="Components", description="Number of normal distributions.")
    covariance_type: Literal["full", "tied", "diag", "spherical"] = Field(
        default="full",
        title="Covariance",
        description="The shape of a component: any ellipsoid, one shape for all, along the axes, or a sphere. `full` needs many rows.",
    )
    reg_covar: float = Field(
        default=1e-6, ge=0, le=1, title="Regularization", description="Added to the variances, so that no component collapses to a point."
    )
    n_init: int = Field(
        default=3, ge=1, le=20, title="Initializations", description="Number of seeded initializations; the likeliest is kept."
    )
    max_iter: int = Field(default=200, ge=1, le=2_000, title="Maximum iterations", description="Maximum iterations per initialization.")


class DbscanParameters(TrainParameters):
    eps: float = Field(
        default=0.5, gt=0, le=1e9, title="Radius", description="Rows at most this far apart are neighbours, in units of the features."
    )
    min_samples: int = Field(
        default=5,
        ge=1,
        le=10_000,
        title="Minimum neighbours",
        description="A row with this many neighbours, itself included, is a core point.",
    )


class IsolationParameters(TrainParameters):
    n_estimators: int = Field(default=100, ge=1, le=2_000, title="Trees", description="Number of trees.")
    contamination: float | None = Field(
        default=None,
        gt=0,
        le=0.5,
        title="Share of outliers",
        description="Share of the training rows that count as outliers; if unset, the threshold of the original paper.",
    )
    max_samples: int = Field(
        default=256, ge=2, le=100_000, title="Rows per tree", description="Number of training rows sampled for each tree."
    )


def build_mixture(parameters: MixtureParameters, _problem: str, seed: int) -> Any:
    from sklearn.mixture import GaussianMixture  # the API imports the registry only for its schemas

    options = {name: getattr(parameters, name) for name in ("n_components", "covariance_type", "reg_covar", "n_init", "max_iter")}
    return GaussianMixture(**options, random_state=seed)


def fit_mixture(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(rows.train)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        monitor.reporter.log("The mixture had not converged after max_iter iterations. Raise max_iter, or use fewer components.")
    monitor.add_point("log_likelihood", 0, estimator.lower_bound_)
    return estimator


def check_mixture(node: PipelineNode, _target: str | None, rows: TrainingRows) -> None:
    """Raises BadInput (TOO_LARGE): a component of type `full` has a covariance matrix."""
    width = rows.train.shape[1]
    if width > MAX_MIXTURE_FEATURES and node.parameters.covariance_type in ("full", "tied"):
        raise BadInput(
            "TOO_LARGE",
            f"Step '{node.key}' has {width:,} features; with the covariance '{node.parameters.covariance_type}' it takes at most {MAX_MIXTURE_FEATURES}. "
            "Set covariance_type to diag, or select fewer columns.",
            path=node.path("covariance_type"),
        )


def build_dbscan(parameters: DbscanParameters, _problem: str, _seed: int) -> Any:
    from sklearn.cluster import DBSCAN  # see build_mixture

    return DBSCAN(eps=parameters.eps, min_samples=parameters.min_samples, n_jobs=THREADS)


def fit_dbscan(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    """Return a classifier by the core points within the radius, which is what DBSCAN's clusters mean for other rows: DBSCAN cannot predict."""
    from sklearn.neighbors import RadiusNeighborsClassifier

    estimator.fit(rows.train)
    core = estimator.core_sample_indices_
    if not len(core):
        raise BadInput(
            "NO_CLUSTERS",
            f"Step '{monitor.node_key}' found no cluster: no training row has {estimator.min_samples} neighbours within {estimator.eps:g}. "
            "Raise eps, lower min_samples, or scale the features.",
        )
    classifier = RadiusNeighborsClassifier(radius=estimator.eps, weights="distance", algorithm="brute", outlier_label=-1, n_jobs=THREADS)
    # Each prediction of an outlier warns that its label is not one of the clusters'; a body trains one model.
    warnings.filterwarnings("ignore", message="Outlier label -1 is not in training classes")
    return classifier.fit(rows.train[core], estimator.labels_[core])


def build_isolation(parameters: IsolationParameters, _problem: str, seed: int) -> Any:
    from sklearn.ensemble import IsolationForest  # see build_mixture

    options: dict[str, Any] = {
        "n_estimators": parameters.n_estimators,
        "contamination": "auto" if parameters.contamination is None else parameters.contamination,
        "max_samples": parameters.max_samples,
    }
    return IsolationForest(**options, random_state=seed, n_jobs=THREADS)


def fit_isolation(estimator: Any, rows: TrainingRows, _monitor: TrainingMonitor) -> Any:
    max_samples = estimator.max_samples
    estimator.set_params(max_samples=min(max_samples, len(rows.train))).fit(rows.train)
    return estimator.set_params(max_samples=max_samples)


MIXTURE = Step(
    key="train_gaussian_mixture",
    type="TRAIN",
    title="Train Gaussian mixture",
    description="Groups rows into normal distributions that may overlap; the dataset's target is not used. Features should be scaled.",
    parameters=MixtureParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build_mixture, fit_mixture, check=check_mixture),
    problem_types=("CLUSTERING",),
)
DBSCAN = Step(
    key="train_dbscan",
    type="TRAIN",
    title="Train DBSCAN",
    description="Groups rows that are close to each other into clusters of any shape; rows in no cluster are -1. The dataset's target is not used. "
    "Features should be scaled. A new row belongs to the cluster of the core points within the radius. For at most 20,000 training rows.",
    parameters=DbscanParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build_dbscan, fit_dbscan, max_rows=MAX_DBSCAN_ROWS, algorithm={"CLUSTERING": "DBSCAN"}),
    problem_types=("CLUSTERING",),
)
ISOLATION_FOREST = Step(
    key="train_isolation_forest",
    type="TRAIN",
    title="Train isolation forest",
    description="Finds outliers: rows that random cuts separate quickly. Predicts -1 for an outlier and 1 otherwise; the dataset's target is not used.",
    parameters=IsolationParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build_isolation, fit_isolation),
    problem_types=("OTHER",),
)
