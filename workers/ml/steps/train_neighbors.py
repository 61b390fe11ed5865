"""Training steps: k nearest neighbours, and naive Bayes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from workers.ml.steps.step import Step
from workers.ml.steps.train import run
from workers.ml.steps.train_linear import fit_closed_form
from workers.ml.steps.training_parameters import ClassifierOrRegressorParameters, SupervisedParameters
from workers.ml.trainer import THREADS, Trainer

# Every prediction compares with every training row, and the model file holds all of them.
MAX_ROWS = 50_000
MAX_VALUES = 5_000_000


class NeighborsParameters(ClassifierOrRegressorParameters):
    n_neighbors: int = Field(
        default=5, ge=1, le=1_000, title="Neighbours", description="How many of the nearest training rows make a prediction."
    )
    weights: Literal["uniform", "distance"] = Field(
        default="uniform", title="Weights", description="`distance` weights nearer neighbours more, by the inverse of their distance."
    )
    metric: Literal["euclidean", "manhattan", "cosine"] = Field(
        default="euclidean", title="Metric", description="How the distance of two rows is measured."
    )


class NaiveBayesParameters(SupervisedParameters):
    var_smoothing: float = Field(
        default=1e-9,
        ge=0,
        le=1,
        title="Smoothing",
        description="Share of the largest variance of a feature that is added to all variances, for features that hardly vary.",
    )


def build_neighbors(parameters: NeighborsParameters, problem: str, _seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor  # the API imports the registry only for its schemas

    estimator_class = KNeighborsClassifier if problem == "CLASSIFICATION" else KNeighborsRegressor
    # Brute force: a tree in a file is an index into arrays that would be followed unchecked.
    return estimator_class(
        n_neighbors=parameters.n_neighbors, weights=parameters.weights, metric=parameters.metric, algorithm="brute", n_jobs=THREADS
    )


def build_naive_bayes(parameters: NaiveBayesParameters, _problem: str, _seed: int) -> Any:
    from sklearn.naive_bayes import GaussianNB  # see build_neighbors

    return GaussianNB(var_smoothing=parameters.var_smoothing)


NEIGHBORS = Step(
    key="train_k_nearest_neighbors",
    type="TRAIN",
    title="Train k nearest neighbours",
    description="Predicts from the most similar training rows. Features should be scaled. The model file holds the training rows' features.",
    parameters=NeighborsParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build_neighbors, fit_closed_form, max_rows=MAX_ROWS, max_values=MAX_VALUES),
    requires_target=True,
    problem_types=("CLASSIFICATION", "REGRESSION"),
)
NAIVE_BAYES = Step(
    key="train_naive_bayes",
    type="TRAIN",
    title="Train naive Bayes",
    description="Classifies by a normal distribution of each feature in each class, as if features were independent. A fast baseline.",
    parameters=NaiveBayesParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build_naive_bayes, fit_closed_form),
    requires_target=True,
    problem_types=("CLASSIFICATION",),
)
