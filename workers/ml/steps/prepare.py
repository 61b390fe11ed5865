"""Step that makes a table learnable: it decides by the values of each column what to do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workers.ml.steps.columns import ColumnName
from workers.ml.steps.dates import DATE_PARTS, decompose
from workers.ml.steps.encode import encode_columns
from workers.ml.steps.impute import fill_values
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    import polars as pl

    from workers.ml.bundle import Bundle
    from workers.ml.columns import Column

MAX_REPORTED_COLUMNS = 20
# Text of which more than this share of the values is distinct identifies rows rather than describing them.
IDENTIFIER_SHARE = 0.9
# A leading zero makes a code, such as a postcode, rather than a number.
NUMBER_PATTERN = r"^[+-]?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?$"


class PrepareParameters(Parameters):
    columns: list[ColumnName] | None = Field(
        default=None,
        title="Columns",
        description="The columns to prepare; by default every feature.",
        min_length=1,
        max_length=20_000,
        json_schema_extra={"x-column": True},
    )
    fill: Literal["median", "mean"] = Field(
        default="median", title="Fill", description="What replaces a missing number, computed from the training rows."
    )
    max_categories: int = Field(
        default=30,
        ge=2,
        le=1_000,
        title="Maximum categories",
        description="Text becomes a column of 0 and 1 for each category; with more categories, the most frequent keep theirs and the others share one.",
    )
    drop_useless: bool = Field(
        default=True,
        title="Drop useless columns",
        description="Whether columns are dropped that have one value at most in the training rows, or text that differs in nearly every row.",
    )
    scale: bool = Field(
        default=False, title="Scale", description="Whether numbers are scaled to mean 0 and standard deviation 1, as linear models need."
    )


def before_split(bundle: Bundle, node: PipelineNode) -> None:
    """Take dates apart and read text of numbers as numbers; both depend on no other row."""
    import polars as pl  # the API imports the registry only for its schemas

    from workers.ml.columns import Derivation

    columns = [
        column
        for column in bundle.columns_to_transform(node, node.parameters.columns, ("number", "text", "time"))
        if column.name in bundle.columns
    ]
    dates = [column for column in columns if column.kind == "time"]
    decompose(bundle, node, dates)
    bundle.preparation |= {column.name: f"a date, replaced by its {', '.join(DATE_PARTS)} and so on" for column in dates}
    texts = [column.name for column in columns if column.kind == "text" and column.name not in bundle.extra_columns]
    if not texts:
        return
    tests = bundle.lazy.select(
        pl.col(name).cast(pl.String).str.strip_chars().str.contains(NUMBER_PATTERN).all(ignore_nulls=True)
        & pl.col(name).is_not_null().any()
        for name in texts
    )
    for name, is_number in tests.collect(engine="streaming").row(0, named=True).items():
        if is_number:
            expression = pl.col(name).cast(pl.String).str.strip_chars().cast(pl.Float64)
            code = f"pl.col({name!r}).cast(pl.String).str.strip_chars().cast(pl.Float64)"
            bundle.derive(
                Derivation(name, (name,), {"column": name, "cast": "FLOAT"}, code, "a number read from the text"),
                expression,
                "FLOAT",
                "number",
            )
            bundle.preparation[name] = "text of numbers, read as numbers"


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    from sklearn.impute import SimpleImputer  # the API imports the registry only for its schemas
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    parameters: PrepareParameters = node.parameters
    chosen = None if parameters.columns is None else _current_names(bundle, parameters.columns)
    columns = [
        column
        for column in bundle.columns.values()
        if column.kind in ("number", "text")
        and column.name != bundle.target
        and not column.stages
        and (chosen is None or column.name in chosen)
    ]
    train = bundle.frame[bundle.learning_rows()]
    dropped = {column.name: reason for column in columns if parameters.drop_useless and (reason := _useless(column, train))}
    for name, reason in dropped.items():
        bundle.drop(name, node, by_name=False)
        bundle.preparation[name] = f"dropped: {reason}"
    numbers = [column for column in columns if column.kind == "number" and column.name not in dropped]
    texts = [column for column in columns if column.kind == "text" and column.name not in dropped]
    bundle.add_stage(node, numbers, SimpleImputer(strategy=parameters.fill, keep_empty_features=True), fills=True, label="impute")
    filled = [column.name for column in numbers if column.missing]
    values = fill_values(bundle, node, filled)
    if parameters.scale:
        scaled = [bundle.columns[column.name] for column in numbers]
        bundle.add_stage(node, scaled, StandardScaler(), label="scale")
    encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=parameters.max_categories, sparse_output=False)
    categories, renamed = encode_columns(bundle, node, texts, encoder, "one_hot_encode")
    _describe(bundle, numbers, values, categories, parameters)
    return {
        "rows": bundle.height,
        "columns": len(bundle.columns),
        "prepared": dict(list(bundle.preparation.items())[:MAX_REPORTED_COLUMNS]),
        "prepared_columns": len(bundle.preparation),
        **({"renamed": dict(list(renamed.items())[:MAX_REPORTED_COLUMNS])} if renamed else {}),
    }


def _current_names(bundle: Bundle, names: list[str]) -> set[str]:
    """Return the named columns, and those that the named dates were replaced by."""
    return {*names, *(derivation.name for derivation in bundle.derivations if not set(names).isdisjoint(derivation.sources))}


def _useless(column: Column, train: pl.DataFrame) -> str | None:
    values = train[column.name].drop_nulls()
    distinct = values.n_unique() if len(values) else 0
    if distinct == 0:
        return "it has no value in the training rows"
    if distinct == 1 and len(values) == train.height:
        return "it has the same value in all training rows"
    if column.kind == "text" and len(values) >= MAX_REPORTED_COLUMNS and distinct > IDENTIFIER_SHARE * len(values):
        return f"its text differs in nearly every row ({distinct:,} values in {len(values):,} training rows)"
    return None


def _describe(
    bundle: Bundle, numbers: list[Column], values: dict[str, Any], categories: dict[str, int], parameters: PrepareParameters
) -> None:
    for column in numbers:
        treatment = [bundle.preparation[column.name]] if column.name in bundle.preparation else []
        if column.name in values:
            treatment.append(f"{column.missing:,} missing numbers filled with the {parameters.fill} {values[column.name]:.6g}")
        if parameters.scale:
            treatment.append("scaled")
        if treatment:
            bundle.preparation[column.name] = ", ".join(treatment)
    for name, count in categories.items():
        grouped = f", the rarer ones together, into {parameters.max_categories}" if count > parameters.max_categories else ""
        bundle.preparation[name] = f"{count:,} categories, encoded as columns of 0 and 1{grouped}"


PREPARE = Step(
    key="prepare",
    type="TRANSFORM",
    title="Prepare",
    description="Prepares all columns for training in one step: reads text of numbers as numbers, takes dates apart, drops columns that tell nothing, fills missing "
    "numbers and encodes text. The model card lists what was done to each column.",
    parameters=PrepareParameters,
    place="fit",
    run=run,
    before_split=before_split,
    takes=("text", "time"),
    gives="number",
    makes_columns=True,
)
