"""The model card: what to know before using a model, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from workers.ml.architectures import Architecture
from workers.ml.artifacts.trust import trusted_types
from workers.ml.bundle import Bundle
from workers.ml.columns import Derivation
from workers.ml.data_split import SUBSETS
from workers.ml.scoring import METRICS
from workers.ml.trainer import THREADS, Trained

MAX_FEATURES = 100
MAX_NAMES = 20
PREDICTION_NOUNS = {"CLASSIFICATION": "classes", "REGRESSION": "a number", "CLUSTERING": "clusters", "OTHER": "outliers"}
PREDICTIONS = {
    "CLASSIFICATION": "labels",
    "REGRESSION": "values",
    "CLUSTERING": "clusters",
    "OTHER": "1, or -1 for an outlier",
}


def model_card(bundle: Bundle, trained: Trained, versions: dict[str, str], context: dict[str, Any], definition: dict[str, Any]) -> str:
    """Return the card's Markdown. `versions` are of packages; `context` as in `PipelineSpec`."""
    name = _escape_markdown(context.get("model_name") or context.get("pipeline_name") or trained.algorithm)
    sections = [
        f"# {name}\n\n`{trained.algorithm}` of {trained.framework}, predicting {PREDICTION_NOUNS[trained.problem]}"
        + (f" of `{_escape_code(trained.target)}`." if trained.target else "."),
        "## Data\n\n" + _data(bundle, trained, context),
        "## Metrics\n\n" + _metrics(bundle),
        "## Hyperparameters\n\n"
        + _table(["name", "value"], [[f"`{key}`", f"`{_escape_code(value)}`"] for key, value in trained.hyperparameters.items()]),
        *(["## Architecture\n\n" + _architecture(trained.architecture)] if trained.architecture is not None else []),
        "## Steps\n\n" + _steps(definition),
        *(["## Preparation\n\n" + _preparation(bundle)] if bundle.preparation else []),
        "## Features\n\n" + _features(bundle, trained),
        "## Use\n\n" + _use(bundle, trained, versions),
        "## Limits\n\n" + _limits(bundle, trained),
        "## Versions and seed\n\n"
        + _table(["package", "version"], [[package, package_version] for package, package_version in versions.items()])
        + f"\n\nSeed {bundle.seed}, {THREADS} thread. The same versions, data and seed give the same metrics and the same file.",
    ]
    return "\n\n".join(sections) + "\n"


def _data(bundle: Bundle, trained: Trained, context: dict[str, Any]) -> str:
    data_split = bundle.data_split
    assert data_split is not None
    lines: list[list[str]] = []
    if context.get("dataset_name"):
        lines.append(["dataset", _escape_markdown(context["dataset_name"])])
    if context.get("version_number") is not None:
        lines.append(["version", str(context["version_number"])])
    lines.append(["rows used", f"{bundle.height:,}"])
    if bundle.unlabelled_rows:
        lines.append(["rows ignored (no target value)", f"{bundle.unlabelled_rows:,}"])
    lines += [["split", data_split.strategy], *([[f"{subset} rows", f"{len(data_split.rows(subset)):,}"] for subset in SUBSETS])]
    text = _table(["", ""], lines)
    if data_split.note:
        text += f"\n\n{_escape_markdown(data_split.note)}"
    if trained.problem == "CLASSIFICATION":
        text += "\n\nClasses: " + ", ".join(f"`{_escape_code(label)}`" for label in trained.pipeline.classes_.tolist()) + "."
    return text


def _metrics(bundle: Bundle) -> str:
    rows: list[list[str]] = []
    for key, value in sorted(bundle.metrics.items()):
        rows.append([f"`{key}`", f"{value:.6g}", _meaning(key)])
    note = "Metrics without a prefix are measured on the test rows, which were not used for training."
    if bundle.data_split is not None and not len(bundle.data_split.test):
        note = "There were no test rows: everything is measured on the rows that the model was fitted on."
    return _table(["metric", "value", "meaning"], rows) + f"\n\n{note}"


def _meaning(key: str) -> str:
    for prefix, words in (("cv_", "Over folds: "), ("train_", "Training rows: "), ("validation_", "Validation rows: ")):
        if key.startswith(prefix) and key not in METRICS:
            metric = key.removeprefix(prefix)
            for suffix, statistic in (("_mean", "mean. "), ("_std", "standard deviation. ")):
                if metric.endswith(suffix):
                    return words + statistic + METRICS.get(metric.removesuffix(suffix), "")
            return words + METRICS.get(metric, "")
    return METRICS.get(key, "")


def _architecture(architecture: Architecture) -> str:
    return (
        f"`{architecture.text}`: the units of each layer, from the inputs to the outputs, and the function of the hidden ones. "
        f"{architecture.parameter_count:,} parameters, {architecture.flops:,} floating-point operations for each row."
    )


def _steps(definition: dict[str, Any]) -> str:
    rows = [
        [
            f"`{_escape_code(node['key'])}`",
            f"`{_escape_code(node['step'])}`",
            ", ".join(f"`{_escape_code(k)}={_escape_code(v)}`" for k, v in (node.get("parameters") or {}).items()),
        ]
        for node in definition["nodes"]
    ]
    return _table(["node", "step", "parameters set"], rows) + "\n\nTransforms were fitted on the training rows only."


