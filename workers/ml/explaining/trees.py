"""Trees of scikit-learn as a booster of LightGBM, which computes their Shapley values.

The algorithm is that of S. Lundberg et al. (Nature Machine Intelligence 2, 2020), "path-dependent": a tree's own numbers of rows weight the ways that a row
could take. Both libraries go left where a value is at most the threshold; scikit-learn compares values of 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

# LightGBM counts rows in 32 bits; weights of rows that are no whole numbers are scaled to as many.
_MAX_COUNT = 2**30
_MISSING_IS_NAN, _MISSING_LEFT = 2 << 2, 2  # bits of LightGBM's `decision_type`


class TreeBooster(NamedTuple):
    """A booster, and what is to be added to each of its outputs. `work` is about how many steps it takes to explain a row."""

    booster: Any
    offsets: np.ndarray
    work: int


def booster_of(estimator: Any) -> TreeBooster | None:
    """Return the trees of a forest or of a gradient boosting; None for another estimator. An output for each of several classes, else one."""
    from sklearn.ensemble import (
        ExtraTreesClassifier,
        ExtraTreesRegressor,
        GradientBoostingClassifier,
        GradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )

    if isinstance(estimator, GradientBoostingClassifier | GradientBoostingRegressor):
        rounds: np.ndarray = estimator.estimators_
        trees = [(each.tree_, each.tree_.value[:, 0, 0] * estimator.learning_rate) for each in rounds.reshape(-1)]
        anywhere = np.zeros((1, estimator.n_features_in_), np.float32)
        offsets = np.asarray(estimator._raw_predict_init(anywhere), dtype=np.float64)[0]  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as it predicts itself
        return TreeBooster(_booster(trees, rounds.shape[1], estimator.n_features_in_), offsets, _work(trees))
    if isinstance(estimator, RandomForestClassifier | ExtraTreesClassifier | RandomForestRegressor | ExtraTreesRegressor):
        is_classifier = hasattr(estimator, "classes_")
        classes = range(len(estimator.classes_)) if is_classifier else range(1)
        outputs = classes[-1:] if len(classes) <= 2 else classes
        count = len(estimator.estimators_)
        trees = [(each.tree_, each.tree_.value[:, 0, output] / count) for each in estimator.estimators_ for output in outputs]
        return TreeBooster(_booster(trees, len(outputs), estimator.n_features_in_), np.zeros(len(outputs)), _work(trees))
    return None


def _work(trees: Sequence[tuple[Any, np.ndarray]]) -> int:
    """The algorithm visits each leaf, and on the way updates a path as often as it is long."""
    return sum(int(tree.n_leaves) * int(tree.max_depth) ** 2 for tree, _ in trees)


def _booster(trees: Iterable[tuple[Any, np.ndarray]], outputs: int, features: int) -> Any:
    from lightgbm import Booster

    head = [
        "tree",
        "version=v4",
        f"num_class={outputs}",
        f"num_tree_per_iteration={outputs}",
        "label_index=0",
        f"max_feature_idx={features - 1}",
        "feature_names=" + " ".join(f"Column_{index}" for index in range(features)),
        "feature_infos=" + " ".join(["none"] * features),
        "",
    ]
    parts = [f"Tree={number}\n{_tree(tree, values)}\n" for number, (tree, values) in enumerate(trees)]
    return Booster(model_str="\n".join([*head, *parts, "end of trees\n"]))


def _tree(tree: Any, values: np.ndarray) -> str:
    """Return a tree in LightGBM's text format. Its inner nodes are numbered from the root, and leaves are negative."""
    left, right = tree.children_left, tree.children_right
    is_leaf = left < 0
    leaves = int(is_leaf.sum())
    if leaves == 1:
        return f"num_leaves=1\nnum_cat=0\nleaf_value={float(values[0])!r}\nis_linear=0\nshrinkage=1\n"
    numbers = np.where(is_leaf, -np.cumsum(is_leaf), np.cumsum(~is_leaf) - 1)
    inner = ~is_leaf
    counts = _counts(tree, is_leaf)
    to_left = tree.missing_go_to_left[inner].astype(bool)
    lines: dict[str, Sequence[Any]] = {
        "split_feature": tree.feature[inner].tolist(),
        "split_gain": [0] * (leaves - 1),
        "threshold": [repr(value) for value in tree.threshold[inner].tolist()],
        "decision_type": (_MISSING_IS_NAN + _MISSING_LEFT * to_left).tolist(),
        "left_child": numbers[left[inner]].tolist(),
        "right_child": numbers[right[inner]].tolist(),
        "leaf_value": [repr(value) for value in values[is_leaf].tolist()],
        "leaf_weight": [0] * leaves,
        "leaf_count": counts[is_leaf].tolist(),
        "internal_value": [0] * (leaves - 1),
        "internal_weight": [0] * (leaves - 1),
        "internal_count": counts[inner].tolist(),
    }
    body = "\n".join(f"{name}={' '.join(map(str, entries))}" for name, entries in lines.items())
    return f"num_leaves={leaves}\nnum_cat=0\n{body}\nis_linear=0\nshrinkage=1\n"


def _counts(tree: Any, is_leaf: np.ndarray) -> np.ndarray:
    """The rows of each node as whole numbers, those of an inner node the sum of its children's, so that contributions sum up exactly."""
    weights = np.asarray(tree.weighted_n_node_samples)
    if np.abs(weights - np.round(weights)).max() > 1e-9 or weights[0] > _MAX_COUNT:
        weights = weights * (_MAX_COUNT / weights[0])
    counts = np.maximum(np.round(weights), 1).astype(np.int64)
    for node in np.flatnonzero(~is_leaf)[::-1].tolist():  # children come after their parent
        counts[node] = counts[tree.children_left[node]] + counts[tree.children_right[node]]
    return counts
