"""Reader for delimited text of any size: transcodes, checks, parses and types it in blocks of 8 MiB."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import polars as pl
import pyarrow as pa
import pyarrow.csv

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading import preamble
from workers.ml.reading.column_names import check_width, clean_names
from workers.ml.reading.decimal_marks import DecimalMark
from workers.ml.reading.encodings import Encoding, Transcoder, sanitize_utf8
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.layout import Layout, detect_layout, first_record_end
from workers.ml.reading.options import ReadingOptions
from workers.ml.reading.prefetch import prefetch
from workers.ml.reading.raw import RawFile
from workers.ml.reading.reader_state import ReaderState
from workers.ml.reading.record_checker import CleanBlock, RecordChecker
from workers.ml.reading.table_reader import ProgressCallback
from workers.ml.reading.text_types import TextType, types_from_state, types_to_state
from workers.ml.reading.type_inference import TypeInference


class DelimitedReader:
    """Reads CSV in any dialect. Blank lines are skipped and not counted as rows.

    `frames` raises BadInput: HEADER_ONLY, RAGGED_ROWS, ROW_TOO_LONG, UNREADABLE_FILE.
    """

    def __init__(
        self, raw: RawFile, encoding: Encoding, filename: str, progress: ProgressCallback, options: ReadingOptions | None = None
    ) -> None:
        """Detect the layout from a sample. Raises BadInput: EMPTY_FILE, HEADER_ONLY, TOO_MANY_COLUMNS."""
        self._raw = raw
        self._encoding = encoding
        self._filename = filename
        self._progress = progress
        self._name_issues = IssueLog()
        sample, self._has_only_returns, is_whole = self._sample()
        self._check_first_line(sample)
        options = options or ReadingOptions()
        self._has_guessed_header = options.header_row is None
        self._layout: Layout = detect_layout(
            sample,
            filename,
            is_whole=is_whole,
            delimiter=None if options.delimiter is None else options.delimiter.encode(),
            header_row=options.header_row,
        )
        if self._layout.row_count == 0 and options.header_row:
            raise BadInput(
                "HEADER_ONLY", f"{filename!r} has no row {options.header_row} to take the names from, or none after it. Name another row."
            )
        if self._layout.row_count == 0:
            raise BadInput("EMPTY_FILE", f"{filename!r} holds no rows. Upload a file with a header and at least one row.")
        self._check_rows(is_whole=is_whole)
        self.names = self._names()
        self._rules = options.text_rules(self._layout.dialect.delimiter.decode())
        self._types: dict[str, TextType] | None = None
        self._column_issues = IssueLog()
        self._type_inference: TypeInference | None = None
        self._source = Transcoder(encoding)
        self._row_issues = IssueLog()
        self._row_count = 0  # of this pass, without omitted rows
        self._resume_state: ReaderState | None = None
        self._block_state: ReaderState | None = None
        self.issues = IssueLog()

    def frames(self) -> Iterator[pl.DataFrame]:
        dialect = self._layout.dialect
        state, self._resume_state = self._resume_state, None
        self._row_count, self._row_issues = (state["rows"], IssueLog.from_state(state["row_issues"])) if state else (0, IssueLog())
        type_inference = self._type_inference = TypeInference(self.names, self._types, self._rules)
        checker = RecordChecker(dialect, self.names, self._row_issues)
        source = self._source = Transcoder(self._encoding)
        if state:
            type_inference.restore(state["typist"])
            checker.restore(state["checker"])
            source.restore(state["source"])
        step = "Read" if self._types is None else "Read again"
        blocks = self._blocks(source, checker)
        for block, block_state in prefetch(blocks) if self._raw.size > limits.BLOCK_BYTES else blocks:
            self._block_state = block_state
            frame = self._parse(block)
            self._row_count += block.row_count
            row_count = self._row_count
            yield type_inference.convert(frame, block.row_number)
            self._progress(self._raw.share_read, f"{step}: {row_count:,} rows")
        checker.finish()
        if not self._row_count:
            raise BadInput("HEADER_ONLY", f"{self._filename!r} has a header and no rows. Add at least one row and upload again.")

    def state(self) -> ReaderState | None:
        if self._block_state is None or self._type_inference is None:
            return None
        return {
            **self._block_state,
            "rows": self._row_count,
            "row_issues": self._row_issues.state(*self._block_state["checker"]["issues"]),  # the checker is ahead of the frames
            "typist": self._type_inference.state(),
            "types": types_to_state(self._types),
            "remarks": self._column_issues.state(),
        }

    def resume_from(self, state: ReaderState) -> None:
        self._resume_state = state
        self._types = types_from_state(state["types"])
        if state["typist"]["mark"] is not None:
            self._rules = replace(self._rules, mark=DecimalMark.from_state(state["typist"]["mark"]))
        self._column_issues = IssueLog.from_state(state["remarks"])

    def needs_another_pass(self) -> bool:
        assert self._type_inference is not None  # a pass came first
        self._column_issues.extend(self._type_inference.column_issues())
        revised = self._type_inference.revised_types()
        if revised is not None:
            self._types = revised
            self._rules = replace(self._rules, mark=self._type_inference.mark)
            return True
        self.issues = IssueLog()
        self._source.add_issue(self.issues)
        for log in (
            self._name_issues,
            self._row_issues,
            self._column_issues,
            self._type_inference.mark_issues(),
            self._type_inference.issues(),
        ):
            self.issues.extend(log)
        return False

    def column_types(self) -> dict[str, str]:
        assert self._type_inference is not None  # a pass came first
        return {name: kind.name for name, kind in self._type_inference.types().items()}

    # -- layout

    def _sample(self) -> tuple[bytes, bool, bool]:
        head = self._raw.head(limits.SAMPLE_BYTES)
        is_whole = len(head) == self._raw.size
        text = b"".join(Transcoder(self._encoding).blocks(iter([head])))
        sample, _ = sanitize_utf8(text if is_whole else text[: max(text.rfind(b"\n") + 1, text.rfind(b"\r") + 1) or len(text)])
        only_returns = b"\r" in sample and b"\n" not in sample
        return (sample.replace(b"\r", b"\n") if only_returns else sample), only_returns, is_whole

    @staticmethod
    def _check_first_line(sample: bytes) -> None:
        """Reject a first line with very many fields before anything parses it."""
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
        preamble.add_issue(self._name_issues, list(layout.preamble))
        if layout.has_spaced_columns:
            self._name_issues.add(
                "ONE_COLUMN",
                "The table was read as one column. Its rows look like columns of fixed width, or between spaces: write them between commas, "
                "semicolons or tabs and upload the file again.",
            )
        if layout.header is None:
            if self._has_guessed_header:
                self._name_issues.add(
                    "NO_HEADER",
                    "The first row looks like data, not like column names; columns are named column_1, column_2 and so on.",
                    row=1,
                )
            return [f"column_{position}" for position in range(1, layout.width + 1)]
        return clean_names(layout.header + [""] * (layout.width - len(layout.header)), self._name_issues)

    # -- blocks

    def _blocks(self, source: Transcoder, checker: RecordChecker) -> Iterator[tuple[CleanBlock, ReaderState | None]]:
        """Yield clean blocks, each with the state of source and checker after it."""
        is_header_due = (self._layout.header is not None or bool(self._layout.preamble)) and source.position == 0
        pending = b""
        for block in source.blocks(self._raw.blocks(start=source.position)):
            text = block.replace(b"\r", b"\n") if self._has_only_returns else block
            if is_header_due:
                text = pending + text
                if len(text) < limits.SAMPLE_BYTES and self._raw.position < self._raw.size:
                    pending = text
                    continue
                text = _after_lines(text, len(self._layout.preamble))
                if self._layout.header is not None:
                    text = text[first_record_end(text, self._layout.dialect) :]
                is_header_due = False
            if (clean_block := checker.feed(text)) is not None:
                yield clean_block, _source_state(source, checker)
        if (clean_block := checker.feed(b"", is_end=True)) is not None:
            yield clean_block, _source_state(source, checker)

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
        # The checker's row count is authoritative. If polars counts otherwise, parse again with Arrow.
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
                f"The rows from row {block.first_row} on cannot be separated: {block.row_count} were counted and {table.num_rows} parsed. Check the quoting there.",
                row=block.first_row,
            )
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)  # from_arrow makes a DataFrame of a Table
        return frame


def _after_lines(text: bytes, count: int) -> bytes:
    position = 0
    for _ in range(count):
        position = text.find(b"\n", position) + 1
    return text[position:]


def _source_state(source: Transcoder, checker: RecordChecker) -> ReaderState | None:
    checker_state = checker.state()
    return None if checker_state is None else {"source": source.state(), "checker": checker_state}
