"""Which types a model file may hold beyond those that skops trusts by itself: the whole list, and it does not grow with a file.

A skops file names types and never code. Loading calls a type's own restoring method on plain data, so each type here was read for what that method does:

- `sklearn.tree._tree.Tree`: nodes of a decision tree, restored from one array of numbers.
- `lightgbm.basic.Booster`: restored from LightGBM's own text format, which is parsed and holds no code.
- `lightgbm.sklearn.LGBMClassifier` and `LGBMRegressor`: attributes around the booster, restored as a dictionary.
- `collections.OrderedDict`: plain data in those attributes.
- `numpy.dtype`: the type of an array, by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

TRUSTED_TYPES: list[str] = [
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "sklearn.tree._tree.Tree",
]


def load_model(path: str | Path) -> Any:
    """The Pipeline of a model file. skops raises UntrustedTypesFoundException, before anything is built, where it holds any other type."""
    import skops.io  # takes a second to import

    return skops.io.load(path, trusted=TRUSTED_TYPES)
