"""The features of a model, read from columns as a file or a request has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from workers.ml.columns import as_features, kind_of
from workers.ml.embeddings import DIMENSIONS, encoder, require_same
from workers.ml.errors import BadInput
from workers.ml.prediction.contents import ReadContents
from workers.ml.prediction.issues import MAX_VALUES, IssueCode, IssueLog
from workers.ml.prediction.predictor import Predictor
from workers.ml.steps.clean_text import cleaned
from workers.ml.steps.columns import composed
from workers.ml.value_checks import MAX_FEATURE_VALUE

KNOWN_ORIGINS = frozenset({"column", "part", "clean", "embedding"})
"""What the `from` of an input has that is computed here."""


@dataclass(frozen=True)
class Input:
    """A column that the model takes. With a `source`, it is the `part` of that column of dates, a name of polars' `Expr.dt`, or without a part
    that column under another name, or a number of the embedding of that text if it `is_embedded`.
    """

    name: str
    kind: str
    source: str | None = None
    part: str | None = None
    is_embedded: bool = False


@dataclass(frozen=True)
class Batch:
    """The `features` of those rows that the model can predict, and which of all rows these are."""

    features: pl.DataFrame
    can_predict: np.ndarray


class FeatureReader:
    """Reads batch after batch, and collects what is to be told of them."""

    def __init__(self, signature: Mapping[str, Any], predictor: Predictor) -> None:
        """Raises BadInput (OTHER_WEIGHTS)."""
        derived = [(each["name"], each["from"]) for each in signature.get("derived", ())]
        computed = computed_names(derived)
        self.inputs = [_input(each, computed) for each in signature["inputs"]]
        self.issues = IssueLog()
        self._changes = _changes(derived, computed)
        self._nullable = predictor.takes_missing({each.name: each.kind for each in self.inputs})
        self._categories = {
            each.name: pl.Series(categories, dtype=pl.String if each.kind == "text" else pl.Float64)
            for each in self.inputs
            if (categories := predictor.categories(each.name)) is not None
        }
        self._first = 1
        self._unusable = np.zeros(0, dtype=bool)  # of this batch
        self._without_file: Mapping[str, np.ndarray] = {}  # of this batch, by the columns that are read from files
        self._told: set[tuple[IssueCode, str]] = set()  # of this batch: several parts of one date are read from one column

    def column_names(self, names: Sequence[str]) -> list[str]:
        """Return those of the columns that the model reads. `names` are composed."""
        wanted = {name for each in self.inputs for name in (each.name, each.source)} | {each.source for each in self._changes}
        return [name for name in names if name in wanted]

    def text_names(self) -> set[str | None]:
        """The names of columns that are read as texts."""
        texts = {name for each in self.inputs if each.kind == "text" for name in (each.name, each.source)}
        for each in reversed(self._changes):
            if isinstance(each, _Embedding) or each.name in texts:
                texts.add(each.source)
        return texts

    def read_contents(self, frame: pl.DataFrame, found: ReadContents) -> Batch:
        """Read the next rows, with the columns that were read from their items. Raises BadInput as `read`."""
        unusable = np.isin(found.of, list(found.unusable))
        first = self._first
        for position in np.flatnonzero(unusable).tolist():
            error = found.unusable[int(found.of[position])]
            self.issues.rows("UNUSABLE_ITEM", error.node.key, first + position, 1, is_predicted=False, values=[error.key])
        self._without_file = {name: found.without_file[column] for name, column in found.file_columns.items()}
        for column, rows in found.without_file.items():
            read = {name for name, file_column in found.file_columns.items() if file_column == column}
            needed = any(each.name in read and each.name not in self._nullable for each in self.inputs)
            if (told := rows & ~unusable).any():
                self.issues.rows("MISSING_FILE", column, first + int(told.argmax()), int(told.sum()), is_predicted=not needed)
        return self.read(frame.with_columns(found.columns.select(self.column_names(found.columns.columns))), unusable)

    def read(self, frame: pl.DataFrame, unusable: np.ndarray | None = None) -> Batch:
        """Read the next rows, without those that are `unusable`. Raises BadInput: WRONG_COLUMN_TYPE, NOT_INSTALLED, OTHER_WEIGHTS."""
        self._told.clear()
        frame = self._change(frame)
        unpredictable = np.zeros(frame.height, dtype=bool)
        self._unusable = np.zeros(frame.height, dtype=bool) if unusable is None else unusable
        series = [self._feature(frame, each, unpredictable) for each in self.inputs]
        features = pl.DataFrame(series)
        self._first += frame.height
        if unusable is not None:
            unpredictable |= unusable
        return Batch(features.filter(pl.Series(~unpredictable)) if unpredictable.any() else features, ~unpredictable)

    def _change(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Clean and embed texts as in training. Numbers, which `_text` converts, have nothing to clean."""
        for each in self._changes:
            if each.source in frame.columns and isinstance(each, _Embedding):
                frame = frame.with_columns(_embedded(self._text(frame[each.source]), each.names))
            elif each.source in frame.columns and isinstance(each, _Cleaning):
                is_text = each.options is not None and kind_of(frame[each.source].dtype) == "text"
                value = cleaned(pl, each.source, each.options) if is_text and each.options is not None else pl.col(each.source)
                frame = frame.with_columns(value.alias(each.name))
        return frame

    def _feature(self, frame: pl.DataFrame, each: Input, unpredictable: np.ndarray) -> pl.Series:
        """Return one feature. Mark the rows in `unpredictable` that the model cannot predict without it."""
        has_source = each.source in frame.columns
        is_part = has_source and each.part is not None and kind_of(frame[str(each.source)].dtype) == "time"
        name = str(each.source) if is_part or (has_source and each.part is None and not each.is_embedded) else each.name
        told_name = str(each.source) if has_source and each.is_embedded else name
        is_nullable = each.name in self._nullable
        if name not in frame.columns:
            self.issues.column("MISSING_COLUMN", each.source or each.name, is_predicted=is_nullable)
            if not is_nullable:
                unpredictable |= True
            return pl.Series(each.name, [None] * frame.height, dtype=pl.String if each.kind == "text" else pl.Float64)
        column = frame[name]
        raw = getattr(column.dt, str(each.part))().cast(pl.Int32) if is_part else column
        values = as_features((self._text(raw) if each.kind == "text" else _number(raw)).alias(each.name).to_frame()).to_series()
        missing = values.is_null().to_numpy()
        is_given = (column.fill_nan(None) if column.dtype.is_float() else column).is_not_null().to_numpy()
        if (unreadable := missing & is_given).any():
            self._tell("WRONG_TYPE", told_name, unreadable, is_predicted=is_nullable, values=column.filter(pl.Series(unreadable)))
        untold = missing & ~is_given & ~self._without_file.get(name, np.zeros(frame.height, dtype=bool))
        self._tell("MISSING_VALUES", told_name, untold, is_predicted=is_nullable)
        if not is_nullable:
            unpredictable |= missing
        if values.dtype.is_float():
            too_large = (values.abs() > MAX_FEATURE_VALUE).fill_null(value=False).to_numpy()
            self._tell("OUT_OF_RANGE", name, too_large, is_predicted=False)
            unpredictable |= too_large
        categories = self._categories.get(each.name)
        if categories is not None:
            unseen = (~values.cast(categories.dtype).is_in(categories.implode()) & values.is_not_null()).to_numpy()
            self._tell("UNSEEN_CATEGORY", name, unseen, values=values.filter(pl.Series(unseen)))
        return values

    def _text(self, column: pl.Series) -> pl.Series:
        kind = kind_of(column.dtype)
        if kind == "number":
            self.issues.column("CONVERTED_TO_TEXT", column.name)
        elif kind != "text" and column.dtype != pl.Null:
            raise _wrong_type(column.name, "texts")
        return column.cast(pl.String)

    def _tell(self, code: IssueCode, name: str, rows: np.ndarray, *, is_predicted: bool = True, values: pl.Series | None = None) -> None:
        rows = rows & ~self._unusable  # they are told of already
        if rows.any() and (code, name) not in self._told:
            self._told.add((code, name))
            examples = [] if values is None else values.unique(maintain_order=True).head(MAX_VALUES).to_list()
            self.issues.rows(code, name, self._first + int(rows.argmax()), int(rows.sum()), is_predicted=is_predicted, values=examples)


