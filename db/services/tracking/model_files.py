"""What the files of a model say of it, found out without loading it: its format, who wrote it, and what it takes.

Of a model file only the first and last bytes are looked at: magic numbers, the header of LightGBM's text format, and `schema.json` of skops, which names
classes. The file MLmodel beside it is read as data (https://mlflow.org/docs/latest/ml/model/, "Storage Format" and "Model Signature").
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from db.tables.datasets import ProblemType
from db.tables.models import ModelFormat

MLMODEL = "MLmodel"
MLMODEL_BYTES = 512 * 1024
HEAD_BYTES = 64 * 1024
TAIL_BYTES = 4 * 1024**2  # skops writes its schema last
SCHEMA_BYTES = 32 * 1024**2
MAX_INPUTS = 10_000
UNKNOWN = "unknown"
_FRAMEWORKS = {"sklearn": "scikit-learn", "pytorch": "torch"}
_VERSIONS = ("sklearn_version", "lgb_version", "xgb_version", "onnx_version", "pytorch_version", "catboost_version", "keras_version")
_ABOUT = re.compile(r"(?:^|/)(?:MLmodel|[^/]+\.(?:ya?ml|txt|json|env|md))$")
_CLASSIFIERS = frozenset({"LogisticRegression", "SVC", "LinearSVC", "NuSVC", "GaussianNB", "MultinomialNB", "BernoulliNB", "ComplementNB"})
_REGRESSORS = frozenset(
    {"LinearRegression", "Ridge", "Lasso", "ElasticNet", "SVR", "LinearSVR", "NuSVR", "BayesianRidge", "HuberRegressor"}
)
_CLUSTERS = frozenset({"KMeans", "MiniBatchKMeans"})
_NUMBERS = frozenset({"double", "float", "integer", "long", "boolean"})


@dataclass(frozen=True, slots=True)
class ModelInput:
    """A column that a model takes: a number, or a text."""

    name: str
    is_text: bool = False
    is_nullable: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of a model. `classes` are in the order of its probabilities; None where the file itself tells them, or it does not classify."""

    format: ModelFormat = ModelFormat.OPAQUE
    main: str = ""
    """The path of the model itself among its files."""
    algorithm: str | None = None
    framework: str | None = None
    framework_version: str | None = None
    problem_type: ProblemType | None = None
    inputs: Sequence[ModelInput] = ()
    target: str | None = None
    classes: Sequence[Any] | None = None
    output_type: str | None = None

    @property
    def signature(self) -> Mapping[str, Any] | None:
        """The signature by which it predicts, as that of a training here; None where too little is known."""
        needs_classes = self.problem_type is ProblemType.CLASSIFICATION and self.format is not ModelFormat.SKOPS
        takes_texts = self.format is ModelFormat.SKOPS and any(each.is_text for each in self.inputs)
        if not self.inputs or self.problem_type is None or (needs_classes and not self.classes) or takes_texts:
            return None
        output: dict[str, Any] = {"problem_type": self.problem_type.name, "target": self.target}
        inputs = [
            {
                "name": each.name,
                "kind": "text" if each.is_text else "number",
                "type": "STRING" if each.is_text else "FLOAT",
                "nullable": each.is_nullable,
            }
            for each in self.inputs
        ]
        return {"inputs": inputs, "output": {**output, **({"classes": list(self.classes)} if self.classes else {})}}


def sniff(head: bytes, filename: str) -> ModelFormat:
    """The format of a model file by its first bytes. That of skops and ONNX is shared by other files, whose names differ."""
    if head.startswith(b"PK\x03\x04") and filename.endswith(".skops"):
        return ModelFormat.SKOPS
    if head.startswith(b"tree\nversion="):
        return ModelFormat.LIGHTGBM
    if head[:1] == b"\x08" and filename.endswith(".onnx"):  # the first field of a graph, its version
        return ModelFormat.ONNX
    if filename.endswith(".safetensors") and len(head) > 9 and head[8:9] == b"{":
        return ModelFormat.SAFETENSORS
    return ModelFormat.OPAQUE


def main_file(sizes: Mapping[str, int], mlmodel: Mapping[str, Any]) -> str:
    """The path of the file that is the model itself: what MLmodel names, else the largest that is not about it."""
    for flavor in _mappings(mlmodel.get("flavors")).values():
        for name in ("data", "pickled_model", "model_data"):
            if isinstance(named := flavor.get(name), str) and named in sizes:
                return named
    candidates = [path for path in sizes if not _ABOUT.search(path)] or list(sizes)
    return max(candidates, key=lambda path: (sizes[path], path))


