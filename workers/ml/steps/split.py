"""Dividing the rows into training, validation and test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workers.ml.errors import BadInput
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Node, Parameters, Step

if TYPE_CHECKING:
    import numpy as np

    from workers.ml.bundle import Bundle, Division

DEFAULT_TEST_FRACTION = 0.2


class SplitParameters(Parameters):
    strategy: Literal["auto", "random", "stratified", "time"] = Field(
        default="auto",
        title="Strategy",
        description="`random`; `stratified`: each class in the same share in every part; `time`: the newest rows are the test; `auto`: stratified where "
        "classes are predicted and each has two rows or more, random elsewhere.",
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
        description="Share of the rows that training is watched on, and early stopping decides by.",
    )
    stratify_by: ColumnName | None = Field(
        default=None,
        title="Stratify by",
        description="Column whose values keep their shares; by default the target.",
        json_schema_extra={"x-column": True},
    )
    time_column: ColumnName | None = Field(
        default=None,
        title="Time column",
        description="With the strategy `time`: the date, time or number that rows are ordered by.",
        json_schema_extra={"x-column": True},
    )
    seed: int | None = Field(
        default=None, ge=0, le=2**32 - 1, title="Seed", description="Fixes the division; by default the run's seed does."
    )


def run(bundle: Bundle, node: Node) -> dict[str, Any]:
    wanted: SplitParameters = node.parameters
    if wanted.test_fraction + wanted.validation_fraction > 0.95:
        message = f"Step '{node.key}' holds out {wanted.test_fraction + wanted.validation_fraction:.0%} of the rows. Leave at least 5 % for training."
        raise BadInput("BAD_PARAMETER", message, path=node.path("validation_fraction"))
    for name, strategies in (("stratify_by", ("auto", "stratified")), ("time_column", ("time",))):
        if getattr(wanted, name) is not None and wanted.strategy not in strategies:
            raise BadInput("BAD_PARAMETER", f"Step '{node.key}': the strategy '{wanted.strategy}' takes no {name}.", path=node.path(name))
    if wanted.strategy == "time":
        bundle.division = _by_time(bundle, node)
    else:
        bundle.division = _by_chance(bundle, node)
    check_sizes(bundle, node)
    return {"columns": len(bundle.columns), **described(bundle.division)}


def default_division(bundle: Bundle, node: Node) -> None:
    """Where a pipeline that predicts has no split: 80 % training and 20 % test, stratified where classes allow it."""
    import numpy as np  # the API imports the registry for its schemas alone

    from workers.ml.bundle import Division

    if bundle.problem == "CLUSTERING":
        everything = np.arange(bundle.frame.height)
        note = "No split step: the model is fitted on all rows and measured on them."
        bundle.division = Division("none", everything, everything[:0], everything[:0], note, by_default=True)
        return
    labels = _labels(bundle, bundle.target) if bundle.problem == "CLASSIFICATION" and bundle.target else None
    stratified = labels is not None and len(labels) > 0 and int(np.bincount(labels).min()) >= 2
    train, validation, test = _draw(bundle.frame.height, DEFAULT_TEST_FRACTION, 0.0, bundle.random_state, labels if stratified else None)
    how = "stratified" if stratified else "random"
    note = f"No split step: {DEFAULT_TEST_FRACTION:.0%} of the rows are held out for the test ({how}, seed {bundle.seed})."
    bundle.division = Division(how, train, validation, test, note, by_default=True)
    check_sizes(bundle, node)


def described(division: Division) -> dict[str, Any]:
    return {
        "strategy": division.strategy,
        **{f"{part}_rows": size for part, size in division.sizes().items()},
        **({"note": division.note} if division.note else {}),
    }


def check_sizes(bundle: Bundle, node: Node) -> None:
    from workers.ml.bundle import MIN_TEST_ROWS, MIN_TRAINING_ROWS

    division = bundle.division
    assert division is not None
    asked = getattr(node.parameters, "validation_fraction", 0.0) > 0
    if len(division.train) >= MIN_TRAINING_ROWS and len(division.test) >= MIN_TEST_ROWS and (not asked or len(division.validation)):
        return
    sizes = division.sizes()
    raise BadInput(
        "TOO_FEW_ROWS",
        f"{bundle.frame.height:,} rows divide into {sizes['train']} for training, {sizes['validation']} for validation and {sizes['test']} for the test; at least "
        f"{MIN_TRAINING_ROWS} and {MIN_TEST_ROWS} are needed for training and test. Add rows, filter fewer, or change the fractions.",
        path=node.path("test_fraction") if node.step.key == "split" else node.path(),
    )


def _by_chance(bundle: Bundle, node: Node) -> Division:
    import numpy as np  # see default_division

    from workers.ml.bundle import Division

    wanted: SplitParameters = node.parameters
    by = wanted.stratify_by or (bundle.target if bundle.problem in ("CLASSIFICATION", None) else None)
    labels: np.ndarray | None = None
    note: str | None = None
    if wanted.strategy == "stratified" and by is None:
        message = f"Step '{node.key}' is to keep the shares of classes, and there are none to go by. Set stratify_by, or choose the strategy 'random'."
        raise BadInput("BAD_PARAMETER", message, path=node.path("stratify_by"))
    if (
        wanted.strategy == "stratified"
        or wanted.stratify_by is not None
        or (wanted.strategy == "auto" and bundle.problem == "CLASSIFICATION")
    ):
        assert by is not None
        bundle.outcome(by, node, "stratify_by")
        labels = _labels(bundle, by)
        counts = np.bincount(labels)
        if counts.min() < 2:
            rare = bundle.frame[by].gather(np.flatnonzero(labels == int(counts.argmin()))).to_list()[0]
            if wanted.strategy == "stratified":
                raise BadInput(
                    "RARE_CLASS",
                    f"The value {rare!r} of the column '{by}' occurs in one row only, so step '{node.key}' cannot keep its share in every part. "
                    "Filter that row, or choose the strategy 'random'.",
                    column=by,
                    path=node.path("strategy"),
                )
            labels, note = None, f"Random, as the value {rare!r} of '{by}' occurs in one row only."
    seed = bundle.random_state if wanted.seed is None else wanted.seed
    train, validation, test = _draw(bundle.frame.height, wanted.test_fraction, wanted.validation_fraction, seed, labels)
    return Division("random" if labels is None else "stratified", train, validation, test, note)


def _by_time(bundle: Bundle, node: Node) -> Division:
    import numpy as np  # see default_division

    from workers.ml.bundle import Division

    wanted: SplitParameters = node.parameters
    name = wanted.time_column
    if name is None:
        raise BadInput(
            "BAD_PARAMETER",
            f"Step '{node.key}' splits by time and names no time_column. Name the column to order rows by.",
            path=node.path("time_column"),
        )
    column = bundle.outcome(name, node, "time_column")
    if column.kind not in ("time", "number"):
        raise BadInput(
            "WRONG_COLUMN_TYPE", f"Step '{node.key}' orders rows by '{name}', which is of type {column.type}. Name a date, a time or a number.",
            column=name, path=node.path("time_column"),
        )  # fmt: skip
    times = bundle.frame[name]
    if times.null_count():
        raise BadInput(
            "MISSING_VALUES",
            f"The time column '{name}' is missing in {times.null_count():,} rows, first in data row {int(times.is_null().arg_max() or 0) + 1} of those in use. "
            f"Remove them with a filter_rows step ('is_not_missing').",
            column=name,
            path=node.path("time_column"),
        )
    order = times.arg_sort().to_numpy().astype(np.int64)
    ranks = times.rank("dense").to_numpy()[order]
    total = len(order)
    cuts: list[int] = []
    for share in (1 - wanted.test_fraction - wanted.validation_fraction, 1 - wanted.test_fraction):
        # Rows of one moment stay together: what is known only at that moment must not be on both sides.
        at = min(round(total * share), total - 1)
        cuts.append(int(np.searchsorted(ranks, ranks[at])))
    return Division("time", order[: cuts[0]], order[cuts[0] : cuts[1]], order[cuts[1] :])


def _labels(bundle: Bundle, name: str) -> np.ndarray:
    """Each row's class as a number, counted from 0 without a gap."""
    import numpy as np  # see default_division
    import polars as pl

    return np.unique(bundle.frame[name].cast(pl.String).fill_null("").to_numpy(), return_inverse=True)[1]


def _draw(
    rows: int, test_fraction: float, validation_fraction: float, seed: int, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers of training, validation and test, each in the dataset's order.

    Stratified, the rows of each class are spread evenly over 0..1 and the first share of that line is the test: every class then
    has its share in each part to within one row, and the parts have exactly the sizes asked for.
    """
    import numpy as np  # see default_division

    order = np.random.default_rng(seed).permutation(rows)
    if labels is not None:
        shuffled = labels[order]
        places = np.empty(rows)
        for label in np.unique(shuffled):
            members = np.flatnonzero(shuffled == label)
            places[members] = (np.arange(len(members)) + 0.5) / len(members)
        order = order[np.argsort(places, kind="stable")]
    tests = max(1, round(rows * test_fraction)) if rows else 0
    validations = max(1, round(rows * validation_fraction)) if validation_fraction and rows else 0
    return np.sort(order[tests + validations :]), np.sort(order[tests : tests + validations]), np.sort(order[:tests])


SPLIT = Step(
    key="split",
    type="SPLIT",
    title="Split",
    description="Divides the rows into training, validation and test. Transforms learn from the training rows alone, wherever this step stands.",
    parameters=SplitParameters,
    place="split",
    run=run,
)
