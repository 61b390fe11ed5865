"""All limits on reading untrusted files. A file beyond a limit is rejected with an error that names the limit."""

from __future__ import annotations

from typing import Final

MIB: Final = 1 << 20

MAX_COLUMNS: Final = 2_000
"""Columns in a table."""

MAX_NAME_LENGTH: Final = 200
"""Characters in a column name; longer names are truncated."""

MAX_ISSUES: Final = 1_000
"""Issues stored with their message; further issues are only counted."""

BLOCK_BYTES: Final = 8 * MIB
"""Block size for reading, checking and parsing text; bounds memory for files of any size."""

SAMPLE_BYTES: Final = 256 * 1024
"""Bytes at the start of the file from which encoding, delimiter, quote and header are detected."""

MAX_RECORD_BYTES: Final = 4 * MIB
"""One row of a text file, including quoted line breaks. A quote still open after this many bytes is treated as literal text."""

MAX_RAGGED_SHARE: Final = 0.10
RAGGED_ROWS_ALLOWED: Final = 10
"""A delimited file is rejected when both more than this share and more than this number of its rows have the wrong field count."""

EARLY_ABORT_ROWS: Final = 1_000
"""Reading aborts when more than half of the first thousand rows are ragged or unreadable."""

MAX_MISFIT_SHARE: Final = 0.01
"""A column keeps its type if at most this share of its values fails to parse; each such value becomes missing and is reported."""

MIN_PROPOSAL_SHARE: Final = 0.90
"""A type is proposed for a column when at least this share of the values in the first block parses as it."""

MAX_JSON_DOCUMENT_BYTES: Final = 32 * MIB
"""A JSON document that is a single object is loaded into memory; arrays and JSON lines are streamed."""

MAX_EXCEL_BYTES: Final = 64 * MIB
"""Size of an Excel file."""

MAX_EXCEL_UNCOMPRESSED_BYTES: Final = 512 * MIB
"""Total size of all members of an .xlsx, counted while decompressing."""

MAX_EXCEL_CELLS: Final = 10_000_000
"""Rows times columns of the sheet's used range, including empty cells."""

MAX_PARQUET_DECODED_BYTES: Final = 1024 * MIB
MAX_PARQUET_DECODED_RATIO: Final = 200
"""A Parquet file may decode to at most this many bytes or this multiple of its size, whichever is larger."""

MAX_CELL_BYTES: Final = 16 * MIB
"""One value in a Parquet or JSON file."""

ROW_GROUP_BYTES: Final = 64 * MIB
ROW_GROUP_ROWS: Final = 262_144
"""A row group is written once it reaches either size."""

PREVIEW_ROWS: Final = 100
PREVIEW_TEXT_LENGTH: Final = 1_000
PREVIEW_BYTES: Final = 1 * MIB
"""Limits of the preview: rows, characters per text, bytes of the whole as JSON."""

MAX_EXACT_PROFILE_ROWS: Final = 5_000_000
"""Rows up to which a profile is exact; above, distinct counts, quantiles, top values and duplicates are estimated by sketches."""

MAX_CORRELATION_COLUMNS: Final = 100
"""Pearson correlations cover only this many numeric columns, the first in file order."""

MAX_CATEGORY_VALUES: Final = 1_000
MIN_CATEGORY_REPEATS: Final = 5
"""A text column is a CATEGORY when it has at most this many distinct values, each occurring at least this often on average."""
