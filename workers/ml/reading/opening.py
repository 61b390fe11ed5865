"""Opens a file with the reader of its format. All readers follow one rule: what a value is does not depend on its format."""

from __future__ import annotations

from pathlib import Path

from workers.ml.reading.delimited import DelimitedReader
from workers.ml.reading.excel import ExcelReader
from workers.ml.reading.json_array import JsonArrayReader
from workers.ml.reading.jsonlines import JsonLinesReader
from workers.ml.reading.options import ReadingOptions
from workers.ml.reading.parquet import ParquetReader
from workers.ml.reading.raw import RawFile
from workers.ml.reading.sniff import detect_format
from workers.ml.reading.table_reader import ProgressCallback, TableReader

_TEXT_READERS = {"JSON": JsonArrayReader, "JSONL": JsonLinesReader, "CSV": DelimitedReader}


def open_reader(
    raw: RawFile, filename: str, progress: ProgressCallback, options: ReadingOptions | None = None, folder: Path | None = None
) -> tuple[str, TableReader]:
    """Return the FileFormat and the reader. The files of an archive are unpacked into `folder`, or else beside it.

    Raises BadInput with the codes of `detect_format` and of the readers.
    """
    options = options or ReadingOptions()
    format_name, encoding = detect_format(raw, filename, options.encoding)
    if format_name == "PARQUET":
        return format_name, ParquetReader(raw, filename, progress, options.text_rules())
    if format_name == "ZIP":
        return format_name, ParquetReader(raw, filename, progress, options.text_rules(), folder or raw.path.parent)
    if format_name == "EXCEL":
        return format_name, ExcelReader(raw, filename, progress, options)
    assert encoding is not None  # all other formats are text
    return format_name, _TEXT_READERS[format_name](raw, encoding, filename, progress, options)
