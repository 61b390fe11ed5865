"""File format detection: by content first, by name second."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final

import orjson

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading.archives import foreign_ole, foreign_zip
from workers.ml.reading.encodings import Encoding, detect_encoding, given_encoding
from workers.ml.reading.issues import short_repr
from workers.ml.reading.parquet_folder import has_parquet_files
from workers.ml.reading.raw import RawFile

READABLE: Final = "CSV and other delimited text, JSON, JSON lines, Parquet and Excel (.xlsx, .xls)"

# (offset, magic number, name for users)
_MAGIC_NUMBERS: Final[list[tuple[int, bytes, str]]] = [
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF87a", "a GIF image"),
    (0, b"GIF89a", "a GIF image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (8, b"WEBP", "a WebP image"),
    (8, b"WAVE", "a WAV recording"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\0", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x93NUMPY", "a NumPy array (.npy)"),
    (0, b"MATLAB 5.0 MAT-file", "a MATLAB file (.mat)"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (or a MATLAB 7.3 file)"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"ARROW1\0", "an Arrow IPC (Feather) file"),
    (0, b"FEA1", "a Feather file"),
    (0, b"ORC", "an ORC file"),
    (0, b"Obj\x01", "an Avro file"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ\x90\0", "a program"),
    (0, b"\x80\x03", "a Python pickle"),
    (0, b"\x80\x04\x95", "a Python pickle"),
    (0, b"\x80\x05\x95", "a Python pickle"),
    (0, b"OggS", "an Ogg recording"),
    (0, b"fLaC", "a FLAC recording"),
    (0, b"ID3", "an MP3 recording"),
    (4, b"ftyp", "an MP4 video"),
    (0, b"<?xml", "an XML document"),
    (0, b"<!DOCTYPE", "an HTML page"),
    (0, b"<!doctype", "an HTML page"),
    (0, b"<html", "an HTML page"),
]
# (beginning of the text in lower case, name for users)
_TEXT_KINDS: Final[list[tuple[str, str]]] = [
    ("<?xml", "an XML document"),
    ("<!doctype", "an HTML page"),
    ("<html", "an HTML page"),
    ("<!--", "an HTML page or an XML document"),
    ("<svg", "an SVG image"),
    ("{\\rtf", "a rich text document"),
    ("%!ps", "a PostScript document"),
    ("@relation", "an ARFF file"),
    ("begin:vcard", "a vCard"),
    ("begin:vcalendar", "a calendar"),
    ("-----begin ", "a key or a certificate"),
    ("version https://git-lfs.github.com/spec/", "a pointer of Git LFS to the file"),
    ("#!/", "a program"),
]
_BLANK: Final = "\ufeff\u200b\u2060\0 \t\r\n"
_DELIMITERS: Final = ",;|\"'"
_TAG: Final = re.compile(r"</?[a-z!?][^<>]*>")
_ELEMENT: Final = re.compile(r"<([a-z]\w*)\b[^<>]*>.*</\1>")
_YAML_ROW: Final = re.compile(r"(?:- |  +)[\w.-]+:(?: |$)")
# "C 1" in EBCDIC begins the textual header of a SEG-Y file (SEG Technical Standards, rev 2.0, section 4).
_SEGY: Final = b"\xc3\x40\xf1"


def detect_format(raw: RawFile, filename: str, given: str | None = None) -> tuple[str, Encoding | None]:
    """Return the FileFormat, and the encoding if it is a text format, `given` if the user chose one.

    Raises BadInput: EMPTY_FILE, UNREADABLE_FILE (truncated or encrypted Parquet), UNSUPPORTED_FORMAT (with the detected format), BINARY_FILE.
    """
    if raw.size == 0:
        raise BadInput("EMPTY_FILE", f"{filename!r} is empty: it has 0 bytes. Upload a file with a header and at least one row.")
    head = raw.head(limits.SAMPLE_BYTES)
    if (container := _detect_container(raw, head, filename)) is not None:
        return container, None
    for offset, magic, name in _MAGIC_NUMBERS:
        if head[offset : offset + len(magic)] == magic:
            raise _unsupported_format(filename, name)
    if head.startswith(_SEGY):
        raise _unsupported_format(filename, "a SEG-Y file")
    encoding = detect_encoding(head, is_whole=len(head) == raw.size) if given is None else given_encoding(given, head)
    if encoding is None:
        raise BadInput(
            "BINARY_FILE", f"{filename!r} is not text: it begins with binary data of no known table format. Supported are {READABLE}."
        )
    text = encoding.decode(head)
    if not text.strip(_BLANK + _DELIMITERS) and len(head) == raw.size and text.strip(_BLANK):
        raise BadInput(
            "EMPTY_FILE",
            f"{filename!r} contains only delimiters ({short_repr(text.strip(_BLANK)[:20])}) and no cell. Upload a file with a header and at least one row.",
        )
    if not text.strip(_BLANK):
        if len(head) == raw.size:
            raise BadInput("EMPTY_FILE", f"{filename!r} contains only blank lines. Upload a file with a header and at least one row.")
        raise BadInput("BINARY_FILE", f"{filename!r} begins with {len(head):,} blank or zero bytes. Supported are {READABLE}.")
    return _detect_text_format(text, filename, is_whole=len(head) == raw.size), encoding


def _detect_container(raw: RawFile, head: bytes, filename: str) -> str | None:
    """Return PARQUET or EXCEL, or None. Raises BadInput: UNREADABLE_FILE, UNSUPPORTED_FORMAT."""
    is_workbook_size = raw.size <= limits.MAX_EXCEL_BYTES
    if head.startswith(b"PARE") or (head.startswith(b"PAR1") and raw.tail(4) == b"PARE"):
        raise BadInput("UNREADABLE_FILE", f"{filename!r} is encrypted Parquet. Write it without encryption and upload it.")
    if head.startswith(b"PAR1"):
        if raw.size < 12 or raw.tail(4) != b"PAR1":
            raise BadInput(
                "UNREADABLE_FILE", f"{filename!r} begins like Parquet but its end is missing: the file is truncated. Upload all of it."
            )
        return "PARQUET"
    if head.startswith(b"PK\x03\x04"):
        if has_parquet_files(raw.path):
            return "ZIP"
        if is_workbook_size and (foreign := foreign_zip(raw.path)) is not None:
            raise _unsupported_format(filename, *foreign)
        if b"xl/" in head or b"[Content_Types].xml" in head or PurePath(filename).suffix.lower() in {".xlsx", ".xlsm"}:
            return "EXCEL"
        raise _unsupported_format(filename, "a ZIP archive", "Unpack it and upload the table inside.")
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        if is_workbook_size and (found := foreign_ole(raw.path)) is not None:
            raise _unsupported_format(filename, found)
        return "EXCEL"
    return None


def _detect_text_format(text: str, filename: str, *, is_whole: bool) -> str:
    body = text.lstrip()
    suffix = PurePath(filename).suffix.lower()
    _check_markup(body, filename)
    if body.startswith("["):
        inner = body[1:].lstrip()
        if _are_array_lines(body, is_whole=is_whole):
            return "JSONL"
        if suffix in {".jsonl", ".ndjson"}:
            return "JSONL" if body.partition("\n")[0].rstrip().endswith("]") else "JSON"
        return "JSON" if suffix == ".json" or (inner[:1] in {"{", "]", "["} and _is_plausible_json(suffix, inner)) else "CSV"
    if not body.startswith("{"):
        # With a JSON extension, let the JSON reader report what is wrong.
        return {".json": "JSON", ".jsonl": "JSONL", ".ndjson": "JSONL"}.get(suffix, "CSV")
    first, newline, rest = body.partition("\n")
    is_first_whole = bool(newline) or is_whole
    if is_first_whole and _is_object(first):
        return "JSON" if not rest.strip() and is_whole and suffix != ".jsonl" else "JSONL"
    if suffix in {".csv", ".tsv", ".txt"} and not body[1:].lstrip().startswith('"'):
        return "CSV"
    return "JSONL" if suffix in {".jsonl", ".ndjson"} else "JSON"


def _check_markup(body: str, filename: str) -> None:
    """Refuse text of other kinds, which would make a nonsense table. Raises BadInput (UNSUPPORTED_FORMAT)."""
    start = body[:4_096].lower()
    for opening, name in _TEXT_KINDS:
        if start.startswith(opening):
            raise _unsupported_format(filename, name)
    # One line in brackets may be a header (<DATE>,<OPEN>); several are markup.
    rows = [line.rstrip() for line in start.split("\n") if line.strip()][:3]
    lines = [row.strip() for row in rows]
    if (len(lines) > 1 and all(_TAG.match(line) for line in lines)) or (len(lines) == 1 and _ELEMENT.fullmatch(lines[0])):
        raise _unsupported_format(filename, "an HTML page or an XML document")
    if PurePath(filename).suffix.lower() in {".yaml", ".yml"} or (
        len(rows) > 1 and rows[0].startswith("- ") and all(map(_YAML_ROW.match, rows))
    ):
        raise _unsupported_format(filename, "a YAML document")


def _are_array_lines(body: str, *, is_whole: bool) -> bool:
    """Whether the first two lines are a JSON array each."""
    lines = body.split("\n", 2)
    if len(lines) < 2 or not lines[1].strip() or (len(lines) == 2 and not is_whole):
        return False
    try:
        return all(isinstance(orjson.loads(line), list) for line in lines[:2])
    except orjson.JSONDecodeError:
        return False


def _is_plausible_json(suffix: str, inner: str) -> bool:
    return suffix not in {".csv", ".tsv"} or inner[:1] == "{"


def _is_object(line: str) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _unsupported_format(filename: str, name: str, advice: str | None = None) -> BadInput:
    return BadInput("UNSUPPORTED_FORMAT", f"{filename!r} looks like {name}, not like a table. {advice or f'Supported are {READABLE}.'}")
