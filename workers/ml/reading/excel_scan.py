"""What an .xlsx says about its cells beyond their values: the used range, errors, formulas without values, formats of times, long numbers.

The parts of the ZIP are decompressed once, in chunks that are discarded; sizes in its directory cannot be trusted.
"""

from __future__ import annotations

import html
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from workers.ml import limits

_CELL_REFERENCE = re.compile(rb"<(?:\w+:)?(c|row)\b[^>]*?\br=\"([A-Za-z]{0,7})(\d{1,9})\"")
_CELL_START = re.compile(rb"<(?:\w+:)?c[ >/]")
_LAST_CELL = re.compile(rb"<(?:\w+:)?(?:c|row)[ >/]")
_FILLED = re.compile(rb"<(?:\w+:)?c\b([^>]*[^/>])>\s*(?:<(?:\w+:)?f\b[^>]*(?:/>|>[^<]*</(?:\w+:)?f>))?\s*<(?:\w+:)?(?:v>[^<]|is\b)")
_ERROR = re.compile(rb"<(?:\w+:)?c\b([^>]*\bt=\"e\"[^>]*)>(?:<(?:\w+:)?f\b[^>]*(?:/>|>[^<]*</(?:\w+:)?f>))?<(?:\w+:)?v>([^<]{1,40})")
_UNSTORED = re.compile(
    rb"<(?:\w+:)?c\b([^>]*[^/>])><(?:\w+:)?f\b[^>]*(?:/>|>[^<]*</(?:\w+:)?f>)\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v></(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
_LONG = re.compile(rb"<(?:\w+:)?c\b([^>]*[^/>])>(?:<(?:\w+:)?f\b[^>]*(?:/>|>[^<]*</(?:\w+:)?f>))?<(?:\w+:)?v>(-?\d{16,})(?:\.0*)?</")
_REFERENCE = re.compile(rb"\br=\"([A-Za-z]{1,3})(\d{1,9})\"")
_TEXT_CELL = re.compile(rb"\bt=\"(?:s|str|inlineStr|b|e|d)\"")
_ATTRIBUTE = re.compile(r"([\w:]+)\s*=\s*\"([^\"]*)\"")
_CHUNK_BYTES: Final = 1 << 20
_MAX_PART_BYTES: Final = 8 * limits.MIB  # of the parts that are read whole: the workbook, its relations, its styles
_BUILT_IN_FORMATS: Final = {18: "TIME", 19: "TIME", 20: "TIME", 21: "TIME", 45: "DURATION", 46: "DURATION", 47: "DURATION"}
Cell = tuple[int, int]
"""Row and column of a sheet, from 1."""


class TooLarge(Exception):
    """The reason, for users."""


@dataclass
class SheetScan:
    """`first_row` is the first row with a value. The lists of cells are cut at the maximum of issues, their counts are not."""

    name: str = ""
    is_hidden: bool = False
    rows: int = 0
    columns: int = 0
    cell_count: int = 0
    first_row: int | None = None
    errors: list[tuple[Cell, str]] = field(default_factory=list[tuple[Cell, str]])
    error_count: int = 0
    unstored: list[Cell] = field(default_factory=list[Cell])
    unstored_count: int = 0
    long_numbers: dict[Cell, str] = field(default_factory=dict[Cell, str])
    times: dict[str, dict[int, list[int]]] = field(default_factory=dict[str, dict[int, list[int]]])
    """Rows of the cells with a format of TIME or DURATION, by that type and by column."""

    @property
    def cells(self) -> int:
        """The cost of reading is that of the whole rectangle."""
        return max(self.rows * self.columns, self.cell_count)


@dataclass
class WorkbookScan:
    sheets: list[SheetScan]
    """In the order of the workbook."""


def scan_workbook(path: Path) -> WorkbookScan:
    """Raises TooLarge, and zipfile's and zlib's errors for a damaged archive."""
    uncompressed = 0
    scans: dict[str, SheetScan] = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > 10_000:
            raise TooLarge(f"it has {len(members):,} parts")
        styles = _time_styles(_part(archive, "xl/styles.xml"))
        for member in members:
            is_sheet = member.filename.startswith("xl/worksheets/") and member.filename.endswith(".xml")
            scanner = _SheetScanner(styles)
            with archive.open(member) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    uncompressed += len(chunk)
                    if uncompressed > limits.MAX_EXCEL_UNCOMPRESSED_BYTES:
                        raise TooLarge(
                            f"its {path.stat().st_size / limits.MIB:,.1f} MiB decompress to more than {limits.MAX_EXCEL_UNCOMPRESSED_BYTES // limits.MIB} MiB "
                            f"(in {member.filename!r})"
                        )
                    if is_sheet:
                        scanner.add(chunk)
                        _check_cells(scanner.scan)
            if is_sheet:
                scanner.finish()
                _check_cells(scanner.scan)
                scans[member.filename] = scanner.scan
        return WorkbookScan(_in_order(scans, _part(archive, "xl/workbook.xml"), _part(archive, "xl/_rels/workbook.xml.rels")))


def _check_cells(scan: SheetScan) -> None:
    if scan.cells > limits.MAX_EXCEL_CELLS:
        raise TooLarge(
            f"its used range reaches {scan.rows:,} rows and {scan.columns:,} columns, more than {limits.MAX_EXCEL_CELLS:,} cells"
        )


def _part(archive: zipfile.ZipFile, name: str) -> str:
    try:
        with archive.open(name) as stream:
            return stream.read(_MAX_PART_BYTES).decode("utf-8", "replace")
    except KeyError:
        return ""


def _elements(text: str, name: str) -> list[dict[str, str]]:
    """The attributes of all elements of a name. Only attributes matter here, and a real parser would expand entities."""
    found = re.findall(rf"<(?:\w+:)?{name}\b([^>]*)>", text)
    return [{key: html.unescape(value) for key, value in _ATTRIBUTE.findall(attributes)} for attributes in found]


def _in_order(scans: dict[str, SheetScan], workbook: str, relations: str) -> list[SheetScan]:
    targets = {item.get("Id", ""): item.get("Target", "") for item in _elements(relations, "Relationship")}
    ordered: list[SheetScan] = []
    for sheet in _elements(workbook, "sheet"):
        target = targets.get(next((value for key, value in sheet.items() if key.endswith(":id")), ""), "")
        path = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
        scan = scans.get(path)
        if scan is not None:
            scan.name, scan.is_hidden = sheet.get("name", ""), sheet.get("state", "visible") != "visible"
            ordered.append(scan)
    return ordered


def _time_styles(styles: str) -> dict[bytes, str]:
    """TIME or DURATION by the index of a cell's style."""
    kinds: dict[int, str] = dict(_BUILT_IN_FORMATS)
    for item in _elements(styles, "numFmt"):
        if item.get("numFmtId", "").isdigit():
            kind = format_kind(item.get("formatCode", ""))
            kinds.pop(int(item["numFmtId"]), None)
            if kind is not None:
                kinds[int(item["numFmtId"])] = kind
    section = re.search(r"<(?:\w+:)?cellXfs\b.*?</(?:\w+:)?cellXfs>", styles, re.DOTALL)
    formats = _elements(section.group(), "xf") if section else []
    return {
        str(index).encode(): kinds[int(item["numFmtId"])]
        for index, item in enumerate(formats)
        if item.get("numFmtId", "").isdigit() and int(item["numFmtId"]) in kinds
    }


def format_kind(code: str) -> str | None:
    """Return DURATION or TIME for a number format that shows one (ECMA-376 part 1, 18.8.31), else None."""
    code = re.sub(r"\"[^\"]*\"|\\.|_.|\*.", "", code.split(";", maxsplit=1)[0]).lower()
    if re.search(r"\[(?:h+|m+|s+)\]", code):
        return "DURATION"
    code = re.sub(r"\[[^\]]*\]|am/pm|a/p|general", "", code)
    if re.search("[yd#0?]", re.sub(r"s\.0+", "s", code)) or not re.search("[hs]", code):
        return None
    return "TIME" if "h" in code else "DURATION"  # minutes and seconds alone are no time of day


class _SheetScanner:
    def __init__(self, styles: dict[bytes, str]) -> None:
        self.scan = SheetScan()
        self._styles = styles
        self._styled = re.compile(rb"<(?:\w+:)?c\b([^>]*\bs=\"(" + b"|".join(styles) + rb")\"[^>]*)(?<!/)>") if styles else None
        self._rest = b""

    def add(self, chunk: bytes) -> None:
        text = self._rest + chunk
        cut = len(text)
        for match in _LAST_CELL.finditer(text, max(0, len(text) - 70_000)):
            cut = match.start()
        if cut == 0 or cut == len(text):
            cut = text.rfind(b">") + 1
        self._rest = text[cut:][-131_072:]
        self._scan(text[:cut])

    def finish(self) -> None:
        self._scan(self._rest)
        self._rest = b""

    def _scan(self, text: bytes) -> None:
        scan = self.scan
        for _, letters, digits in _CELL_REFERENCE.findall(text):
            scan.rows = max(scan.rows, int(digits))
            if letters:
                scan.columns = max(scan.columns, _column_number(letters))
        scan.cell_count += len(_CELL_START.findall(text))
        if scan.first_row is None and (match := _FILLED.search(text)) is not None and (cell := _cell_of(match.group(1))) is not None:
            scan.first_row = cell[0]
        self._scan_values(text)

    def _scan_values(self, text: bytes) -> None:
        scan = self.scan
        if b't="e"' in text:
            for attributes, code in _ERROR.findall(text):
                scan.error_count += 1
                if len(scan.errors) < limits.MAX_ISSUES and (cell := _cell_of(attributes)) is not None:
                    scan.errors.append((cell, code.decode("utf-8", "replace")))
        if b"<f" in text or b":f" in text:
            for attributes in _UNSTORED.findall(text):
                scan.unstored_count += 1
                if len(scan.unstored) < 100 * limits.MAX_ISSUES and (cell := _cell_of(attributes)) is not None:
                    scan.unstored.append(cell)
        for attributes, digits in _LONG.findall(text):
            if _TEXT_CELL.search(attributes) is None and (cell := _cell_of(attributes)) is not None:
                scan.long_numbers[cell] = digits.decode()
        if self._styled is not None:
            for attributes, style in self._styled.findall(text):
                if _TEXT_CELL.search(attributes) is None and (cell := _cell_of(attributes)) is not None:
                    scan.times.setdefault(self._styles[style], {}).setdefault(cell[1], []).append(cell[0])


def _cell_of(attributes: bytes) -> Cell | None:
    reference = _REFERENCE.search(attributes)
    return None if reference is None else (int(reference.group(2)), _column_number(reference.group(1)))


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - 64
    return number


def column_letters(number: int) -> str:
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def cell_ranges(cells: list[Cell], most: int = 20) -> str:
    """Describe cells as ranges within columns: C2:C11, D5."""
    ranges: list[list[int]] = []
    for column, row in sorted((column, row) for row, column in cells):
        if ranges and ranges[-1][0] == column and ranges[-1][2] == row - 1:
            ranges[-1][2] = row
        else:
            ranges.append([column, row, row])
    shown = [
        f"{column_letters(column)}{first}" + (f":{column_letters(column)}{last}" if last > first else "")
        for column, first, last in ranges[:most]
    ]
    return ", ".join(shown) + (" and others" if len(ranges) > most else "")
