"""SEG-Y files (SEG Technical Standards Committee, "SEG-Y_r2.0", 2017): headers, and traces as arrays.

The headers are checked here field by field, so that a message can say which one is wrong: libraries say only that a trace count does not fit.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

TEXT_BYTES, BINARY_BYTES, TRACE_HEADER_BYTES = 3_200, 400, 240
HEADER_BYTES: Final = TEXT_BYTES + BINARY_BYTES
SUFFIXES: Final = frozenset({".sgy", ".segy"})
_EBCDIC_C, _ASCII_C = b"\xc3", b"C"
# By the code of the format, in bytes 3225-3226: the name, NumPy's type, its bytes.
_FORMATS: Final = {
    1: ("IBM float", "u4", 4),
    2: ("32-bit integer", "i4", 4),
    3: ("16-bit integer", "i2", 2),
    5: ("IEEE float", "f4", 4),
    6: ("64-bit IEEE float", "f8", 8),
    8: ("8-bit integer", "i1", 1),
}
_MAX_TRACES_IN_BLOCK: Final = 100
_CHUNK: Final = 10_000  # traces whose headers are read at once
_ENSEMBLES: Final = (("cdp", 20), ("shot", 8))  # what traces are gathered by, and where its number is in the trace header, from 0


class NotSegy(Exception):
    """The message says which field is wrong."""


@dataclass(frozen=True, slots=True)
class Segy:
    """The bytes of a file, and how they are laid out. `first_trace` is the position of the first trace header."""

    data: Bytes
    order: str
    format_code: int
    samples: int
    interval: int  # microseconds
    first_trace: int
    traces: int
    text_encoding: str
    revision: str
    issues: tuple[tuple[str, str], ...]

    @property
    def trace_bytes(self) -> int:
        return TRACE_HEADER_BYTES + self.samples * _FORMATS[self.format_code][2]

    @property
    def rate(self) -> float | None:
        return 1e6 / self.interval if self.interval > 0 else None

    def details(self) -> dict[str, Any]:
        return {
            "format": _FORMATS[self.format_code][0],
            "byteOrder": "big" if self.order == ">" else "little",
            "textHeader": self.text_encoding,
            "revision": self.revision,
            "traceBytes": self.trace_bytes,
        }

    def values(self, content: bytes) -> npt.NDArray[np.float64]:
        """The samples of whole traces, traces × samples."""
        _, kind, width = _FORMATS[self.format_code]
        rows = np.frombuffer(content, np.uint8).reshape(-1, self.trace_bytes)[:, TRACE_HEADER_BYTES:]
        raw = np.ascontiguousarray(rows).view(f"{self.order}{kind}" if width > 1 else kind)
        return ibm_floats(raw) if self.format_code == 1 else raw.astype(np.float64)

    def gathers(self) -> Iterator[tuple[str, int, int]]:
        """Yield (key, first trace, number of traces): neighbours of one CDP or, where that is not set, of one shot, else blocks of traces."""
        for name, position in _ENSEMBLES:
            numbers = self._header_field(position)
            changes = np.flatnonzero(np.diff(numbers)) + 1
            if numbers.any() and len(changes):
                starts = [0, *changes.tolist(), self.traces]
                seen: dict[int, int] = {}
                for start, end in itertools.pairwise(starts):
                    number = int(numbers[start])
                    seen[number] = seen.get(number, 0) + 1
                    repeated = f".{seen[number]}" if seen[number] > 1 else ""
                    yield f"{name}/{number}{repeated}", start, end - start
                return
        width = len(str(self.traces))
        for start in range(0, self.traces, _MAX_TRACES_IN_BLOCK):
            end = min(start + _MAX_TRACES_IN_BLOCK, self.traces)
            yield f"traces/{start + 1:0{width}}-{end:0{width}}", start, end - start

    def _header_field(self, position: int) -> npt.NDArray[np.int64]:
        """A field of 32 bits of every trace header."""
        found = np.empty(self.traces, dtype=np.int64)
        for start in range(0, self.traces, _CHUNK):
            count = min(_CHUNK, self.traces - start)
            first = self.first_trace + start * self.trace_bytes
            block = self.data[first : first + count * self.trace_bytes].reshape(count, self.trace_bytes)
            found[start : start + count] = np.ascontiguousarray(block[:, position : position + 4]).view(f"{self.order}i4")[:, 0]
        return found


def looks_like_segy(head: bytes, suffix: str) -> bool:
    """By the extension, or a textual header that begins with `C 1` in EBCDIC."""
    return suffix in SUFFIXES or head.startswith(b"\xc3\x40\xf1")


def open_segy(path: Path) -> Segy:
    """Map a file, and check its headers. Raises `NotSegy`."""
    return parse_segy(np.memmap(path, np.uint8, "r"))


def parse_segy(data: Bytes) -> Segy:
    """Check the headers. Raises `NotSegy`."""
    size = len(data)
    head = data[: HEADER_BYTES + TRACE_HEADER_BYTES].tobytes()
    if len(head) < HEADER_BYTES + TRACE_HEADER_BYTES:
        raise NotSegy(f"has {size:,} bytes, and the headers alone of a SEG-Y file with one trace are {HEADER_BYTES + TRACE_HEADER_BYTES:,}")
    encoding = "EBCDIC" if head[:1] == _EBCDIC_C else "ASCII" if head[:1] == _ASCII_C else "unknown"
    order, code = _byte_order(head)
    interval, samples = struct.unpack_from(f"{order}H2xH", head, 3_216)
    trace_samples, trace_interval = struct.unpack_from(f"{order}HH", head, HEADER_BYTES + 114)
    (extended,) = struct.unpack_from(f"{order}h", head, 3_504)
    if not 0 <= extended <= 1_000:
        raise NotSegy(f"has {extended} extended textual headers by bytes 3505-3506, which is no possible number")
    first = HEADER_BYTES + extended * TEXT_BYTES
    width = _FORMATS[code][2]
    issues: list[tuple[str, str]] = []
    fits = {
        count for count in (samples, trace_samples) if count and (size - first) % (TRACE_HEADER_BYTES + count * width) == 0 and size > first
    }
    if not fits:
        raise NotSegy(_misfit(size - first, samples, trace_samples, width, code))
    count = samples if samples in fits else trace_samples
    if count != samples:
        issues.append(
            (
                "SAMPLES_OF_TRACE",
                f"Bytes 3221-3222 say {samples:,} samples a trace, and the first trace header {count:,}, which fits the size of the file.",
            )
        )
    if interval == 0 and trace_interval:
        issues.append(("INTERVAL_OF_TRACE", f"Bytes 3217-3218 give no sample interval; the first trace header says {trace_interval:,} µs."))
        interval = trace_interval
    if interval == 0:
        issues.append(
            ("NO_INTERVAL", "Neither bytes 3217-3218 nor the first trace header give a sample interval, so frequencies are not known.")
        )
    traces = (size - first) // (TRACE_HEADER_BYTES + count * width)
    revision = f"{head[3_500]}.{head[3_501]}"
    return Segy(data, order, code, count, interval, first, traces, encoding, revision, tuple(issues))


def _byte_order(head: bytes) -> tuple[str, int]:
    """The order in which the code of the format is one: codes are small, so swapped they are not."""
    codes = {order: struct.unpack_from(f"{order}h", head, 3_224)[0] for order in (">", "<")}
    for order, code in codes.items():
        if code in _FORMATS:
            return order, code
    known = ", ".join(f"{code} ({name})" for code, (name, _, _) in _FORMATS.items())
    raise NotSegy(f"has the format code {codes['>']} in bytes 3225-3226 ({codes['<']} if they are swapped); what can be read is {known}")


def _misfit(size: int, samples: int, trace_samples: int, width: int, code: int) -> str:
    if not samples:
        return f"says 0 samples a trace in bytes 3221-3222, and {trace_samples:,} in the first trace header, which does not fit the size of the file"
    trace = TRACE_HEADER_BYTES + samples * width
    other = f" Its first trace header says {trace_samples:,} samples (bytes 115-116)." if trace_samples != samples else ""
    return (
        f"contradicts itself: {samples:,} samples a trace (bytes 3221-3222) of {width} bytes (format {code}, bytes 3225-3226) make traces of {trace:,}"
        f" bytes, and the {size:,} bytes behind the headers are {size / trace:,.2f} of them.{other} It may be cut off"
    )


def ibm_floats(raw: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """IBM System/360 floats of 32 bits: sign, exponent of 16 with a bias of 64, fraction of 24 bits."""
    words = raw.astype(np.uint32)
    sign = np.where(words >> 31, -1.0, 1.0)
    exponent = ((words >> 24) & 0x7F).astype(np.int32) - 64
    fraction = (words & 0x00FFFFFF).astype(np.float64) / (1 << 24)
    return sign * fraction * np.power(16.0, exponent)
