"""What the Parquet files of a table that is cut by split tell of the whole table, so that it can be put together again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import orjson

KEY: Final = b"trellis.table"
"""Metadata key. Exported files have it: do not change it."""


@dataclass(frozen=True, slots=True)
class TableParts:
    """`columns` are those of the table in their order, each with its ColumnType; `split_column` is the one that the files lack, as their names say its value.

    `splits` has that value by the name in the files, as text; None is a missing one.
    """

    columns: Mapping[str, str]
    split_column: str | None
    splits: Mapping[str, str | None]

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes]) -> Self | None:
        """What the metadata of a file say; None if they say nothing, or what no export wrote."""
        try:
            match orjson.loads(metadata.get(KEY, b"null")):
                case {"columns": dict() as columns, "split_column": None | str() as split_column, "splits": dict() as splits}:
                    are_texts = all(isinstance(kind, str) for kind in columns.values()) and all(map(_is_value, splits.values()))
                    return cls(columns, split_column, splits) if are_texts else None
                case _:
                    return None
        except orjson.JSONDecodeError:
            return None


def _is_value(value: Any) -> bool:
    return value is None or isinstance(value, str)
