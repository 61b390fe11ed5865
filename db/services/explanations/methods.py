"""Which models each method explains, and what an explanation may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from db.core.checks import Checks, composed
from db.core.suggestions import closest
from db.errors import Unsupported
from db.services.predictions.signatures import Input, Signature
from db.tables.datasets import ProblemType
from db.tables.explanations import ExplanationMethod
from db.tables.models import ModelFormat

MAX_ROWS, DEFAULT_ROWS = 10_000, 1_000
MAX_CURVES = 50
"""Columns of which PARTIAL_DEPENDENCE draws curves."""

MAX_UNKNOWN, MAX_SUGGESTIONS = 20, 3
"""How many columns that a model does not take are told, and of how many a similar name is looked for, which takes milliseconds among thousands."""

TREES = frozenset(
    f"{name}{kind}" for name in ("LGBM", "XGB", "RandomForest", "ExtraTrees", "GradientBoosting") for kind in ("Classifier", "Regressor")
)
LINEAR = frozenset({"LogisticRegression", "LinearRegression", "Ridge", "ElasticNet"})
NETWORKS = frozenset({"MLPClassifier", "MLPRegressor", "ConvolutionalClassifier", "ConvolutionalRegressor"})
_HIDING = {"IMAGE", "AUDIO", "SIGNAL"}
_WITH_TARGET = (ProblemType.CLASSIFICATION, ProblemType.REGRESSION)


@dataclass(frozen=True, slots=True)
class ExplainedModel:
    """What decides by which methods a model version can be explained; `name` is for people."""

    name: str
    algorithm: str
    format: ModelFormat
    problem_type: ProblemType | None


def method_for(model: ExplainedModel) -> ExplanationMethod:
    """The method that tells most of a model."""
    if model.algorithm in TREES or model.format is ModelFormat.LIGHTGBM:
        return ExplanationMethod.TREE_SHAP
    if model.algorithm in LINEAR:
        return ExplanationMethod.LINEAR
    if model.algorithm in NETWORKS:
        return ExplanationMethod.INTEGRATED_GRADIENTS
    return ExplanationMethod.PERMUTATION if model.problem_type in _WITH_TARGET else ExplanationMethod.PARTIAL_DEPENDENCE


def require_supported(method: ExplanationMethod, model: ExplainedModel, signature: Signature) -> None:
    """Raise `Unsupported` if the method cannot explain the model, with one that can."""
    name = model.name
    other = "PERMUTATION and PARTIAL_DEPENDENCE explain any model that predicts a target."
    match method:
        case ExplanationMethod.TREE_SHAP if model.algorithm not in TREES and model.format is not ModelFormat.LIGHTGBM:
            raise Unsupported(f"TREE_SHAP explains models of trees, and {name} is of {model.algorithm}. {_instead(model, other)}")
        case ExplanationMethod.LINEAR if model.algorithm not in LINEAR:
            raise Unsupported(f"LINEAR explains linear models, and {name} is of {model.algorithm}. {_instead(model, other)}")
        case ExplanationMethod.INTEGRATED_GRADIENTS if model.algorithm not in NETWORKS:
            raise Unsupported(
                f"INTEGRATED_GRADIENTS explains neural networks, and {name} is of {model.algorithm}. {_instead(model, other)}"
            )
        case ExplanationMethod.OCCLUSION if not _HIDING & {*signature.modalities}:
            read = f"the contents of {' or '.join(signature.modalities)} items" if signature.modalities else "no contents of items"
            reason = f"OCCLUSION hides parts of an image, a recording or a signal, and {name} reads {read}."
            raise Unsupported(f"{reason} Explain its columns by another method, such as PERMUTATION.")
        case _ if model.problem_type not in _WITH_TARGET and method is not ExplanationMethod.PARTIAL_DEPENDENCE:
            raise Unsupported(f"{method.name} explains how a target is predicted, and {name} has none. {_unsupervised(model)}")
        case ExplanationMethod.PARTIAL_DEPENDENCE if model.problem_type not in (*_WITH_TARGET, ProblemType.OTHER):
            raise Unsupported(
                f"PARTIAL_DEPENDENCE draws what a model predicts as a number, and {name} assigns clusters. Look at its plots."
            )
        case _:
            pass


def _instead(model: ExplainedModel, other: str) -> str:
    for method, algorithms in (("TREE_SHAP", TREES), ("LINEAR", LINEAR), ("INTEGRATED_GRADIENTS", NETWORKS)):
        if model.algorithm in algorithms:
            return f"Use {method}."
    return other


def _unsupervised(model: ExplainedModel) -> str:
    return "Use PARTIAL_DEPENDENCE." if model.problem_type is ProblemType.OTHER else "Look at the plots of the model version."


def source_of(column: Input) -> str:
    """The column of the data that a column of the model comes from: its parts of a date are explained together."""
    return column.source or column.name


def check_options(
    checks: Checks,
    method: ExplanationMethod,
    signature: Signature,
    features: list[str] | None,
    class_label: str | None,
    max_rows: int | None,
) -> None:
    """Add an issue for each option that the method, or the model, does not have."""
    by_input = method is ExplanationMethod.PARTIAL_DEPENDENCE
    names = list(dict.fromkeys(each.name if by_input else source_of(each) for each in signature.inputs))
    if features is not None:
        _check_features(checks, method, features, names)
    elif by_input and len(names) > MAX_CURVES:
        message = f"The model takes {len(names):,} columns; name those to draw, at most {MAX_CURVES}."
        checks.add("features", message=message)
    if class_label is not None:
        if method is ExplanationMethod.PERMUTATION:
            checks.add("classLabel", message="PERMUTATION measures how well all classes are predicted. Leave the class out.")
        elif not signature.classes:
            checks.add("classLabel", message="The model predicts no classes. Leave the class out.")
        elif class_label not in signature.classes:
            known = ", ".join(repr(label) for label in signature.classes[:10]) + ("" if len(signature.classes) <= 10 else ", …")
            checks.add("classLabel", message=f"The model does not know the class {class_label[:100]!r}. Its classes are {known}.")
    if max_rows is not None and not 1 <= max_rows <= MAX_ROWS:
        checks.add("maxRows", message=f"This is {max_rows:,}; 1 to {MAX_ROWS:,} rows are explained at once.")


def _check_features(checks: Checks, method: ExplanationMethod, features: list[str], names: list[str]) -> None:
    if method is ExplanationMethod.OCCLUSION:
        checks.add("features", message="OCCLUSION explains parts of an item, not columns. Leave the columns out.")
        return
    if not features or (method is ExplanationMethod.PARTIAL_DEPENDENCE and len(features) > MAX_CURVES):
        most = f" to {MAX_CURVES}" if method is ExplanationMethod.PARTIAL_DEPENDENCE else " or more"
        checks.add("features", message=f"Name 1{most} columns, or leave this out.")
    known = frozenset(names)
    unknown = [(index, feature) for index, feature in enumerate(features) if composed(feature) not in known]
    for number, (index, feature) in enumerate(unknown[:MAX_UNKNOWN]):
        close = closest(feature, names) if number < MAX_SUGGESTIONS else None
        hint = f" Did you mean {close!r}?" if close is not None else ""
        checks.add("features", index, message=f"The model takes no column {feature[:100]!r}.{hint}")
