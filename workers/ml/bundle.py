"""The state that a pipeline's nodes work on: the rows, their split into training, validation and test, and the transforms so far.

The values stay raw. A transform is added to its columns as a stage, and every fit starts from the raw values of the training rows.
Clones of the same stages therefore form the one scikit-learn Pipeline that takes raw columns.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from workers.ml.columns import Column, Derivation, Stage, as_features, unique, wrong_kind_message
from workers.ml.data_split import DataSplit, Subset
from workers.ml.errors import BadInput
from workers.ml.node import Node, ValueKind
from workers.ml.reporting import Reporter
from workers.ml.value_checks import check_finite, check_texts

if TYPE_CHECKING:
    from workers.ml.architectures import Architecture
    from workers.ml.contents.state import Contents
    from workers.ml.contents.writers import WrittenFile
    from workers.ml.studies.halving import RungWatch
    from workers.ml.trainer import Trained
    from workers.ml.training_checkpoints import CheckpointSettings

# Rows times columns in memory: 400 MB as float64, and about four times that while a model is trained.
MAX_CELLS = 50_000_000


@dataclass(frozen=True)
class _Dropped:
    column: Column
    node: Node
    by_name: bool


RowChoice = Callable[[np.ndarray], np.ndarray]
"""From indices of training rows to those of the rows that are learned from, which may occur more than once."""


@dataclass
class Bundle:
    """Mutable state of one pipeline run. `lazy` scans the dataset with the row filters so far; `columns` are the remaining ones by name."""

    lazy: pl.LazyFrame
    columns: dict[str, Column]
    reporter: Reporter
    seed: int
    target: str | None = None
    problem: str | None = None
    max_cells: int = MAX_CELLS
    folder: Path = Path()
    """Folder for output files and checkpoints."""
    checkpoint_settings: CheckpointSettings | None = None
    extra_columns: set[str] = field(default_factory=set)
    """Columns that are loaded without being features: the target, the columns of a split."""
    time_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    """The column that names the part of each row, which is not a feature."""
    rung_watch: RungWatch | None = None
    """Ends the training early if it is a trial that is not good enough."""
    architecture: Architecture | None = None
    """What is trained, if it is a neural network; known before it is."""
    known_leaks: Sequence[str] = ()
    """What the ingest told of items that are in two parts of the archive's own split."""
    row_choices: list[RowChoice] = field(default_factory=list)
    """What chooses the rows that are learned from, among training rows; applied in each fold of a cross-validation, too."""
    data_split: DataSplit | None = None
    trained: Trained | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    unlabelled_rows: int = 0
    encoded_names: dict[str, list[str]] = field(default_factory=dict)
    """The names of the features that a column was encoded into, unique among all columns and features."""
    renamed_features: dict[str, str] = field(default_factory=dict)
    """Features whose own name was taken: the name of each, by the taken one."""
    derivations: list[Derivation] = field(default_factory=list)
    """In the order in which they are computed; one may use the columns of those before it."""
    other_versions: Mapping[str, tuple[pl.LazyFrame, dict[str, str]]] = field(
        default_factory=dict[str, tuple[pl.LazyFrame, dict[str, str]]]
    )
    """Dataset versions that are joined, by id: their rows, and the types of their columns."""
    preparation: dict[str, str] = field(default_factory=dict)
    """What was done to each column by a step that chooses for itself, for the model card."""
    contents: Contents | None = None
    """The contents of the rows' items, if the version has items and a step works on them."""
    written: WrittenFile | None = None
    """The file that a step wrote the contents to, from which the new version is read."""
    progress_span: tuple[float, float] = (0.0, 0.0)
    """The share of the body's progress, in percent, that the running node has."""
    _frame: pl.DataFrame | None = None
    _learning_rows: np.ndarray | None = None
    _copied_rows: int = 0
    _dropped: dict[str, _Dropped] = field(default_factory=dict)
    _filter_nodes: dict[str, Node] = field(default_factory=dict)

    @property
    def is_supervised(self) -> bool:
        """Whether the training predicts a target, rather than clusters or outliers."""
        return self.problem in ("CLASSIFICATION", "REGRESSION")

    @property
    def random_state(self) -> int:
        """The seed reduced to the 31 bits that scikit-learn and LightGBM accept; a run's seed has 64 bits and may be negative."""
        if 0 <= self.seed < 2**31:
            return self.seed
        return int(np.random.SeedSequence(self.seed % 2**64).generate_state(1)[0]) >> 1

    def contents_for(self, node: Node) -> Contents:
        """Return the contents of the rows' items. Raises BadInput (NO_ITEMS)."""
        if self.contents is None:
            message = f"Step '{node.key}' works on the contents of items, and this version has none. Choose a version that was read from an archive of them."
            raise BadInput("NO_ITEMS", message, path=["definition", "nodes", str(node.index), "step"])
        return self.contents

    # ---- columns

    def column(self, name: str, node: Node, *rest: str) -> Column:
        """Return the column as it is at `node`; raise BadInput (UNKNOWN_COLUMN) if it does not exist there."""
        dropped = self._dropped.get(name)
        if dropped is not None:
            if dropped.node.order > node.order:
                return dropped.column
            raise BadInput(
                "UNKNOWN_COLUMN",
                f"Step '{node.key}' names the column '{name}', which the earlier step '{dropped.node.key}' dropped. Keep it there, or remove it here.",
                column=name,
                path=node.path(*rest),
            )
        if name not in self.columns:
            close_matches = difflib.get_close_matches(name, self.columns, n=1)
            hint = (
                f" Did you mean '{close_matches[0]}'?" if close_matches else " Its columns are: " + ", ".join(list(self.columns)[:20]) + "."
            )
            raise BadInput(
                "UNKNOWN_COLUMN",
                f"Step '{node.key}' names the column '{name}', which the dataset does not have.{hint}",
                column=name,
                path=node.path(*rest),
            )
        return self.columns[name]

    def drop(self, name: str, node: Node, *, by_name: bool) -> None:
        """Drop a column. `by_name` tells a column dropped explicitly from one that was not selected."""
        self._dropped[name] = _Dropped(self.columns.pop(name), node, by_name)

    def is_free(self, name: str) -> bool:
        """Whether a column may get this name: no step can refer to another one by it."""
        dropped = self._dropped.get(name)
        return name not in self.lazy.collect_schema().names() if dropped is None else dropped.by_name

    @property
    def has_dropped_columns(self) -> bool:
        """Whether a step dropped or did not select some column."""
        return bool(self._dropped)

    def require_columns(self, node: Node) -> None:
        """Raises BadInput (NO_COLUMNS)."""
        if not self.columns:
            raise BadInput("NO_COLUMNS", f"Step '{node.key}' drops all columns. Name fewer columns.", path=node.path("columns"))

    def target_or_split_column(self, name: str, node: Node, parameter: str) -> Column:
        """Return a column that a training or split step uses besides the features. It may be unselected, but not dropped by name."""
        dropped = self._dropped.get(name)
        if dropped is not None and not dropped.by_name:
            return dropped.column
        return self.column(name, node, parameter)

    def columns_to_transform(self, node: Node, names: list[str] | None, kinds: tuple[ValueKind, ...]) -> list[Column]:
        """Return the columns in `names`, or by default all features of the accepted kinds.

        Raises BadInput: UNKNOWN_COLUMN, TARGET_TRANSFORMED, WRONG_COLUMN_TYPE.
        """
        if names is None:
            return [column for column in self.columns.values() if column.kind in kinds and column.name != self.target]
        columns = [self.column(name, node, "columns", str(index)) for index, name in enumerate(dict.fromkeys(names))]
        for index, column in enumerate(columns):
            path = node.path("columns", str(index))
            if column.name == self.target and self.problem is not None:
                raise BadInput(
                    "TARGET_TRANSFORMED", f"Step '{node.key}' names the target '{column.name}', which must not be transformed. Remove it from the columns.",
                    column=column.name, path=path,
                )  # fmt: skip
            if column.kind not in kinds:
                raise BadInput("WRONG_COLUMN_TYPE", wrong_kind_message(node, column, kinds), column=column.name, path=path)
        return columns

    def derive(self, derivation: Derivation, expression: pl.Expr, type_: str, kind: ValueKind) -> None:
        """Add a column, or replace one of the same name, by an expression over each row. Call it only before `frame` is read."""
        self.lazy = self.lazy.with_columns(expression.alias(derivation.name))
        self.derived(derivation, type_, kind)

    def derived(self, derivation: Derivation, type_: str, kind: ValueKind) -> None:
        """Take on a column that `lazy` has already."""
        self.columns[derivation.name] = Column(derivation.name, type_, kind)
        self._dropped.pop(derivation.name, None)
        self.derivations.append(derivation)

    def derivations_of(self, names: Collection[str]) -> list[Derivation]:
        """Return the derivations that these columns need, in order."""
        needed, used = set(names), list[Derivation]()
        for derivation in reversed(self.derivations):
            if derivation.name in needed:
                needed.remove(derivation.name)
                needed.update(derivation.sources)
                used.append(derivation)
        return used[::-1]

    def add_stage(
        self,
        node: Node,
        columns: list[Column],
        transformer: Any,
        *,
        kind: ValueKind | None = None,
        fills: bool = False,
        label: str | None = None,
    ) -> None:
        """Add a transform to columns, which are then fitted together. For per-column outputs, add a separate transformer to each column.

        `label` is the key of the step that usually adds it, if the node's own step adds several. Raises BadInput (FILTER_AFTER_TRANSFORM).
        """
        for column in columns:
            filter_node = self._filter_nodes.get(column.name)
            if filter_node is not None and filter_node.order > node.order:
                raise BadInput(
                    "FILTER_AFTER_TRANSFORM",
                    f"Step '{filter_node.key}' filters by the column '{column.name}', which the earlier step '{node.key}' changes; conditions apply to the "
                    f"dataset's own values. Link '{filter_node.key}' before '{node.key}'.",
                    column=column.name,
                    path=filter_node.path("conditions"),
                )  # fmt: skip
            if column.name not in self.columns:
                continue
            stages = (*column.stages, Stage(f"{label or node.step_key}_{node.index}", transformer))
            self.columns[column.name] = replace(column, stages=stages, kind=kind or column.kind, missing=0 if fills else column.missing)

    # ---- rows

    def count(self) -> int:
        if self._frame is not None:
            return self._frame.height
        return int(self.lazy.select(pl.len()).collect(engine="streaming").item())

    def filter_rows(self, condition: pl.Expr, node: Node, names: set[str]) -> None:
        """Keep the rows that meet `condition`. Call it only before `frame` is read."""
        self.lazy = self.lazy.filter(condition)
        for name in names:
            self._filter_nodes[name] = node

    @property
    def frame(self) -> pl.DataFrame:
        """The rows in memory, loaded on first use with only the columns still needed. Raises BadInput (TOO_LARGE)."""
        if self._frame is None:
            names = [name for name in self.lazy.collect_schema().names() if name in self.columns or name in self.extra_columns]
            self.check_size(self.count(), len(names))
            frame = self.lazy.select(names).collect(engine="streaming")
            self._frame = frame.with_columns(pl.selectors.float().fill_nan(None))
            counts = self._frame.null_count().row(0, named=True) if names else {}
            self.columns = {name: replace(column, missing=counts[name]) for name, column in self.columns.items()}
        return self._frame

    @property
    def height(self) -> int:
        """The number of rows in memory, without copies of them."""
        return self.frame.height - self._copied_rows

    def append_rows(self, rows: pl.DataFrame) -> int:
        """Append copies of rows, which are in no part of the split, and return the number of the first."""
        first = self.frame.height
        self._frame = pl.concat([self.frame, rows], rechunk=False)
        self._copied_rows += rows.height
        return first

    def check_size(self, rows: int, columns: int, node: Node | None = None) -> None:
        """Raises BadInput (TOO_LARGE) for more than `max_cells` values."""
        if rows * columns <= self.max_cells:
            return
        subject = f"Step '{node.key}' produces" if node else "The pipeline reads"
        raise BadInput(
            "TOO_LARGE",
            f"{subject} {rows:,} rows of {columns:,} columns, {rows * columns:,} values; the maximum is {self.max_cells:,}. "
            "Filter rows, select fewer columns, or encode fewer categories.",
            path=node.path() if node else None,
        )

    def rows_of(self, subset: Subset) -> np.ndarray:
        """Return the row indices of a subset; without a split, all rows are training rows."""
        return (
            self.data_split.rows(subset)
            if self.data_split is not None
            else (np.arange(self.frame.height) if subset == "train" else np.arange(0))
        )

    def learning_rows(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the indices of the rows to learn from, among these training rows or all."""
        if rows is None and self._learning_rows is not None:
            return self._learning_rows
        chosen = self.rows_of("train") if rows is None else rows
        for choose in self.row_choices:
            chosen = choose(chosen)
        if rows is None:
            self._learning_rows = chosen
        return chosen

    def add_row_choice(self, choose: RowChoice) -> None:
        self.row_choices.append(choose)
        self._learning_rows = None

    def target_values(self, rows: np.ndarray) -> np.ndarray:
        """Return the target values of these rows: labels as in the dataset, numbers as float64."""
        assert self.target is not None
        values = self.frame[self.target][rows]
        if isinstance(values.dtype, pl.Categorical | pl.Enum | pl.String):
            return values.cast(pl.String).to_numpy().astype(str)
        if self.problem == "REGRESSION":
            return values.cast(pl.Float64).to_numpy()
        return values.to_numpy()

    # ---- fitting

    def features(self, names: list[str], rows: np.ndarray | None = None) -> pl.DataFrame:
        """Return raw values as the model takes them: booleans as 0 and 1, categories as text, missing as null."""
        frame = self.frame.select(names)
        return as_features(frame if rows is None else frame[rows])

    def transformer(self, names: list[str]) -> Any:
        """Return an unfitted ColumnTransformer of the stages so far, from raw columns to numbers."""
        from sklearn.base import clone  # sklearn takes seconds to import, and importing the registry must not
        from sklearn.compose import ColumnTransformer
        from sklearn.pipeline import Pipeline

        groups: dict[tuple[int, ...], list[str]] = {}
        for name in names:
            # Grouped by transformer, not by node: one node may give numbers and text different transformers.
            groups.setdefault(tuple(id(stage.transformer) for stage in self.columns[name].stages), []).append(name)
        transformers: list[tuple[str, Any, list[str]]] = []
        for number, (key, members) in enumerate(groups.items()):
            stages = [(stage.name, clone(stage.transformer)) for stage in self.columns[members[0]].stages]
            transformers.append((f"columns_{number}" if key else "unchanged", Pipeline(stages) if stages else "passthrough", members))
        # scikit-learn refuses names that are not unique, unless it prefixes all of them.
        has_clashes = bool(self.renamed_features)
        return ColumnTransformer(transformers, remainder="drop", sparse_threshold=0, verbose_feature_names_out=has_clashes)

    def fit_transformer(self, names: list[str], node: Node) -> Any:
        """Fit the stages of these columns on the training rows only. Raises BadInput: NO_ROWS, INFINITE_VALUES, ALL_MISSING, TOO_LARGE."""
        return self.fit_transform(names, node)[0]

    def fit_transform(self, names: list[str], node: Node) -> tuple[Any, np.ndarray]:
        """Fit the stages likewise; return them and the features of the rows that are learned from, rows by features in float64.

        The features are not those that the fitted stages make of the rows where a stage is cross-fitted, as an encoding by the target is.
        """
        rows = self.learning_rows()
        if not len(rows):
            raise BadInput("NO_ROWS", f"No rows are left for step '{node.key}' to learn from. Filter fewer rows.", path=node.path())
        check_finite(self.frame.select(names), node)
        check_texts(self.frame, (self.columns[name] for name in names), rows, node)
        transformer = self.transformer(names)
        matrix = transformer.fit_transform(self.features(names, rows), self.target_values(rows) if self.is_supervised else None)
        self.check_size(self.frame.height, output_width(transformer), node)
        return transformer, matrix

    def name_features(self, column: str, names: Iterable[str], node: Node) -> dict[str, str]:
        """Name the features that `column` was encoded into. A name that is taken gets a number; return and log these, by the taken name."""
        taken = {*self.columns, *self.extra_columns, *((self.target and [self.target]) or [])} - {column}
        taken |= {name for other, own_names in self.encoded_names.items() if other != column for name in own_names}
        own_names: list[str] = []
        renamed: dict[str, str] = {}
        for name in names:
            unique_name = unique(name, taken)
            taken.add(unique_name)
            own_names.append(unique_name)
            if unique_name != name:
                renamed[name] = unique_name
                self.reporter.log(
                    f"Step '{node.key}' makes the column '{name}' from '{column}', but there is one of that name already; it is called '{unique_name}'."
                )
        self.encoded_names[column] = own_names
        self.renamed_features |= renamed
        return renamed

    def feature_names(self, transformer: Any) -> list[str]:
        """Return the names of the outputs of a fitted transformer, in order and unique."""
        names = [""] * output_width(transformer)
        for group, _, members in transformer.transformers_:
            if group == "remainder":
                continue
            outputs = range(len(names))[transformer.output_indices_[group]]
            width = len(outputs) // len(members)
            for number, member in enumerate(members):
                own_names = self.encoded_names.get(member, [member])
                for index, name in zip(outputs[number * width : (number + 1) * width], own_names, strict=True):
                    names[index] = name
        return names


def output_width(transformer: Any) -> int:
    """Return the number of features that a fitted ColumnTransformer makes."""
    return max((outputs.stop for outputs in transformer.output_indices_.values()), default=0)
