"""Types that a model file may hold. The list is fixed and never extended by a file.

A skops file names types, never code. Loading calls a type's own restore method with plain data; that method was reviewed for each of `TRUSTED_TYPES`,
which skops does not trust by default:

- `sklearn.tree._tree.Tree`: nodes of a decision tree, restored from one array of numbers.
- `lightgbm.basic.Booster`: restored from LightGBM's text format, which is parsed and holds no code.
- `xgboost.core.Booster`: restored from XGBoost's binary JSON, which is parsed and holds no code.
- `xgboost.sklearn.XGBClassifier` and `XGBRegressor`: attributes around the booster, restored as a dictionary.
- `sklearn.calibration._CalibratedClassifier` and `_SigmoidCalibration`: a classifier with the two numbers of each sigmoid, restored as a dictionary.
- `lightgbm.sklearn.LGBMClassifier` and `LGBMRegressor`: attributes around the booster, restored as a dictionary.
- `collections.OrderedDict`: plain data in those attributes.
- `numpy.dtype`: the data type of an array, by name.
- `sklearn.model_selection._split.KFold`: the numbers of a splitter, restored as a dictionary.
- `numpy.ravel`: a function of the transform of text, which lays out an array in one dimension.
- `workers.ml.convolution.estimators.ConvolutionalClassifier` and `ConvolutionalRegressor`: ours; numbers and arrays, restored as a dictionary.

Of the types that skops trusts by default, only those that our models consist of are trusted here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from workers.ml.declared_types import DECLARED_TYPES

TRUSTED_TYPES: list[str] = [
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "numpy.ravel",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.model_selection._split.KFold",
    "sklearn.tree._tree.Tree",
    "workers.ml.convolution.estimators.ConvolutionalClassifier",
    "workers.ml.convolution.estimators.ConvolutionalRegressor",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
]
ESTIMATORS = (
    "sklearn.calibration.CalibratedClassifierCV",
    "sklearn.cluster._kmeans.KMeans",
    "sklearn.compose._column_transformer.ColumnTransformer",
    "sklearn.dummy.DummyClassifier",
    "sklearn.dummy.DummyRegressor",
    "sklearn.ensemble._forest.ExtraTreesClassifier",
    "sklearn.ensemble._forest.ExtraTreesRegressor",
    "sklearn.ensemble._forest.RandomForestClassifier",
    "sklearn.ensemble._forest.RandomForestRegressor",
    "sklearn.ensemble._gb.GradientBoostingClassifier",
    "sklearn.ensemble._gb.GradientBoostingRegressor",
    "sklearn.ensemble._iforest.IsolationForest",
    "sklearn.ensemble._voting.VotingClassifier",
    "sklearn.feature_extraction.text.TfidfTransformer",
    "sklearn.feature_extraction.text.TfidfVectorizer",
    "sklearn.impute._base.SimpleImputer",
    "sklearn.linear_model._base.LinearRegression",
    "sklearn.linear_model._coordinate_descent.ElasticNet",
    "sklearn.linear_model._logistic.LogisticRegression",
    "sklearn.linear_model._ridge.Ridge",
    "sklearn.mixture._gaussian_mixture.GaussianMixture",
    "sklearn.naive_bayes.GaussianNB",
    "sklearn.neighbors._classification.KNeighborsClassifier",
    "sklearn.neighbors._classification.RadiusNeighborsClassifier",
    "sklearn.neighbors._regression.KNeighborsRegressor",
    "sklearn.neural_network._multilayer_perceptron.MLPClassifier",
    "sklearn.neural_network._multilayer_perceptron.MLPRegressor",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.MinMaxScaler",
    "sklearn.preprocessing._data.PowerTransformer",
    "sklearn.preprocessing._data.RobustScaler",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._discretization.KBinsDiscretizer",
    "sklearn.preprocessing._encoders.OneHotEncoder",
    "sklearn.preprocessing._encoders.OrdinalEncoder",
    "sklearn.preprocessing._function_transformer.FunctionTransformer",
    "sklearn.preprocessing._label.LabelBinarizer",
    "sklearn.preprocessing._label.LabelEncoder",
    "sklearn.preprocessing._target_encoder.TargetEncoder",
    "sklearn.svm._classes.SVC",
    "sklearn.svm._classes.SVR",
    "sklearn.tree._classes.DecisionTreeClassifier",
    "sklearn.tree._classes.DecisionTreeRegressor",
    "sklearn.tree._classes.ExtraTreeClassifier",
    "sklearn.tree._classes.ExtraTreeRegressor",
)
LOSSES = (
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfSquaredError",
)


_JSON_WITHOUT_INDENT = SimpleNamespace(dumps=lambda value, indent: json.dumps(value))  # noqa: ARG005 - called by skops


def import_skops() -> Any:
    """Return `skops.io`, with the lists above for those that it would build.

    To build them, skops imports all of scikit-learn, and looks for each ufunc of numpy and scipy in every module that is loaded: a sixth of a forkserver's
    start. In a process that has imported skops before, its own lists remain.
    """
    sys.modules.setdefault("skops.io._trusted_types", default_types())
    import skops.io  # takes long; the API imports the steps only for their schemas

    # skops indents its schema, which `json` does in Python: a seventh of a small training's CPU time. `canonical_archive` writes it anew.
    skops.io._persist.json = _JSON_WITHOUT_INDENT  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return skops.io


def default_types() -> ModuleType:
    module: Any = ModuleType("skops.io._trusted_types")
    module.PRIMITIVE_TYPE_NAMES = [f"builtins.{name}" for name in ("int", "float", "str", "bool")]
    module.CONTAINER_TYPE_NAMES = [f"builtins.{name}" for name in ("list", "set", "map", "tuple")]
    module.SKLEARN_ESTIMATOR_TYPE_NAMES = list(ESTIMATORS)
    module.SKLEARN_INTERNAL_TYPE_NAMES = list(LOSSES)
    module.NUMPY_DTYPE_TYPE_NAMES = sorted({f"numpy.{dtype.__name__}" for dtype in np.sctypeDict.values()})
    module.NUMPY_UFUNC_TYPE_NAMES = ["numpy.arcsinh", "numpy.log1p"]
    module.SCIPY_UFUNC_TYPE_NAMES = []
    module.NUMPY_RANDOM_BIT_GENERATOR_TYPE_NAMES = []
    return module


def load_model(path: str | Path) -> Any:
    """Load the Pipeline of a model file. If it holds any other type, skops raises UntrustedTypesFoundException before building anything."""
    return import_skops().load(path, trusted=trusted_types())


def trusted_types() -> list[str]:
    """The list above, and the types that installed steps declare."""
    return [*TRUSTED_TYPES, *DECLARED_TYPES]
