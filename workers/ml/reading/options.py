"""Options of an upload, which override every guess."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from workers.ml.reading.column_names import composed_name
from workers.ml.reading.decimal_marks import DecimalMark
from workers.ml.reading.missing_words import DEFAULT, MissingWords
from workers.ml.reading.type_inference import POINT, TextRules


@dataclass(frozen=True)
class ReadingOptions:
    """None: detected from the file. `header_row` counts the rows that are not blank from 1; 0 says that there is no header:
    every row is data, and no issue says that a header was looked for."""

    delimiter: str | None = None
    decimal_mark: str | None = None
    encoding: str | None = None
    header_row: int | None = None
    sheet: str | None = None
    missing_words: list[str] | None = None
    column_types: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, stored: dict[str, Any] | None) -> Self:
        """From their form in the job's parameters; see `db.services.reading_options`."""
        options = stored or {}
        return cls(
            options.get("delimiter"),
            options.get("decimalMark"),
            options.get("encoding"),
            options.get("headerRow"),
            options.get("sheet"),
            options.get("missingWords"),
            {composed_name(name): kind for name, kind in (options.get("columnTypes") or {}).items()},
        )

    def text_rules(self, delimiter: str | None = None) -> TextRules:
        """The rules for text; those of a delimited file with `delimiter` leave the decimal mark to its first block."""
        mark = DecimalMark(self.decimal_mark) if self.decimal_mark else POINT if delimiter is None else None
        words = DEFAULT if self.missing_words is None else MissingWords.only(self.missing_words)
        return TextRules(mark, delimiter or ",", words, fixed=self.column_types)