@dataclass(frozen=True)
class _Cleaning:
    """How a column is made of another, or of itself: by `clean_text` with these options, or without options under another name."""

    name: str
    source: str
    options: Mapping[str, str] | None


@dataclass(frozen=True)
class _Embedding:
    """The columns, by name, that are numbers of the embedding of a text."""

    source: str
    names: dict[str, int]


def computed_names(derived: Iterable[tuple[str, Mapping[str, Any]]]) -> set[str]:
    """Return the names of the columns that are made of others in a way that another column cannot be followed through, and of columns made of such."""
    computed: set[str] = set()
    for name, origin in derived:
        if not origin.keys() <= KNOWN_ORIGINS or "embedding" in origin or origin.get("column") in computed:
            computed.add(name)
    return computed


def _changes(derived: Sequence[tuple[str, Mapping[str, Any]]], computed: AbstractSet[str]) -> list[_Cleaning | _Embedding]:
    """Return how texts are cleaned and embedded, in order; nothing for a model that takes none of these. Raises BadInput (OTHER_WEIGHTS)."""
    changes: list[_Cleaning | _Embedding] = []
    for name, origin in derived:
        if (embedding := origin.get("embedding")) is not None:
            require_same(embedding)
            if origin["column"] in computed:
                continue  # these numbers are given, since a column of that name would hold another text
            last = changes[-1] if changes else None
            if not isinstance(last, _Embedding) or last.source != origin["column"]:
                changes.append(last := _Embedding(origin["column"], {}))
            last.names[name] = embedding["dimension"]
        elif set(origin) in ({"column"}, {"column", "clean"}):
            changes.append(_Cleaning(name, origin["column"], origin.get("clean")))
    return changes if any("clean" in origin or "embedding" in origin for _, origin in derived) else []


