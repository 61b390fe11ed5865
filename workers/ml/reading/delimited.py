"""Delimited text of any size: transcoded, checked, parsed and typed in blocks of 8 MiB."""

from __future__ import annotations

import io
from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.csv

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading.ahead import ahead
from workers.ml.reading.dialect import Layout, detect, first_record_end
from workers.ml.reading.encodings import Encoding, Transcoder, mend
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.names import check_width, clean_names
from workers.ml.reading.raw import RawFile
from workers.ml.reading.records import CleanBlock, RecordChecker
from workers.ml.reading.table import Progress
from workers.ml.reading.text_types import TextType
from workers.ml.reading.typist import Typist


class DelimitedReader:
    """CSV in its many forms. Blank lines are skipped and not counted as rows."""

    def __init__(self, raw: RawFile, encoding: Encoding, filename: str, progress: Progress) -> None:
        """Reads the layout from the first block. Raises BadInput: EMPTY_FILE, HEADER_ONLY, TOO_MANY_COLUMNS, ROW_TOO_LONG."""
        self._raw = raw
        self._encoding = encoding
        self._filename = filename
        self._progress = progress
        self._name_issues = IssueLog()
        sample, self._has_only_returns, is_whole = self._sample()
        self._check_first_line(sample)
        self._layout: Layout = detect(sample, filename, is_whole=is_whole)
        if self._layout.row_count == 0:
            raise BadInput("EMPTY_FILE", f"{filename!r} holds no rows. Upload a file with a header and at least one row.")
        self._check_rows(is_whole=is_whole)
        self.names = self._names()
        self._types: dict[str, TextType] | None = None
        self._remarks = IssueLog()
        self._typist: Typist | None = None
        self._row_issues = IssueLog()
        self.issues = IssueLog()

    def frames(self) -> Iterator[pl.DataFrame]:
        dialect = self._layout.dialect
        self._row_issues = IssueLog()
        typist = self._typist = Typist(self.names, self._types, has_decimal_comma=dialect.delimiter != b",")
        checker = RecordChecker(dialect, self.names, self._row_issues)
        step = "checking and typing" if self._types is None else "typing again"
        rows = 0
        for block in ahead(self._blocks(checker)):
            frame = self._parse(block)
            rows += block.row_count
            yield typist.typed(frame, block.number)
            self._progress(self._raw.share_read, f"{step}, {rows:,} rows")
        checker.finish()
        if not rows:
            raise BadInput("HEADER_ONLY", f"{self._filename!r} has a header and no rows. Add at least one row and upload again.")

    def must_repeat(self) -> bool:
        assert self._typist is not None  # a pass came first
        self._remarks.extend(self._typist.remarks())
        revised = self._typist.revised()
        if revised is not None:
            self._types = revised
            return True
        self.issues = IssueLog()
        for log in (self._name_issues, self._row_issues, self._remarks, self._typist.issues()):
            self.issues.extend(log)
        return False

    def column_types(self) -> dict[str, str]:
        assert self._typist is not None  # a pass came first
        return {name: kind.name for name, kind in self._typist.types().items()}

    # -- layout

    def _sample(self) -> tuple[bytes, bool, bool]:
        head = self._raw.head(limits.SAMPLE_BYTES)
        is_whole = len(head) == self._raw.size
        text = b"".join(Transcoder(self._encoding).blocks(iter([head])))
        sample, _ = mend(text if is_whole else text[: max(text.rfind(b"\n") + 1, text.rfind(b"\r") + 1) or len(text)])
        only_returns = b"\r" in sample and b"\n" not in sample
        return (sample.replace(b"\r", b"\n") if only_returns else sample), only_returns, is_whole

    @staticmethod
    def _check_first_line(sample: bytes) -> None:
        """A first line of many thousand fields is refused before anything parses it."""
        line = sample[: sample.find(b"\n")] if b"\n" in sample else sample
        widest = max(line.count(delimiter) for delimiter in (b",", b";", b"\t", b"|"))
        if widest > 20 * limits.MAX_COLUMNS:
            check_width(widest + 1, is_at_least=b"\n" not in sample)

    def _check_rows(self, *, is_whole: bool) -> None:
        layout = self._layout
        check_width(layout.width)
        if layout.header is not None and layout.row_count == 1 and is_whole:
            names = ", ".join(name if len(name) <= 40 else f"{name[:40]}…" for name in layout.header[:5])
            raise BadInput("HEADER_ONLY", f"{self._filename!r} has a header ({names}) and no rows. Add at least one row and upload again.")

    def _names(self) -> list[str]:
        layout = self._layout
        if layout.header is None:
            self._name_issues.add(
                "NO_HEADER", "The first row looks like data, not like names; columns are named column_1, column_2 and so on.", row=1
            )
            return [f"column_{position}" for position in range(1, layout.width + 1)]
        return clean_names(layout.header + [""] * (layout.width - len(layout.header)), self._name_issues)

    # -- blocks

    def _blocks(self, checker: RecordChecker) -> Iterator[CleanBlock]:
        is_header_due = self._layout.header is not None
        held = b""
        for block in Transcoder(self._encoding).blocks(self._raw.blocks()):
            text = block.replace(b"\r", b"\n") if self._has_only_returns else block
            if is_header_due:
                text = held + text
                if len(text) < limits.SAMPLE_BYTES and self._raw.position < self._raw.size:
                    held = text
                    continue
                text = text[first_record_end(text, self._layout.dialect) :]
                is_header_due = False
            if (clean := checker.feed(text)) is not None:
                yield clean
        if (clean := checker.feed(b"", is_end=True)) is not None:
            yield clean

    def _parse(self, block: CleanBlock) -> pl.DataFrame:
        dialect = self._layout.dialect
        quote = dialect.quote.decode() if block.has_quoting else None
        frame = pl.read_csv(
            io.BytesIO(block.data),
            has_header=False,
            schema=dict.fromkeys(self.names, pl.String()),
            separator=dialect.delimiter.decode(),
            quote_char=quote,
            raise_if_empty=False,
        )
        if frame.height == block.row_count:
            return frame
        # The check knows the number of rows; a parser that counts otherwise is not believed.
        table = pyarrow.csv.read_csv(
            pa.BufferReader(block.data),
            read_options=pyarrow.csv.ReadOptions(column_names=self.names, block_size=len(block.data) + 1),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=dialect.delimiter.decode(),
                quote_char=quote or False,
                newlines_in_values=True,
                ignore_empty_lines=False,
            ),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(self.names, pa.string())),
        )
        if table.num_rows != block.row_count:
            raise BadInput(
                "UNREADABLE_FILE",
                f"The rows after row {block.first_row} cannot be told apart: {block.row_count} were counted and {table.num_rows} parsed. Check the quoting there.",
                row=block.first_row,
            )
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)  # a table is a frame
        return frame
