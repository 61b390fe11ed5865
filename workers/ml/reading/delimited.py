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
from workers.ml.reading.marks import Mark
from workers.ml.reading.names import check_width, clean_names
from workers.ml.reading.raw import RawFile
from workers.ml.reading.records import CleanBlock, RecordChecker
from workers.ml.reading.table import Progress
from workers.ml.reading.text_types import TextType, types_restored, types_state
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
        self._rows = 0  # of this pass, those left out not counted
        self._left: Mark | None = None
        self._after: Mark | None = None
        self.issues = IssueLog()

    def frames(self) -> Iterator[pl.DataFrame]:
        dialect = self._layout.dialect
        left, self._left = self._left, None
        self._rows, self._row_issues = (left["rows"], IssueLog.restored(left["row_issues"])) if left else (0, IssueLog())
        typist = self._typist = Typist(self.names, self._types, has_decimal_comma=dialect.delimiter != b",")
        checker = RecordChecker(dialect, self.names, self._row_issues)
        source = Transcoder(self._encoding)
        if left:
            typist.restore(left["typist"])
            checker.go_on(left["checker"])
            source.go_on(left["source"])
        step = "checking and typing" if self._types is None else "typing again"
        for block, after in ahead(self._blocks(source, checker)):
            self._after = after
            frame = self._parse(block)
            self._rows += block.row_count
            rows = self._rows
            yield typist.typed(frame, block.number)
            self._progress(self._raw.share_read, f"{step}, {rows:,} rows")
        checker.finish()
        if not self._rows:
            raise BadInput("HEADER_ONLY", f"{self._filename!r} has a header and no rows. Add at least one row and upload again.")

    def mark(self) -> Mark | None:
        if self._after is None or self._typist is None:
            return None
        return {
            **self._after,
            "rows": self._rows,
            "row_issues": self._row_issues.state(*self._after["checker"]["issues"]),  # the check is ahead of the frames
            "typist": self._typist.state(),
            "types": types_state(self._types),
            "remarks": self._remarks.state(),
        }

    def go_on(self, mark: Mark) -> None:
        self._left = mark
        self._types = types_restored(mark["types"])
        self._remarks = IssueLog.restored(mark["remarks"])

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

    def _blocks(self, source: Transcoder, checker: RecordChecker) -> Iterator[tuple[CleanBlock, Mark | None]]:
        """Each with where source and checker stand after it."""
        is_header_due = self._layout.header is not None and source.position == 0
        held = b""
        for block in source.blocks(self._raw.blocks(start=source.position)):
            text = block.replace(b"\r", b"\n") if self._has_only_returns else block
            if is_header_due:
                text = held + text
                if len(text) < limits.SAMPLE_BYTES and self._raw.position < self._raw.size:
                    held = text
                    continue
                text = text[first_record_end(text, self._layout.dialect) :]
                is_header_due = False
            if (clean := checker.feed(text)) is not None:
                yield clean, _place(source, checker)
        if (clean := checker.feed(b"", is_end=True)) is not None:
            yield clean, _place(source, checker)

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


def _place(source: Transcoder, checker: RecordChecker) -> Mark | None:
    checked = checker.mark()
    return None if checked is None else {"source": source.mark(), "checker": checked}
