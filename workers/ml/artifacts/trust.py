"""Types that a model file may hold besides those that skops trusts by default. The list is fixed and never extended by a file.

A skops file names types, never code. Loading calls a type's own restore method with plain data; that method was reviewed for each type here:

- `sklearn.tree._tree.Tree`: nodes of a decision tree, restored from one array of numbers.
- `lightgbm.basic.Booster`: restored from LightGBM's text format, which is parsed and holds no code.
- `lightgbm.sklearn.LGBMClassifier` and `LGBMRegressor`: attributes around the booster, restored as a dictionary.
- `collections.OrderedDict`: plain data in those attributes.
- `numpy.dtype`: the data type of an array, by name.
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
    """Load the Pipeline of a model file. If it holds any other type, skops raises UntrustedTypesFoundException before building anything."""
    import skops.io  # takes a second to import

    return skops.io.load(path, trusted=TRUSTED_TYPES)
