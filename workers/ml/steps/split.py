"""Step that splits the rows into training, validation and test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field

from workers.ml.errors import BadInput
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    import numpy as np

    from workers.ml.bundle import Bundle
    from workers.ml.data_split import DataSplit

DEFAULT_TEST_FRACTION = 0.2


def _only_with(name: str, strategies: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON Schema of the rule that `name` is set only with these strategies."""
    condition: dict[str, Any] = {"properties": {"strategy": {"enum": list(strategies)}}}
    if "auto" not in strategies:  # the default
        condition["required"] = ["strategy"]
    listed = " and ".join(f"'{each}'" for each in strategies)
    message = f"Only the {'strategies' if len(strategies) > 1 else 'strategy'} {listed} can use this parameter."
    return {"if": condition, "else": {"properties": {name: {"type": "null", "x-message": message}}}}


_NEEDS_GROUP = "The strategy 'group' needs this parameter: the column whose equal values stay together."
_NEEDS_TIME = "The strategy 'time' needs this parameter: the column that the rows are ordered by."


class SplitParameters(Parameters):
    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {
                    "if": {"properties": {"strategy": {"const": "time"}}, "required": ["strategy"]},
                    "then": {
                        "required": ["time_column"],
                        "x-message": _NEEDS_TIME,
                        "properties": {"time_column": {"type": "string", "x-message": _NEEDS_TIME}},
                    },
                },
                {
                    "if": {"properties": {"strategy": {"const": "group"}}, "required": ["strategy"]},
                    "then": {
                        "required": ["group_column"],
                        "x-message": _NEEDS_GROUP,
                        "properties": {"group_column": {"type": "string", "x-message": _NEEDS_GROUP}},
                    },
                },
                _only_with("time_column", ("time",)),
                _only_with("group_column", ("group",)),
                _only_with("stratify_by", ("auto", "stratified")),
            ]
        }
    )

    strategy: Literal["auto", "random", "stratified", "time", "group"] = Field(
        default="auto",
        title="Strategy",
        description="`random`; `stratified`: each class has the same share in every part; `time`: the newest rows are the test; `group`: rows of a "
        "group, such as a patient, are all in one part; `auto`: stratified if "
        "classes are predicted and each has at least two rows, otherwise random.",
    )
    test_fraction: float = Field(
        default=DEFAULT_TEST_FRACTION,
        gt=0,
        lt=0.95,
        title="Test fraction",
        description="Share of the rows that the final metrics are measured on.",
    )
    validation_fraction: float = Field(
        default=0.0,
        ge=0,
        lt=0.95,
        title="Validation fraction",
        description="Share of the rows that training is monitored on and that decide early stopping.",
        json_schema_extra={"x-gives-validation-rows": True},
    )
    stratify_by: ColumnName | None = Field(
        default=None,
        title="Stratify by",
        description="Column whose values have the same share in every part; by default the target.",
        json_schema_extra={"x-column": True},
    )
    time_column: ColumnName | None = Field(
        default=None,
        title="Time column",
        description="With the strategy `time`: the date, time or number that rows are ordered by.",
        json_schema_extra={"x-column": True},
    )
    group_column: ColumnName | None = Field(
        default=None,
        title="Group column",
        description="With the strategy `group`: rows of the same value are in the same part. It is not a feature.",
        json_schema_extra={"x-column": True},
    )
    seed: int | None = Field(default=None, ge=0, le=2**32 - 1, title="Seed", description="Seed of the split; by default the run's seed.")


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: BAD_PARAMETER, UNKNOWN_COLUMN, WRONG_COLUMN_TYPE, MISSING_VALUES, RARE_CLASS, TOO_FEW_ROWS, PARTS_ON_BOTH_SIDES."""
    parameters: SplitParameters = node.parameters
    if parameters.strategy != "group":
        _check_parts(bundle, node, "Set its strategy", node.path("strategy"))
    if parameters.test_fraction + parameters.validation_fraction > 0.95:
        message = f"Step '{node.key}' holds out {parameters.test_fraction + parameters.validation_fraction:.0%} of the rows. Leave at least 5 % for training."
        raise BadInput("BAD_PARAMETER", message, path=node.path("validation_fraction"))
    for name, strategies in (("stratify_by", ("auto", "stratified")), ("time_column", ("time",)), ("group_column", ("group",))):
        if getattr(parameters, name) is not None and parameters.strategy not in strategies:
            raise BadInput(
                "BAD_PARAMETER", f"Step '{node.key}': the strategy '{parameters.strategy}' takes no {name}.", path=node.path(name)
            )
    if parameters.strategy == "time":
        bundle.data_split = _time_split(bundle, node)
    elif parameters.strategy == "group":
        bundle.data_split = _group_split(bundle, node)
    else:
        bundle.data_split = _random_split(bundle, node)
    check_split_sizes(bundle, node)
    return {"columns": len(bundle.columns), **split_summary(bundle.data_split)}


def default_split(bundle: Bundle, node: PipelineNode) -> None:
    """Split the rows of a training pipeline without a split step: 80 % training and 20 % test, stratified if every class has two rows.

    A training without a target uses all rows for training. Raises BadInput: TOO_FEW_ROWS, PARTS_ON_BOTH_SIDES.
    """
    import numpy as np  # the API imports the registry only for its schemas

    from workers.ml.data_split import DataSplit

    if not bundle.is_supervised:
        all_rows = np.arange(bundle.frame.height)
        note = "No split step: the model is fitted and measured on all rows."
        bundle.data_split = DataSplit("none", all_rows, all_rows[:0], all_rows[:0], note, is_default=True)
        return
    _check_parts(bundle, node, "Link a split step before it, with the strategy", ["definition", "nodes", str(node.index)])
    labels = _labels(bundle, bundle.target) if bundle.problem == "CLASSIFICATION" and bundle.target else None
    stratified = labels is not None and len(labels) > 0 and int(np.bincount(labels).min()) >= 2
    train, validation, test = _draw_split(
        bundle.frame.height, DEFAULT_TEST_FRACTION, 0.0, bundle.random_state, labels if stratified else None
    )
    strategy = "stratified" if stratified else "random"
    note = f"No split step: {DEFAULT_TEST_FRACTION:.0%} of the rows are held out for the test ({strategy}, seed {bundle.seed})."
    bundle.data_split = DataSplit(strategy, train, validation, test, note, is_default=True)
    check_split_sizes(bundle, node)


def _check_parts(bundle: Bundle, node: PipelineNode, advice: str, path: list[str]) -> None:
    """Parts of one item are alike: with some of them among the training rows, a model is tested on what it remembers.

    Raises BadInput (PARTS_ON_BOTH_SIDES).
    """
    divided_by = None if bundle.contents is None else bundle.contents.divided_by
    if divided_by is None:
        return
    column = "group" if "group" in bundle.columns else "key"
    raise BadInput(
        "PARTS_ON_BOTH_SIDES",
        f"Step '{divided_by.key}' divides items into parts, which are alike, and step '{node.key}' would put parts of one item among the training and the test "
        f"rows. {advice} `group` and the group_column `{column}`.",
        path=path,
    )


def split_summary(data_split: DataSplit) -> dict[str, Any]:
    return {
        "strategy": data_split.strategy,
        **{f"{subset}_rows": size for subset, size in data_split.sizes().items()},
        **({"note": data_split.note} if data_split.note else {}),
    }


def check_split_sizes(bundle: Bundle, node: PipelineNode) -> None:
    """Raises BadInput (TOO_FEW_ROWS)."""
    from workers.ml.data_split import MIN_TEST_ROWS, MIN_TRAINING_ROWS

    data_split = bundle.data_split
    assert data_split is not None
    needs_validation = getattr(node.parameters, "validation_fraction", 0.0) > 0
    if (
        len(data_split.train) >= MIN_TRAINING_ROWS
        and len(data_split.test) >= MIN_TEST_ROWS
        and (not needs_validation or len(data_split.validation))
    ):
        return
    sizes = data_split.sizes()
    min_rows = MIN_TRAINING_ROWS + MIN_TEST_ROWS + needs_validation
    advice = f"Add rows or filter fewer, {min_rows} are the least"
    if bundle.frame.height >= min_rows:
        advice = "Add rows, filter fewer, or " + (
            "change its fractions" if node.step.key == "split" else "link a split step with a test_fraction of 0.3"
        )
    raise BadInput(
        "TOO_FEW_ROWS",
        f"{bundle.frame.height:,} rows split into {sizes['train']} for training, {sizes['validation']} for validation and {sizes['test']} for the test; at least "
        f"{MIN_TRAINING_ROWS} training and {MIN_TEST_ROWS} test rows are needed. {advice}.",
        path=node.path("test_fraction") if node.step.key == "split" else node.path(),
    )


def _random_split(bundle: Bundle, node: PipelineNode) -> DataSplit:
    import numpy as np  # see default_split

    from workers.ml.data_split import DataSplit

    parameters: SplitParameters = node.parameters
    stratify_column = parameters.stratify_by or (bundle.target if bundle.problem in ("CLASSIFICATION", None) else None)
    labels: np.ndarray | None = None
    note: str | None = None
    if parameters.strategy == "stratified" and stratify_column is None:
        message = f"Step '{node.key}' is stratified, but there is no class column. Set stratify_by, or choose the strategy 'random'."
        raise BadInput("BAD_PARAMETER", message, path=node.path("stratify_by"))
    if (
        parameters.strategy == "stratified"
        or parameters.stratify_by is not None
        or (parameters.strategy == "auto" and bundle.problem == "CLASSIFICATION")
    ):
        assert stratify_column is not None
        column = bundle.target_or_split_column(stratify_column, node, "stratify_by")
        if column.kind == "other":
            raise BadInput(
                "WRONG_COLUMN_TYPE",
                f"Step '{node.key}' is stratified by '{stratify_column}', which is of type {column.type}. Name a column of text, numbers or dates.",
                column=stratify_column,
                path=node.path("stratify_by"),
            )
        labels = _labels(bundle, stratify_column)
        counts = np.bincount(labels)
        if counts.min() < 2:
            rare_value = bundle.frame[stratify_column].gather(np.flatnonzero(labels == int(counts.argmin()))).to_list()[0]
            if parameters.strategy == "stratified":
                raise BadInput(
                    "RARE_CLASS",
                    f"The value {rare_value!r} of the column '{stratify_column}' occurs in only one row, so step '{node.key}' cannot put its share into every part. "
                    "Filter that row, or choose the strategy 'random'.",
                    column=stratify_column,
                    path=node.path("strategy"),
                )
            labels, note = None, f"Random, because the value {rare_value!r} of '{stratify_column}' occurs in only one row."
    seed = bundle.random_state if parameters.seed is None else parameters.seed
    train, validation, test = _draw_split(bundle.frame.height, parameters.test_fraction, parameters.validation_fraction, seed, labels)
    return DataSplit("random" if labels is None else "stratified", train, validation, test, note)


def _time_split(bundle: Bundle, node: PipelineNode) -> DataSplit:
    import numpy as np  # see default_split

    from workers.ml.data_split import DataSplit

    parameters: SplitParameters = node.parameters
    name = parameters.time_column
    if name is None:
        raise BadInput(
            "BAD_PARAMETER",
            f"Step '{node.key}' splits by time but has no time_column. Name the column to order rows by.",
            path=node.path("time_column"),
        )
    column = bundle.target_or_split_column(name, node, "time_column")
    if column.kind not in ("time", "number"):
        raise BadInput(
            "WRONG_COLUMN_TYPE", f"Step '{node.key}' orders rows by '{name}', which is of type {column.type}. Name a date, a time or a number.",
            column=name, path=node.path("time_column"),
        )  # fmt: skip
    times = bundle.frame[name]
    if times.null_count():
        raise BadInput(
            "MISSING_VALUES",
            f"The time column '{name}' is missing in {times.null_count():,} rows, first in row {int(times.is_null().arg_max() or 0) + 1} of the rows in use. "
            f"Remove them with a filter_rows step ('is_not_missing').",
            column=name,
            path=node.path("time_column"),
        )
    order = times.arg_sort().to_numpy().astype(np.int64)
    ranks = times.rank("dense").to_numpy()[order]
    total = len(order)
    boundaries: list[int] = []
    for share in (1 - parameters.test_fraction - parameters.validation_fraction, 1 - parameters.test_fraction):
        # Rows with the same time stay together, so that nothing known only at that time is on both sides.
        position = min(round(total * share), total - 1)
        boundaries.append(int(np.searchsorted(ranks, ranks[position])))
    return DataSplit("time", order[: boundaries[0]], order[boundaries[0] : boundaries[1]], order[boundaries[1] :])


def _group_split(bundle: Bundle, node: PipelineNode) -> DataSplit:
    """Put groups, in a random order, into the test and the validation rows until these have their shares."""
    import numpy as np  # see default_split

    from workers.ml.data_split import DataSplit

    parameters: SplitParameters = node.parameters
    name = parameters.group_column
    if name is None:
        message = f"Step '{node.key}' splits by group but has no group_column. Name the column whose equal values stay together."
        raise BadInput("BAD_PARAMETER", message, path=node.path("group_column"))
    column = bundle.target_or_split_column(name, node, "group_column")
    missing = bundle.frame[name].null_count()
    if column.kind == "other" or missing:
        reason = (
            f"is missing in {missing:,} rows; remove them with a filter_rows step" if missing else f"is of type {column.type}; name another"
        )
        code = "MISSING_VALUES" if missing else "WRONG_COLUMN_TYPE"
        raise BadInput(code, f"The group column '{name}' of step '{node.key}' {reason}.", column=name, path=node.path("group_column"))
    groups = _labels(bundle, name)
    counts = np.bincount(groups)
    parts = 2 + (parameters.validation_fraction > 0)
    if len(counts) < parts:
        raise BadInput(
            "TOO_FEW_ROWS",
            f"The column '{name}' has {len(counts)} groups, and step '{node.key}' needs {parts}. Name another column, or choose another strategy.",
            column=name,
            path=node.path("group_column"),
        )
    order = np.random.default_rng(bundle.random_state if parameters.seed is None else parameters.seed).permutation(len(counts))
    # Half of a group may be on either side of a boundary; each part gets one group at least.
    middles = (np.cumsum(counts[order]) - counts[order] / 2) / len(groups)
    test_groups = max(1, int((middles < parameters.test_fraction).sum()))
    held_out = int((middles < parameters.test_fraction + parameters.validation_fraction).sum())
    held_out = min(max(held_out, test_groups + (parameters.validation_fraction > 0)), len(counts) - 1)
    test_groups = min(test_groups, held_out - (parameters.validation_fraction > 0))
    rank = np.empty(len(counts), dtype=np.int64)
    rank[order] = np.arange(len(counts))
    ranks = rank[groups]
    return DataSplit(
        "group",
        np.flatnonzero(ranks >= held_out),
        np.flatnonzero((ranks >= test_groups) & (ranks < held_out)),
        np.flatnonzero(ranks < test_groups),
    )


def _labels(bundle: Bundle, name: str) -> np.ndarray:
    """Return each row's class as an index, contiguous from 0."""
    import numpy as np  # see default_split
    import polars as pl

    return np.unique(bundle.frame[name].cast(pl.String).fill_null("").to_numpy(), return_inverse=True)[1]


