"""Step that adds columns of another dataset version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workers.ml.errors import BadInput
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    import polars as pl

    from workers.ml.bundle import Bundle

MAX_KEYS = 10


class JoinParameters(Parameters):
    version: str = Field(
        pattern=r"^version_[0-9a-f]{32}$",
        title="Version",
        description="The id of the other dataset version, which is READY and of the same account.",
        json_schema_extra={"x-version": True},
    )
    on: list[ColumnName] = Field(
        min_length=1,
        max_length=MAX_KEYS,
        title="On",
        description="The columns whose values tell which rows belong together. Missing values belong to none.",
        json_schema_extra={"x-column": True},
    )
    other_on: list[ColumnName] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_KEYS,
        title="On there",
        description="The names of these columns in the other version, in the same order, if they differ.",
        json_schema_extra={"x-other-column": True},
    )
    columns: list[ColumnName] | None = Field(
        default=None,
        min_length=1,
        max_length=2_000,
        title="Columns",
        description="The columns of the other version to add; by default all but those that it is joined on.",
        json_schema_extra={"x-other-column": True},
    )
    how: Literal["left", "inner"] = Field(
        default="left", title="How", description="`left` keeps rows without a match, with missing values; `inner` removes them."
    )
    duplicates: Literal["fail", "first"] = Field(
        default="fail", title="Duplicates", description="Whether several rows there of one key fail the job, or the first of them is used."
    )


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: UNKNOWN_COLUMN, BAD_PARAMETER, WRONG_COLUMN_TYPE, DUPLICATE_KEYS, TOO_LARGE, NO_ROWS."""
    import polars as pl  # the API imports the registry only for its schemas

    from workers.ml.columns import Column, Derivation, kind_of, unique

    parameters: JoinParameters = node.parameters
    other, types = bundle.other_versions[parameters.version]
    schema = other.collect_schema()
    other_on = parameters.other_on or parameters.on
    if len(other_on) != len(parameters.on) or len(set(other_on)) != len(other_on):
        message = f"Step '{node.key}' joins on {len(parameters.on)} columns here and {len(set(other_on))} there. Name as many, each once."
        raise BadInput("BAD_PARAMETER", message, path=node.path("other_on"))
    added = parameters.columns or [name for name in schema.names() if name not in other_on]
    for parameter, names in (("other_on" if parameters.other_on else "on", other_on), ("columns", added)):
        for index, name in enumerate(names):
            if name not in schema:
                raise BadInput(
                    "UNKNOWN_COLUMN",
                    f"Step '{node.key}' names the column '{name}', which the other version does not have. Its columns are: {', '.join(schema.names()[:20])}.",
                    column=name,
                    path=node.path(parameter, str(index)),
                )
    here = [bundle.column(name, node, "on", str(index)) for index, name in enumerate(parameters.on)]
    keys: list[tuple[pl.Expr, pl.Expr]] = []
    for index, (column, name) in enumerate(zip(here, other_on, strict=True)):
        kind = kind_of(schema[name])
        if column.kind != kind or kind == "other":
            raise BadInput(
                "WRONG_COLUMN_TYPE",
                f"Step '{node.key}' joins the column '{column.name}' of type {column.type} with '{name}' of type {types.get(name, schema[name])}. "
                "Convert one with a cast_columns step, or join on other columns.",
                column=column.name,
                path=node.path("on", str(index)),
            )
        dtype = _common_type(bundle.lazy.collect_schema()[column.name], schema[name])
        keys.append((pl.col(column.name).cast(dtype), pl.col(name).cast(dtype)))
    height = int(other.select(pl.len()).collect(engine="streaming").item())
    bundle.check_size(height, len(added) + len(keys), node)
    key_names = [f"__key_{index}" for index in range(len(keys))]
    taken = {*bundle.lazy.collect_schema().names(), *key_names}
    names = {name: unique(name, taken) for name in dict.fromkeys(added)}
    right = other.select(
        *(expression.alias(key) for key, (_, expression) in zip(key_names, keys, strict=True)),
        *(pl.col(old).alias(new) for old, new in names.items()),
    ).drop_nulls(key_names)
    repeated = int(
        right.select(key_names).group_by(key_names).len().filter(pl.col("len") > 1).select(pl.len()).collect(engine="streaming").item()
    )
    if repeated and parameters.duplicates == "fail":
        raise BadInput(
            "DUPLICATE_KEYS",
            f"{repeated:,} keys occur in several rows of the version that step '{node.key}' joins, so rows would be repeated. Join on more columns, make a version "
            "without duplicates by a deduplicate_rows step, or set duplicates to first.",
            path=node.path("duplicates"),
        )
    right = right.unique(key_names, keep="first", maintain_order=True)
    rows_before = bundle.count()
    left = bundle.lazy.with_columns(expression.alias(key) for key, (expression, _) in zip(key_names, keys, strict=True))
    bundle.lazy = left.join(right, on=key_names, how=parameters.how, maintain_order="left").drop(key_names)
    for old, new in names.items():
        document = {"version": parameters.version, "column": old, "on": parameters.on, "other_on": other_on}
        words = f"the column {old} of {parameters.version}, joined on"
        bundle.columns[new] = Column(new, types.get(old, str(schema[old])), kind_of(schema[old]))
        bundle.derivations.append(Derivation(new, tuple(column.name for column in here), document, None, words))
    rows_after = bundle.count()
    if rows_after == 0:
        raise BadInput(
            "NO_ROWS", f"No row has a match in the version that step '{node.key}' joins. Set how to left.", path=node.path("how")
        )
    renamed = {old: new for old, new in names.items() if old != new}
    output = {"rows": rows_after, "removed_rows": rows_before - rows_after, "columns": len(bundle.columns), "added_columns": len(names)}
    return {**output, **({"renamed": renamed} if renamed else {})}


def _common_type(here: pl.DataType, there: pl.DataType) -> Any:
    import polars as pl  # see run

    if here == there and not isinstance(here, pl.Categorical | pl.Enum):
        return here
    if here.is_integer() and there.is_integer():
        return pl.Int64 if pl.UInt64 not in (here, there) else pl.Int128
    if here.is_numeric() or here == pl.Boolean:
        return pl.Float64
    return pl.Datetime("us") if here.is_temporal() else pl.String


JOIN = Step(
    key="join_dataset",
    type="TRANSFORM",
    title="Join dataset",
    description="Adds columns of another dataset version to the rows of the same key, at most one row each. It runs before the rows are split and is not part of the "
    "model, which takes the joined columns. The other version is an input of the job as the first one is.",
    parameters=JoinParameters,
    place="choose",
    run=run,
)
