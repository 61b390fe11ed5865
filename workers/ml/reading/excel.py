"""Reader for Excel workbooks: the first visible sheet that has cells, or the one that the user names.

A workbook is loaded into memory, so its size is checked before: an .xlsx is decompressed once and discarded. Limits: 64 MiB of file,
512 MiB decompressed, 10 M cells in the used range. Cells become text, which is typed like that of a delimited file: numbers with their
shortest exact text, durations and times of day by their number format; a column of times that are all midnight is a DATE. Whole numbers
that the file writes with more digits than a double has keep them.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import fastexcel
import polars as pl

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading import preamble
from workers.ml.reading.archives import is_encrypted_ole
from workers.ml.reading.clock import clock_text
from workers.ml.reading.column_names import check_width, clean_names
from workers.ml.reading.excel_scan import Cell, SheetScan, TooLarge, cell_ranges, column_letters, scan_workbook
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.layout import is_header
from workers.ml.reading.numbers import MAX_EXACT_FLOAT
from workers.ml.reading.options import ReadingOptions
from workers.ml.reading.raw import RawFile
from workers.ml.reading.table_reader import ProgressCallback
from workers.ml.reading.text_types import DURATION, TextType
from workers.ml.reading.type_inference import TypeInference

_ONE_DAY: Final = timedelta(days=1)
_SAMPLE_ROWS: Final = 200


class ExcelReader:
    """Raises BadInput: UNREADABLE_FILE, EXCEL_TOO_LARGE, EMPTY_FILE, HEADER_ONLY, TOO_MANY_COLUMNS, UNKNOWN_SHEET."""

    def __init__(self, raw: RawFile, filename: str, progress: ProgressCallback, options: ReadingOptions | None = None) -> None:
        self._filename = filename
        self._progress = progress
        self._options = options or ReadingOptions()
        self._types: dict[str, TextType] | None = None
        self._type_inference: TypeInference | None = None
        self._layout_issues = IssueLog()
        self._column_issues = IssueLog()
        self.issues = IssueLog()
        if raw.size > limits.MAX_EXCEL_BYTES:
            raise self._too_large(
                f"it has {raw.size / limits.MIB:,.0f} MiB, and the maximum for Excel files is {limits.MAX_EXCEL_BYTES // limits.MIB} MiB"
            )
        self._scans: list[SheetScan] | None = None
        if raw.head(4) == b"PK\x03\x04":
            try:
                self._scans = scan_workbook(raw.path).sheets
            except TooLarge as error:
                raise self._too_large(str(error)) from error
            except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
                raise self._unreadable() from error
        elif is_encrypted_ole(raw.path):
            raise self._protected()
        self._rules = self._options.text_rules()
        self._frame = self._load(raw)

    def frames(self) -> Iterator[pl.DataFrame]:
        type_inference = self._type_inference = TypeInference(self._frame.columns, self._types, self._rules)
        yield type_inference.convert(self._frame, lambda index: index + 1)
        self._progress(1.0, f"Infer the types: {self._frame.height:,} rows")

    def needs_another_pass(self) -> bool:
        assert self._type_inference is not None  # a pass came first
        self._column_issues.extend(self._type_inference.column_issues())
        revised = self._type_inference.revised_types()
        if revised is not None:
            self._types = revised
            self._rules = replace(self._rules, mark=self._type_inference.mark)
            return True
        self.issues = IssueLog()
        for log in (self._layout_issues, self._column_issues, self._type_inference.mark_issues(), self._type_inference.issues()):
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

    def _unreadable(self) -> BadInput:
        return BadInput(
            "UNREADABLE_FILE",
            f"{self._filename!r} cannot be read as an Excel workbook: it is damaged, incomplete or of another kind. Open it in a spreadsheet "
            "program, save it again or as CSV, and upload that.",
        )

    def _protected(self) -> BadInput:
        return BadInput(
            "UNREADABLE_FILE",
            f"{self._filename!r} is protected with a password. Save it without one, or save the sheet as CSV, and upload that.",
        )

    # -- sheets

    def _load(self, raw: RawFile) -> pl.DataFrame:
        self._progress(0.1, "Open the workbook")
        try:
            workbook = fastexcel.read_excel(raw.path)
            name, sheet = self._choose_sheet(workbook)
            frame: pl.DataFrame = sheet.to_polars()
            check_width(frame.width)
            if frame.width * frame.height > limits.MAX_EXCEL_CELLS:
                raise self._too_large(
                    f"its used range has {frame.height:,} rows and {frame.width:,} columns, more than {limits.MAX_EXCEL_CELLS:,} cells"
                )
            scan = next((scan for scan in self._scans or () if scan.name == name), SheetScan(name))
            columns = [column.absolute_index + 1 for column in sheet.available_columns()]
            cells = _SheetCells(workbook, name, frame, scan, columns)
            frame = cells.exact_text()
        except fastexcel.FastExcelError as error:
            raise (self._protected() if "password" in str(error).lower() else self._unreadable()) from error
        except pl.exceptions.PanicException as error:
            raise self._unreadable() from error
        return self._with_names(frame, cells)

    def _choose_sheet(self, workbook: Any) -> tuple[str, Any]:
        """Return the sheet to read; the others with cells, and hidden ones, are issues."""
        chosen = self._options.sheet
        names: list[str] = workbook.sheet_names
        if chosen is not None and chosen not in names:
            listed = ", ".join(map(repr, names[:20]))
            raise BadInput("UNKNOWN_SHEET", f"{self._filename!r} has no sheet {chosen!r}. Its sheets are: {listed}.")
        filled: dict[str, bool] = {}  # whether it is hidden
        found: tuple[str, Any] | None = None
        hidden_first: tuple[str, Any] | None = None
        empty_scans = {scan.name for scan in self._scans or () if not scan.cell_count}
        for name in names:
            if found is not None and self._scans is not None:
                scan = next((scan for scan in self._scans if scan.name == name), None)
                if scan is not None and scan.first_row is not None:
                    filled[name] = scan.is_hidden
                continue
            if name in empty_scans and name != chosen:
                continue
            try:
                sheet = _load_sheet(workbook, name)
            except fastexcel.FastExcelError:
                if name == chosen or chosen is None:
                    raise
                continue
            if not (sheet.width and sheet.height):
                continue
            filled[name] = sheet.visible != "visible"
            if name == chosen or (chosen is None and not filled[name]):
                found = found or (name, sheet)
            hidden_first = hidden_first or (name, sheet)
        found = found or (hidden_first if chosen is None else None)
        if found is None:
            raise BadInput(
                "EMPTY_FILE",
                f"{self._filename!r} has no sheet with cells. Fill one with a header and rows."
                if chosen is None
                else f"The sheet {chosen!r} of {self._filename!r} has no cells. Name another sheet.",
            )
        self._add_sheet_issues(found[0], {name: hidden for name, hidden in filled.items() if name != found[0]}, is_hidden=filled[found[0]])
        return found

    def _add_sheet_issues(self, name: str, others: dict[str, bool], *, is_hidden: bool) -> None:
        if is_hidden:
            self._layout_issues.add("HIDDEN_SHEET", f"The sheet {name!r}, which was read, is hidden in the workbook.")
        for other, other_is_hidden in others.items():
            code, what = ("HIDDEN_SHEET", "hidden sheet") if other_is_hidden else ("OTHER_SHEET", "sheet")
            advice = "To read it, name it when you upload the file."
            self._layout_issues.add(code, f"The {what} {other!r} was not read; the table is that of the sheet {name!r}. {advice}")

    # -- the table

    def _with_names(self, frame: pl.DataFrame, cells: _SheetCells) -> pl.DataFrame:
        first_rows = [["" if cell is None else str(cell) for cell in row] for row in frame.head(_SAMPLE_ROWS).rows()]
        rows = [_without_empty_end(row) for row in first_rows]
        header_row = self._options.header_row
        if header_row is None:
            skipped = preamble.table_start(rows, lambda rest: is_header(first_rows[len(rows) - len(rest) :]))
            has_header = is_header(first_rows[skipped:])
        else:
            skipped, has_header = max(0, header_row - 1), header_row > 0
            if skipped >= len(rows):
                raise BadInput("HEADER_ONLY", f"{self._filename!r} has no row {header_row} among its first {len(rows):,} rows.")
        preamble.add_issue(self._layout_issues, [" ".join(filter(None, row)) for row in rows[:skipped]])
        if has_header:
            names = clean_names(first_rows[skipped], self._layout_issues)
        else:
            if header_row is None:
                self._layout_issues.add(
                    "NO_HEADER",
                    "The first row looks like data, not like column names; columns are named column_1, column_2 and so on.",
                    row=1,
                )
            names = [f"column_{position}" for position in range(1, frame.width + 1)]
        data_start = skipped + has_header
        frame = frame.slice(data_start)
        if not frame.height:
            raise BadInput(
                "HEADER_ONLY",
                f"{self._filename!r} has a header ({', '.join(name[:40] for name in names[:5])}) and no rows. Add at least one row and upload again.",
            )
        cells.add_issues(self._layout_issues, names, data_start)
        fixed = self._rules.fixed
        self._types = {
            name: DURATION for name, column in zip(names, cells.columns, strict=True) if cells.is_duration(column) and name not in fixed
        }
        return frame.rename(dict(zip(frame.columns, names, strict=True)))


class _SheetCells:
    """The cells of a sheet as fastexcel loads them and as the scan of the file knows them; `columns` are their numbers in the sheet."""

    def __init__(self, workbook: Any, name: str, frame: pl.DataFrame, scan: SheetScan, columns: list[int]) -> None:
        self._workbook = workbook
        self._name = name
        self._frame = frame
        self._scan = scan
        self.columns = columns
        self._first_row = scan.first_row or 1

    def exact_text(self) -> pl.DataFrame:
        """fastexcel writes numbers with at most nine decimals and times of day as dates of 1899; replace those texts."""
        numbers: pl.DataFrame = _load_sheet(self._workbook, self._name, "float").to_polars()
        series = [self._exact_numbers(texts, values) for texts, values in zip(self._frame, numbers, strict=True)]
        if self._scan.long_numbers:
            places: dict[int, list[tuple[int, str]]] = {}
            for (row, column), digits in self._scan.long_numbers.items():
                places.setdefault(column, []).append((row - self._first_row, digits))
            series = [_replaced(texts, places.get(column, [])) for texts, column in zip(series, self.columns, strict=True)]
        if self._scan.times:
            durations: pl.DataFrame = _load_sheet(self._workbook, self._name, "duration").to_polars()
            series = [
                _replaced(texts, self._clock_texts(values, column))
                for texts, values, column in zip(series, durations, self.columns, strict=True)
            ]
        return pl.DataFrame(series)

    @staticmethod
    def _exact_numbers(texts: pl.Series, values: pl.Series) -> pl.Series:
        if values.dtype != pl.Float64 or not values.count():
            return texts
        value, shown = pl.col("value"), pl.col("text").cast(pl.Float64, strict=False)
        checks = pl.DataFrame({"text": texts, "value": values}).select(
            is_rounded=shown.is_not_null() & value.is_not_null() & (shown != value), is_large=value.abs() >= MAX_EXACT_FLOAT
        )
        is_rounded, is_large = checks["is_rounded"], checks["is_large"]
        if is_large.any():
            # A number is written with all digits of the double; a text of digits is rarely one of those.
            large = [
                value is not None and text is not None and text.lstrip("-").isdigit() and int(text) == int(value)
                for text, value in zip(texts, values.set(~is_large.fill_null(value=False), None), strict=True)
            ]
            is_rounded |= pl.Series(large)
        if not is_rounded.fill_null(value=False).any():
            return texts
        indices = is_rounded.fill_null(value=False).arg_true()
        return texts.clone().scatter(indices, pl.Series([repr(value) for value in values.gather(indices)]))

    def _clock_texts(self, values: pl.Series, column: int) -> list[tuple[int, str]]:
        texts: list[tuple[int, str]] = []
        for kind, rows_by_column in self._scan.times.items():
            for row in rows_by_column.get(column, ()):
                index = row - self._first_row
                value = values[index] if 0 <= index < values.len() else None
                # A day number shown as its time alone is still a date with a time.
                if isinstance(value, timedelta) and (kind == "DURATION" or value < 2 * _ONE_DAY):
                    texts.append((index, clock_text(value)))
        return texts

    def is_duration(self, column: int) -> bool:
        """Whether the format of a column's cells says that they are durations, whatever their values."""
        return bool(self._scan.times.get("DURATION", {}).get(column)) and not self._scan.times.get("TIME", {}).get(column)

    def add_issues(self, log: IssueLog, names: list[str], data_start: int) -> None:
        name_by_column = dict(zip(self.columns, names, strict=True))
        for (row, column), code in self._scan.errors:
            place = f"{column_letters(column)}{row}"
            log.add(
                "ERROR_CELL",
                f"The cell {place} has the error {code}; it was treated as missing.",
                column=name_by_column.get(column),
                row=self._data_row(row, data_start),
            )
        log.add_uncounted(self._scan.error_count - len(self._scan.errors))
        unstored: dict[int, list[Cell]] = {}
        for cell in self._scan.unstored:
            unstored.setdefault(cell[1], []).append(cell)
        for column, cells in unstored.items():
            log.add(
                "FORMULA_WITHOUT_VALUE",
                f"{'The cell' if len(cells) == 1 else 'The cells'} {cell_ranges(cells)} {'has a formula' if len(cells) == 1 else 'have formulas'} without "
                "a stored value; treated as missing. Open the file in a spreadsheet program, save it, and upload it again.",
                column=name_by_column.get(column),
                row=self._data_row(cells[0][0], data_start),
            )

    def _data_row(self, row: int, data_start: int) -> int | None:
        number = row - self._first_row - data_start + 1
        return number if number >= 1 else None


def _load_sheet(workbook: Any, name: str, dtype: str = "string") -> Any:
    return workbook.load_sheet(name, header_row=None, dtypes=dtype, skip_whitespace_tail_rows=True)


def _replaced(texts: pl.Series, places: list[tuple[int, str]]) -> pl.Series:
    places = [(index, text) for index, text in places if 0 <= index < texts.len()]
    if not places:
        return texts
    indices, replacements = zip(*places, strict=True)
    return texts.cast(pl.String).clone().scatter(list(indices), pl.Series(replacements, dtype=pl.String))


def _without_empty_end(row: list[str]) -> list[str]:
    end = len(row)
    while end and not row[end - 1].strip():
        end -= 1
    return row[:end]
