"""Concatenation of Parquet files with the same schema: column chunks are copied as bytes, only the footer is rewritten.

The footer (FileMetaData in parquet.thrift) uses Thrift's compact protocol. It is parsed as numbered fields, so that everything a writer
put there is preserved; only offsets, row counts and ordinals of row groups change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

MAGIC: Final = b"PAR1"
_FOOTER_TAIL_BYTES: Final = 8  # length of the footer, then the magic number
_COPY_BYTES: Final = 4 * 1024**2

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET = range(1, 11)
_STRUCT: Final = 12
_INTEGERS = frozenset({_I16, _I32, _I64})

# Field numbers of parquet.thrift.
_SCHEMA, _NUM_ROWS, _ROW_GROUPS, _KEY_VALUE_METADATA = 2, 3, 4, 5
_COLUMNS, _FILE_OFFSET, _ORDINAL = 1, 5, 7
_CHUNK_OFFSET_FIELDS: Final = (2, 4, 6)  # file_offset, offset_index_offset, column_index_offset
_META_DATA: Final = 3
_PAGE_OFFSET_FIELDS: Final = (9, 10, 11, 14)  # data page, index page, dictionary page, Bloom filter


class Field(NamedTuple):
    """A field's value with its type id in Thrift's compact protocol."""

    kind: int
    value: Any


class ListValue(NamedTuple):
    """A list or set with the type id of its elements."""

    kind: int
    values: list[Any]


Struct = dict[int, Field]


def concatenate(parts: Sequence[Path], target: Path, metadata: Mapping[bytes, bytes]) -> None:
    """Write the row groups of all parts in order. The key-value metadata is `metadata` plus the Arrow schema of the first part.

    Raises ValueError if the schemas differ or a part is not a whole Parquet file.
    """
    merged: Struct = {}
    row_groups: list[Struct] = []
    with target.open("wb") as file:
        file.write(MAGIC)
        for part in parts:
            with part.open("rb") as source:
                footer, length = _read_footer(source)
                shift = file.tell() - len(MAGIC)
                _copy_bytes(source, file, length)
            if not merged:
                merged = footer
                row_groups = merged[_ROW_GROUPS].value.values
            else:
                if footer[_SCHEMA] != merged[_SCHEMA]:
                    raise ValueError(f"the schema of {part.name} differs from that of the parts before it")
                merged[_NUM_ROWS] = Field(_I64, merged[_NUM_ROWS].value + footer[_NUM_ROWS].value)
                _shift_row_groups(footer[_ROW_GROUPS].value.values, shift, first=len(row_groups))
                row_groups.extend(footer[_ROW_GROUPS].value.values)
        schema_entries = (
            [entry for entry in merged[_KEY_VALUE_METADATA].value.values if entry[1].value == b"ARROW:schema"]
            if _KEY_VALUE_METADATA in merged
            else []
        )
        entries = [{1: Field(_BINARY, key), 2: Field(_BINARY, value)} for key, value in metadata.items()]
        merged[_KEY_VALUE_METADATA] = Field(_LIST, ListValue(_STRUCT, entries + schema_entries))
        out = bytearray()
        _write_struct(out, dict(sorted(merged.items())))
        file.write(bytes(out) + len(out).to_bytes(4, "little") + MAGIC)


def _read_footer(file: BinaryIO) -> tuple[Struct, int]:
    """Return the footer, and the number of bytes between the leading magic number and the footer."""
    size = file.seek(0, 2)
    file.seek(size - _FOOTER_TAIL_BYTES)
    tail = file.read(_FOOTER_TAIL_BYTES)
    if tail[4:] != MAGIC:
        raise ValueError("the file does not end with Parquet's magic number")
    length = int.from_bytes(tail[:4], "little")
    file.seek(size - _FOOTER_TAIL_BYTES - length)
    return _CompactReader(file.read(length)).struct(), size - _FOOTER_TAIL_BYTES - length - len(MAGIC)


def _copy_bytes(source: BinaryIO, target: BinaryIO, length: int) -> None:
    source.seek(len(MAGIC))
    while length:
        block = source.read(min(length, _COPY_BYTES))
        if not block:
            raise ValueError("the file is shorter than its footer says")
        target.write(block)
        length -= len(block)


def _shift_row_groups(row_groups: list[Struct], shift: int, *, first: int) -> None:
    for number, row_group in enumerate(row_groups, start=first):
        _shift_fields(row_group, (_FILE_OFFSET,), shift)
        if _ORDINAL in row_group:
            row_group[_ORDINAL] = Field(_I16, number)
        for chunk in row_group[_COLUMNS].value.values:
            _shift_fields(chunk, _CHUNK_OFFSET_FIELDS, shift)
            _shift_fields(chunk[_META_DATA].value, _PAGE_OFFSET_FIELDS, shift)


def _shift_fields(struct: Struct, fields: tuple[int, ...], shift: int) -> None:
    for field in fields:
        # Writers put 0 for an unknown offset.
        if field in struct and struct[field].value:
            struct[field] = Field(struct[field].kind, struct[field].value + shift)


# -- Thrift's compact protocol


class _CompactReader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def struct(self) -> Struct:
        fields: Struct = {}
        number = 0
        while header := self._byte():
            number = number + (header >> 4) if header >> 4 else self._signed()
            kind = header & 15
            fields[number] = Field(kind, None if kind in (_TRUE, _FALSE) else self._value(kind))
        return fields

    def _value(self, kind: int) -> Any:
        if kind in _INTEGERS:
            return self._signed()
        if kind == _BINARY:
            return self._bytes(self._unsigned())
        if kind == _STRUCT:
            return self.struct()
        if kind in (_LIST, _SET):
            header = self._byte()
            count = header >> 4 if header >> 4 != 15 else self._unsigned()
            return ListValue(header & 15, [self._value(header & 15) for _ in range(count)])
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        raise ValueError(f"the footer of a Parquet file holds Thrift type {kind}, which the format does not use")

    def _bytes(self, length: int) -> bytes:
        self._position += length
        return self._data[self._position - length : self._position]

    def _byte(self) -> int:
        self._position += 1
        return self._data[self._position - 1]

    def _unsigned(self) -> int:
        result = shift = 0
        while (byte := self._byte()) & 128:
            result |= (byte & 127) << shift
            shift += 7
        return result | byte << shift

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


def _write_struct(out: bytearray, fields: Struct) -> None:
    previous = 0
    for number, (kind, value) in fields.items():
        if 0 < number - previous < 16:
            out.append((number - previous) << 4 | kind)
        else:
            out.append(kind)
            _write_signed(out, number)
        previous = number
        if kind not in (_TRUE, _FALSE):
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in _INTEGERS:
        _write_signed(out, value)
    elif kind == _BINARY:
        _write_unsigned(out, len(value))
        out += value
    elif kind == _STRUCT:
        _write_struct(out, value)
    elif kind in (_LIST, _SET):
        count = len(value.values)
        out.append(min(count, 15) << 4 | value.kind)
        if count >= 15:
            _write_unsigned(out, count)
        for item in value.values:
            _write_value(out, value.kind, item)
    elif kind == _DOUBLE:
        out += value
    else:
        out.append(value)


def _write_unsigned(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _write_signed(out: bytearray, value: int) -> None:
    _write_unsigned(out, value << 1 if value >= 0 else (-value << 1) - 1)