def parse_mlmodel(content: bytes) -> Mapping[str, Any]:
    """The file MLmodel, or {} for one that is none. Only plain data are constructed, and aliases are not expanded."""
    import yaml

    try:
        document = yaml.load(content, yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return cast("Mapping[str, Any]", document) if isinstance(document, dict) else {}


def describe(format_: ModelFormat, head: bytes, tail: bytes, size: int, mlmodel: Mapping[str, Any]) -> Description:
    """What the files say. `head` and `tail` are the first and last bytes of the model file, which has `size`."""
    told = _of_mlmodel(mlmodel)
    if format_ is ModelFormat.LIGHTGBM:
        own = _of_booster(head)
        inputs = told.inputs if len(told.inputs) == len(own.inputs) else own.inputs
        return replace(told, format=format_, algorithm=own.algorithm, problem_type=own.problem_type, classes=own.classes, inputs=inputs)
    algorithm = (_class_of_skops(tail, size) if format_ is ModelFormat.SKOPS else None) or told.algorithm
    problem_type = _problem_type(algorithm, told.output_type)
    return replace(told, format=format_, algorithm=algorithm, problem_type=problem_type)


def _of_mlmodel(document: Mapping[str, Any]) -> Description:
    flavors = {name: flavor for name, flavor in _mappings(document.get("flavors")).items() if name != "python_function"}
    name = next(iter(flavors), None)
    flavor = flavors[name] if name is not None else {}
    model_class = flavor.get("model_class") or flavor.get("model_type")
    version = next((str(flavor[key])[:50] for key in _VERSIONS if key in flavor), None)
    signature = _members(document.get("signature"))
    outputs = _listed(signature.get("outputs"))
    return Description(
        algorithm=model_class.rpartition(".")[2][:200] if isinstance(model_class, str) else None,
        framework=None if name is None else _FRAMEWORKS.get(name, name)[:200],
        framework_version=version,
        inputs=_inputs(_listed(signature.get("inputs"))),
        output_type=_type_of(outputs[0]) if len(outputs) == 1 else None,
    )


def _mappings(value: Any) -> dict[str, dict[str, Any]]:
    """The members of a mapping that are mappings themselves."""
    return {name: cast("dict[str, Any]", each) for name, each in _members(value).items() if isinstance(each, dict)}


def _listed(text: Any) -> list[Any]:
    """The specifications in a JSON text of a signature."""
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        value = None
    return cast("list[Any]", value) if isinstance(value, list) else []


def _inputs(specifications: list[Any]) -> Sequence[ModelInput]:
    """The columns of a signature; of one matrix, `x0`, `x1` and so on. None where there is anything else, such as images."""
    members = [_members(each) for each in specifications]
    if len(members) == 1 and "tensor-spec" in members[0]:
        try:
            _, count = _members(members[0]["tensor-spec"]).get("shape", ())
        except (TypeError, ValueError):  # not rows by columns
            return ()
        return [ModelInput(f"x{number}") for number in range(count)] if isinstance(count, int) and 0 < count <= MAX_INPUTS else ()
    found: list[ModelInput] = []
    for each in members:
        kind, name = _type_of(each), each.get("name")
        if not isinstance(name, str) or not name or kind not in {*_NUMBERS, "string"}:
            return ()
        found.append(ModelInput(name, is_text=kind == "string", is_nullable=each.get("required") is False))
    names = {each.name for each in found}
    return found if len(names) == len(found) <= MAX_INPUTS else ()


def _type_of(specification: Any) -> str | None:
    each = _members(specification)
    kind = _members(each["tensor-spec"]).get("dtype") if "tensor-spec" in each else each.get("type")
    return kind if isinstance(kind, str) else None


def _members(value: Any) -> dict[str, Any]:
    """A JSON object, or {} for what is none."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _of_booster(head: bytes) -> Description:
    """The header of LightGBM's text format, lines of `name=value` up to an empty one."""
    lines = head.partition(b"\n\n")[0].decode(errors="replace").splitlines()
    fields = {name: value for name, _, value in (line.partition("=") for line in lines)}
    objective = fields.get("objective", "").partition(" ")[0]
    count = int(fields["num_class"]) if fields.get("num_class", "").isdecimal() else 1
    classes = {"binary": 2, "multiclass": count, "multiclassova": count}.get(objective)
    names = fields.get("feature_names", "").split()
    is_ranking = objective in {"", "lambdarank", "rank_xendcg", "cross_entropy", "cross_entropy_lambda", "custom"}
    problem_type = ProblemType.CLASSIFICATION if classes else None if is_ranking else ProblemType.REGRESSION
    return Description(
        algorithm="Booster",
        problem_type=problem_type,
        inputs=[ModelInput(name, is_nullable=True) for name in names] if len({*names}) == len(names) <= MAX_INPUTS else (),
        classes=list(range(min(classes, MAX_INPUTS))) if classes else None,
    )


def _class_of_skops(tail: bytes, size: int) -> str | None:
    """The name of the class that a file of skops restores; of a pipeline, that of its last step's where it is told by name."""
    try:
        with zipfile.ZipFile(io.BufferedReader(_Tail(tail, size))) as archive:
            if archive.getinfo("schema.json").file_size > SCHEMA_BYTES:
                return None
            with archive.open("schema.json") as member:
                schema = json.loads(member.read(SCHEMA_BYTES))
    except (OSError, ValueError, KeyError, RecursionError, zipfile.BadZipFile, NotImplementedError, EOFError):
        return None
    name = _members(schema).get("__class__")
    return name[:200] if isinstance(name, str) else None


class _Tail(io.RawIOBase):
    """A file of which only the last bytes are here; reading others is an error."""

    def __init__(self, tail: bytes, size: int) -> None:
        self._tail, self._size, self._start = io.BytesIO(tail), size, size - len(tail)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        if self._position < self._start:
            raise OSError("this part of the file is not here")
        self._tail.seek(self._position - self._start)
        count = self._tail.readinto(buffer)
        self._position += count
        return count


def _problem_type(algorithm: str | None, output_type: str | None) -> ProblemType | None:
    """The task of an algorithm of scikit-learn by its name, else by what it answers, where that is clear."""
    name = algorithm or ""
    if name in _CLASSIFIERS or name.endswith(("Classifier", "ClassifierCV")):
        return ProblemType.CLASSIFICATION
    if name in _REGRESSORS or name.endswith(("Regressor", "RegressorCV")):
        return ProblemType.REGRESSION
    if name in _CLUSTERS:
        return ProblemType.CLUSTERING
    if output_type in {"string", "boolean", "object", "str", "bool"}:
        return ProblemType.CLASSIFICATION
    return ProblemType.REGRESSION if output_type in {"double", "float", "float64", "float32"} else None
