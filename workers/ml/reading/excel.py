"""Reader for Excel workbooks: the first sheet that has cells.

A workbook is loaded into memory, so its size is checked before: an .xlsx is decompressed once and discarded. Limits: 64 MiB of file,
512 MiB decompressed, 10 M cells in the used range. Cells are read as text and typed like those of a delimited file; a column of times
that are all midnight is a DATE.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import fastexcel
import polars as pl

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading.column_names import check_width, clean_names
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.layout import find_header
from workers.ml.reading.raw import RawFile
from workers.ml.reading.table_reader import ProgressCallback
from workers.ml.reading.text_types import TextType
from workers.ml.reading.type_inference import TypeInference

_CELL_REFERENCE = re.compile(rb"<(?:\w+:)?(c|row)\b[^>]*?\br=\"([A-Za-z]{0,7})(\d{1,9})\"")
_CELL_START = re.compile(rb"<(?:\w+:)?c[ >/]")
_CHUNK_BYTES = 1 << 20


class ExcelReader:
    """Raises BadInput: UNREADABLE_FILE, EXCEL_TOO_LARGE, EMPTY_FILE, HEADER_ONLY, TOO_MANY_COLUMNS."""

    def __init__(self, raw: RawFile, filename: str, progress: ProgressCallback) -> None:
        self._filename = filename
        self._progress = progress
        self._types: dict[str, TextType] | None = None
        self._type_inference: TypeInference | None = None
        self._layout_issues = IssueLog()
        self._column_issues = IssueLog()
        self.issues = IssueLog()
        if raw.size > limits.MAX_EXCEL_BYTES:
            raise self._too_large(
                f"it has {raw.size / limits.MIB:,.0f} MiB, and the maximum for Excel files is {limits.MAX_EXCEL_BYTES // limits.MIB} MiB"
            )
        if raw.head(4) == b"PK\x03\x04":
            self._check_uncompressed_size(raw)
        self._frame = self._load(raw)

    def frames(self) -> Iterator[pl.DataFrame]:
        type_inference = self._type_inference = TypeInference(self._frame.columns, self._types)
        yield type_inference.convert(self._frame, lambda index: index + 1)
        self._progress(1.0, f"typing columns, {self._frame.height:,} rows")

    def needs_another_pass(self) -> bool:
        assert self._type_inference is not None  # a pass came first
        self._column_issues.extend(self._type_inference.column_issues())
        revised = self._type_inference.revised_types()
        if revised is not None:
            self._types = revised
            return True
        self.issues = IssueLog()
        for log in (self._layout_issues, self._column_issues, self._type_inference.issues()):
            self.issues.extend(log)
        return False

    def column_types(self) -> dict[str, str]:
        assert self._type_inference is not None  # a pass came first
        return {name: kind.name for name, kind in self._type_inference.types().items()}

    def _too_large(self, reason: str) -> BadInput:
        return BadInput(
            "EXCEL_TOO_LARGE",
            f"{self._filename!r} is too large: {reason}. Save the sheet as CSV, which may have any size, and upload that.",
        )

    def _unreadable(self, reason: object) -> BadInput:
        return BadInput(
            "UNREADABLE_FILE",
            f"{self._filename!r} cannot be read as an Excel workbook ({str(reason)[:200]}). Save it again and upload it.",
        )

    # -- before anything parses it

    def _check_uncompressed_size(self, raw: RawFile) -> None:
        """Decompress every member once and discard it, because the sizes in a ZIP directory cannot be trusted."""
        uncompressed = 0
        try:
            with zipfile.ZipFile(raw.path) as archive:
                members = archive.infolist()
                if len(members) > 10_000:
                    raise self._too_large(f"it has {len(members):,} parts")
                for member in members:
                    is_sheet = member.filename.startswith("xl/worksheets/") and member.filename.endswith(".xml")
                    used_range = _UsedRange()
                    with archive.open(member) as stream:
                        while chunk := stream.read(_CHUNK_BYTES):
                            uncompressed += len(chunk)
                            if uncompressed > limits.MAX_EXCEL_UNCOMPRESSED_BYTES:
                                raise self._too_large(
                                    f"its {raw.size / limits.MIB:,.1f} MiB decompress to more than {limits.MAX_EXCEL_UNCOMPRESSED_BYTES // limits.MIB} MiB "
                                    f"(in {member.filename!r})",
                                )
                            if is_sheet:
                                used_range.add(chunk)
                                if used_range.cells > limits.MAX_EXCEL_CELLS:
                                    raise self._too_large(
                                        f"its used range reaches {used_range.rows:,} rows and {used_range.columns:,} columns, more than "
                                        f"{limits.MAX_EXCEL_CELLS:,} cells",
                                    )
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
            raise self._unreadable(error) from error

    # -- the first sheet with cells

    def _load(self, raw: RawFile) -> pl.DataFrame:
        self._progress(0.1, "opening the workbook")
        try:
            workbook = fastexcel.read_excel(raw.path)
            for name in workbook.sheet_names:
                sheet: Any = workbook.load_sheet(name, header_row=None, dtypes="string", skip_whitespace_tail_rows=True)
                if sheet.width and sheet.height:
                    frame = sheet.to_polars()
                    break
            else:
                raise BadInput("EMPTY_FILE", f"{self._filename!r} has no sheet with cells. Fill one with a header and rows.")
        except fastexcel.FastExcelError as error:
            raise self._unreadable(error) from error
        except pl.exceptions.PanicException as error:
            raise self._unreadable(error) from error
        check_width(frame.width)
        if frame.width * frame.height > limits.MAX_EXCEL_CELLS:
            raise self._too_large(
                f"its used range has {frame.height:,} rows and {frame.width:,} columns, more than {limits.MAX_EXCEL_CELLS:,} cells"
            )
        return self._with_names(frame)

    def _with_names(self, frame: pl.DataFrame) -> pl.DataFrame:
        first_rows = [["" if cell is None else str(cell) for cell in row] for row in frame.head(50).rows()]
        header = find_header(first_rows)
        if header is None:
            self._layout_issues.add(
                "NO_HEADER", "The first row looks like data, not like column names; columns are named column_1, column_2 and so on.", row=1
            )
            names = [f"column_{position}" for position in range(1, frame.width + 1)]
        else:
            names = clean_names(header, self._layout_issues)
            frame = frame.slice(1)
        if not frame.height:
            raise BadInput(
                "HEADER_ONLY",
                f"{self._filename!r} has a header ({', '.join(name[:40] for name in names[:5])}) and no rows. Add at least one row and upload again.",
            )
        return frame.rename(dict(zip(frame.columns, names, strict=True)))


class _UsedRange:
    """The used range of a sheet, from the references of its cells. The cost of reading is that of the whole rectangle."""

    def __init__(self) -> None:
        self.rows = 0
        self.columns = 0
        self._cell_count = 0
        self._rest = b""

    def add(self, chunk: bytes) -> None:
        text = self._rest + chunk
        cut = text.rfind(b">") + 1
        self._rest = text[cut:][-65_536:]
        for _, letters, digits in _CELL_REFERENCE.findall(text, 0, cut):
            self.rows = max(self.rows, int(digits))
            if letters:
                self.columns = max(self.columns, _column_number(letters))
        self._cell_count += len(_CELL_START.findall(text, 0, cut))

    @property
    def cells(self) -> int:
        return max(self.rows * self.columns, self._cell_count)


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number