def _draw_split(
    rows: int, test_fraction: float, validation_fraction: float, seed: int, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row indices of training, validation and test, each in the dataset's order.

    With `labels`, the rows of each class are spread evenly over 0..1 and the first share of that range is the test. Every class then has its
    share in each part to within one row, and the parts have exactly the requested sizes.
    """
    import numpy as np  # see default_split

    order = np.random.default_rng(seed).permutation(rows)
    if labels is not None:
        shuffled = labels[order]
        positions = np.empty(rows)
        for label in np.unique(shuffled):
            members = np.flatnonzero(shuffled == label)
            positions[members] = (np.arange(len(members)) + 0.5) / len(members)
        order = order[np.argsort(positions, kind="stable")]
    test_count = max(1, round(rows * test_fraction)) if rows else 0
    validation_count = max(1, round(rows * validation_fraction)) if validation_fraction and rows else 0
    return (
        np.sort(order[test_count + validation_count :]),
        np.sort(order[test_count : test_count + validation_count]),
        np.sort(order[:test_count]),
    )


SPLIT = Step(
    key="split",
    type="SPLIT",
    title="Split",
    description="Splits the rows into training, validation and test. Transforms are fitted on the training rows only, wherever this step is placed.",
    parameters=SplitParameters,
    place="split",
    run=run,
)
