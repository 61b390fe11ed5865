"""Every bound that reading a stranger's file respects, in one place: what lies beyond is named to its owner, never attempted."""

from __future__ import annotations

from typing import Final

MIB: Final = 1 << 20

MAX_COLUMNS: Final = 2_000
"""Columns of a table."""

MAX_NAME_LENGTH: Final = 200
"""Characters of a column's name; longer ones are cut."""

MAX_ISSUES: Final = 1_000
"""Issues that are kept word for word; the rest are only counted."""

BLOCK_BYTES: Final = 8 * MIB
"""Text is read, checked and parsed this many bytes at a time: the unit of memory for a file of any size."""

SAMPLE_BYTES: Final = 256 * 1024
"""Bytes from which encoding, delimiter, quote and header are told."""

MAX_RECORD_BYTES: Final = 4 * MIB
"""One row of a text file, quoted line breaks included. A quote still open after this many bytes is a stray one."""

MAX_RAGGED_SHARE: Final = 0.10
RAGGED_ROWS_ALLOWED: Final = 10
"""A delimited file fails when more than this share of its rows, and more than this many, have the wrong number of fields."""

EARLY_ABORT_ROWS: Final = 1_000
"""A file of which more than half of the first thousand rows are ragged or unreadable fails at once."""

MAX_MISFIT_SHARE: Final = 0.01
"""A column keeps its type while at most this share of its values does not fit; those become missing, each named."""

MIN_PROPOSAL_SHARE: Final = 0.90
"""A type is tried on the whole file when this share of the first block fits it."""

MAX_JSON_DOCUMENT_BYTES: Final = 32 * MIB
"""A JSON document that is one object has to be held as a whole; arrays and lines of objects are streamed."""

MAX_EXCEL_BYTES: Final = 64 * MIB
"""Size of an Excel file."""

MAX_EXCEL_UNCOMPRESSED_BYTES: Final = 512 * MIB
"""All members of an .xlsx after decompression, counted while they unfold."""

MAX_EXCEL_CELLS: Final = 10_000_000
"""Rows times columns of the sheet's used range, empty cells included."""

MAX_PARQUET_DECODED_BYTES: Final = 1024 * MIB
MAX_PARQUET_DECODED_RATIO: Final = 200
"""A Parquet file may unfold to the larger of this many bytes and this many times its size."""

MAX_CELL_BYTES: Final = 16 * MIB
"""One value of a Parquet or JSON file."""

ROW_GROUP_BYTES: Final = 64 * MIB
ROW_GROUP_ROWS: Final = 262_144
"""A row group of the Parquet we write holds at most about this much."""

PREVIEW_ROWS: Final = 100
PREVIEW_TEXT_LENGTH: Final = 1_000
PREVIEW_BYTES: Final = 1 * MIB
"""The preview: rows, characters of one text, bytes of all of it as JSON."""

MAX_EXACT_PROFILE_ROWS: Final = 5_000_000
"""Profiles are exact up to here; above, distinct counts, quantiles, top values and duplicates are sketches."""

MAX_CORRELATION_COLUMNS: Final = 100
"""Pearson correlations cover this many numeric columns, the first in file order."""

MAX_CATEGORY_VALUES: Final = 1_000
MIN_CATEGORY_REPEATS: Final = 5
"""A text column is a CATEGORY when it has at most this many different values, each met this often on average."""