def _embedded(texts: pl.Series, names: Mapping[str, int]) -> pl.DataFrame:
    """Return these numbers of the embedding of each text, null for a missing one. Raises BadInput: NOT_INSTALLED, OTHER_WEIGHTS."""
    different = texts.alias("text").drop_nulls().unique(maintain_order=True)
    vectors = (
        [vectors for vectors, _ in encoder().encode(different.to_list())] if len(different) else [np.zeros((0, DIMENSIONS), np.float32)]
    )
    matrix = np.concatenate(vectors)
    found = pl.DataFrame([different, *(pl.Series(name, matrix[:, dimension]) for name, dimension in names.items())])
    return texts.alias("text").to_frame().join(found, on="text", how="left", maintain_order="left").drop("text")


def _input(document: Mapping[str, Any], computed: AbstractSet[str]) -> Input:
    """Return an input with its source. What a pipeline computes in another way is taken as it was computed, under its own name."""
    name, kind, origin = document["name"], document["kind"], document.get("from", {})
    if not origin.keys() <= KNOWN_ORIGINS or origin.get("column") in computed:
        return Input(name, kind)
    return Input(name, kind, origin.get("column"), origin.get("part"), is_embedded="embedding" in origin)


def _number(column: pl.Series) -> pl.Series:
    """Return numbers as trainings read them; a text that is none becomes null."""
    dtype = column.dtype
    if dtype == pl.Time or isinstance(dtype, pl.Duration):
        unit = 1e9 if dtype == pl.Time else {"ms": 1e3, "us": 1e6, "ns": 1e9}[dtype.time_unit]
        return column.to_physical().cast(pl.Float64) / unit
    if dtype == pl.Null:
        return column.cast(pl.Float64)
    kind = kind_of(dtype)
    if kind == "number":
        return column
    if kind != "text":
        raise _wrong_type(column.name, "numbers")
    return column.cast(pl.String).cast(pl.Float64, strict=False)


def frame_of(rows: Sequence[Mapping[str, Any]], reader: FeatureReader, target: str | None) -> pl.DataFrame:
    """Make columns of JSON objects; tell of the columns that the model does not use."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    used = reader.column_names(names)
    for name in names:
        if name not in used and name != target:
            reader.issues.column("UNKNOWN_COLUMN", name)
    texts = reader.text_names()
    dates = {each.source for each in reader.inputs if each.part is not None}
    return pl.DataFrame([_series(name, [row.get(name) for row in rows], is_text=name in texts, is_date=name in dates) for name in used])


def _series(name: str, values: list[Any], *, is_text: bool, is_date: bool) -> pl.Series:
    """Whole numbers stay whole, as in a file, so that they are compared with categories as in training."""
    if is_text:
        return pl.Series(name, values, dtype=pl.String)
    if is_date:
        return pl.Series(name, [None if value is None else _moment(value) for value in values], dtype=pl.Datetime("us"))
    if all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in values):
        return pl.Series(name, values, dtype=pl.Int64)
    return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def composed_names(frame: pl.DataFrame) -> pl.DataFrame:
    """Rename the columns of files that were written before names were composed."""
    return frame.rename({name: composed(name) for name in frame.columns if not name.isascii()})


def _wrong_type(name: str, expected: str) -> BadInput:
    return BadInput(
        "WRONG_COLUMN_TYPE", f"The model takes {expected} of the column '{name}', which has others. Choose another version.", column=name
    )