def _preparation(bundle: Bundle) -> str:
    listed = list(bundle.preparation.items())[:MAX_FEATURES]
    text = _table(["column", "what was done"], [[f"`{_escape_code(name)}`", _escape_markdown(treatment)] for name, treatment in listed])
    return text + (f"\n\nAnd {len(bundle.preparation) - len(listed)} more." if len(listed) < len(bundle.preparation) else "")


def _features(bundle: Bundle, trained: Trained) -> str:
    listed = trained.features[:MAX_FEATURES]
    text = _table(["column", "type"], [[f"`{_escape_code(name)}`", _type(bundle, name)] for name in listed])
    return text + (
        f"\n\nAnd {len(trained.features) - len(listed)} more: see `signature.json`." if len(listed) < len(trained.features) else ""
    )


def _type(bundle: Bundle, name: str) -> str:
    derivation = next((each for each in reversed(bundle.derivations) if each.name == name), None)
    if derivation is None:
        return bundle.columns[name].type
    sources = ", ".join(f"`{_escape_code(source)}`" for source in derivation.sources)
    return f"{bundle.columns[name].type}, {_escape_markdown(derivation.words) if derivation.is_from_contents else derivation.words} {sources}".rstrip()


def _use(bundle: Bundle, trained: Trained, versions: dict[str, str]) -> str:
    packages = " ".join(
        f'"{package}=={package_version}"'
        for package, package_version in versions.items()
        if package in ("scikit-learn", "lightgbm", "xgboost", "skops", "polars")
    )
    trusted = "\n".join(f'    "{name}",' for name in trusted_types())
    labels = PREDICTIONS[trained.problem]
    derivations = bundle.derivations_of(trained.features)
    note = " and the columns that the code below computes" if any(each.code or each.statements for each in derivations) else ""
    derived = "".join(f"\n{statements}" for statements in _statements(derivations))
    for names, origin in (
        ([each.name for each in derivations if not (each.code or each.statements or each.is_from_contents)], "of another version"),
        ([each.name for each in derivations if each.is_from_contents], "that the steps read from items (`contents` in `signature.json`)"),
    ):
        if names:
            more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
            note += f" and the columns {', '.join(f'`{_escape_code(name)}`' for name in names[:MAX_NAMES])}{more} {origin}"
    return f"""`model.skops` holds one scikit-learn `Pipeline` that takes the raw feature columns{note} (in any order, additional columns are ignored) as a polars
or pandas DataFrame and predicts {labels}. Pass booleans as 0 and 1, durations and times of day in seconds, missing numbers as null or NaN, and missing text as null.
Loading a skops file runs no code; the types below are the only ones it may hold besides those that skops trusts by default.

```
pip install {packages}
```

```python
import json
import polars as pl
import skops.io

TRUSTED_TYPES = [
{trusted}
]
model = skops.io.load("model.skops", trusted=TRUSTED_TYPES)
inputs = json.load(open("signature.json"))["inputs"]
rows = pl.read_parquet("data.parquet"){derived}
rows = rows.select(pl.col([column["name"] for column in inputs]))
seconds = pl.selectors.duration().dt.total_microseconds() / 1e6, pl.selectors.time().cast(pl.Int64) / 1e9
rows = rows.with_columns(*seconds, pl.selectors.boolean().cast(pl.Float64), pl.selectors.categorical().cast(pl.String))
print(model.predict(rows))
```"""


def _statements(derivations: Sequence[Derivation]) -> Iterator[str]:
    """Yield the code that computes the columns, in order; what computes several at once is there once."""
    told: set[str] = set()
    for each in derivations:
        if each.code is not None:
            yield f"rows = rows.with_columns(({each.code}).alias({each.name!r}))"
        elif each.statements is not None and each.statements not in told:
            told.add(each.statements)
            yield each.statements


def _limits(bundle: Bundle, trained: Trained) -> str:
    data_split = bundle.data_split
    assert data_split is not None
    lines = ["Predictions for rows unlike the training rows are not reliable."]
    if 0 < len(data_split.test) < 100:
        lines.append(f"The metrics are based on only {len(data_split.test)} test rows; another seed may change them noticeably.")
    if data_split.strategy not in ("time", "group") and bundle.is_supervised:
        lines.append(
            "Rows were split without regard to time or groups: if neighbouring rows resemble each other, the metrics are too optimistic."
        )
    if trained.note is not None:
        lines.append(_escape_markdown(trained.note))
    if trained.problem == "CLASSIFICATION":
        lines.append("Probabilities are not calibrated.")
    if any(
        stage.name.startswith(("one_hot_encode", "ordinal_encode")) for name in trained.features for stage in bundle.columns[name].stages
    ):
        lines.append("All categories that do not occur in the training rows are treated the same.")
    lines.append("Fairness between groups of people was not examined.")
    return "\n".join(f"- {line}" for line in lines)


def _table(head: list[str], rows: list[list[str]]) -> str:
    body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *body])


def _escape_markdown(text: Any) -> str:
    """Escape a user-supplied name: its characters must not act as Markdown, nor as HTML on a page that shows the card."""
    cleaned = " ".join(str(text).split())
    return "".join(f"\\{character}" if character in "\\`*_[]|#!~<>&" else character for character in cleaned)


def _escape_code(value: Any) -> str:
    return " ".join(str(value).replace("`", "'").replace("|", "\\|").split())
