"""Signals as a kind of items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from workers.ml.errors import BadInput
from workers.ml.items import limits, segy
from workers.ml.items.errors import NoSignal
from workers.ml.items.reading import Corrupt, Described, Part, equal_or_none, is_npz, npy_bytes, whole_file
from workers.ml.items.signal_preview import gather_preview, signal_preview
from workers.ml.items.signals import (
    CONTENT_TYPES,
    SUFFIXES,
    Signal,
    channel_features,
    dominant_frequency,
    features_of,
    read_delimited,
    read_npy,
    read_npz,
    read_signal,
    split_rate,
)
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.raw import RawFile

_LABELS: Final = frozenset({"y", "label", "labels", "target", "targets", "class", "classes"})
_ROW_RATIO: Final = 2  # an array with this many times more columns than rows, or rows than columns, says which of both are signals


class SignalKind:
    """`rate` is the sampling rate that the upload gives for files without one, in Hz."""

    name = "signals"
    suffixes = SUFFIXES

    def __init__(self, rate: float | None = None) -> None:
        self._rate = rate
        self._traces = 0
        self._segy: segy.Segy | None = None  # of a file whose gathers are the items
        self._lengths: Counter[int] = Counter()
        self._rates: Counter[float | None] = Counter()

    def describe(self, content: bytes, path: str) -> Described:
        if self._segy is not None:
            return self._describe_gather(self._segy, content)
        suffix = PurePosixPath(path).suffix.lower()
        try:
            if suffix in segy.SUFFIXES:
                file = segy.parse_segy(np.frombuffer(content, np.uint8))
                return self._describe_gather(file, content[file.first_trace :])
            signal = read_signal(content, path, self._rate)
        except (NoSignal, segy.NotSegy) as error:
            raise Corrupt(str(error)) from error
        return self._describe(signal, CONTENT_TYPES.get(suffix, "application/x-npy"))

    def _describe_gather(self, file: segy.Segy, content: bytes) -> Described:
        """The features of all samples of the traces; their frequency is that of the greatest power of all traces together."""
        values = file.values(content)
        if not np.isfinite(values).any():
            raise Corrupt("has no finite sample")
        rate = file.rate or self._rate
        traces, samples = values.shape
        self._traces += traces
        self._lengths[samples] += 1
        self._rates[rate] += 1
        duration = None if rate is None else samples / rate
        features = channel_features(values.reshape(-1), None)
        features["dominant_frequency"] = (
            None if rate is None else dominant_frequency(np.nan_to_num(values).reshape(-1), rate, segment=samples)
        )
        info = {"kind": "signal", "samples": samples, "sample_rate": rate, "channels": traces, "duration": duration}
        described: dict[str, float | int | None] = {
            "traces": traces,
            "samples": samples,
            "sample_rate": rate,
            "duration": duration,
            **features,
        }
        content_type = "application/x-segy" if self._segy is None else "application/octet-stream"
        return Described(info, described, content_type, preview=gather_preview(values))

    def _describe(self, signal: Signal, content_type: str) -> Described:
        self._traces += len(signal.channels)
        self._lengths[signal.length] += 1
        self._rates[signal.rate] += 1
        duration = None if signal.rate is None else signal.length / signal.rate
        features = features_of(signal)
        info = {
            "kind": "signal",
            "samples": signal.length,
            "sample_rate": signal.rate,
            "channels": len(signal.channels),
            "duration": duration,
        }
        described: dict[str, float | int | None] = {"samples": signal.length, "sample_rate": signal.rate, "duration": duration, **features}
        return Described(info, described, content_type, signal.issues, signal_preview(list(signal.channels.values())))

    def parts(self, raw: RawFile, filename: str, issues: IssueLog) -> tuple[str, Iterator[Part]] | None:
        """Each channel of a recording, each vector of a container, and each signal of an array of several is an item."""
        head = raw.head(1_024)
        suffix = PurePosixPath(filename).suffix.lower()
        try:
            if head.startswith(b"\x93NUMPY"):
                return "NPY", self._of_arrays({"signal": read_npy(whole_file(raw, filename))}, None, filename, issues)
            if head.startswith(b"PK\x03\x04") and is_npz(raw):
                return "NPZ", self._of_arrays(*split_rate(read_npz(whole_file(raw, filename))), filename, issues)
            if head.startswith((b"MATLAB 5.0", b"\x89HDF\r\n\x1a\n")) or head[512:520] == b"\x89HDF\r\n\x1a\n":
                from workers.ml.items.matlab import read_mat

                return "MAT", self._of_arrays(*split_rate(read_mat(whole_file(raw, filename))), filename, issues)
            if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
                return "WAV", self._of_channels(read_signal(whole_file(raw, filename), filename, self._rate))
            if segy.looks_like_segy(head, suffix):
                return "SEGY", self._of_gathers(segy.open_segy(raw.path), issues)
            if suffix in (".csv", ".tsv", ".txt"):
                return "CSV", self._of_channels(read_delimited(whole_file(raw, filename)))
        except (NoSignal, segy.NotSegy) as error:
            raise BadInput("UNREADABLE_FILE", f"{filename!r} cannot be read: it {error}.") from error
        return None

    def _of_gathers(self, file: segy.Segy, issues: IssueLog) -> Iterator[Part]:
        """The gathers of a SEG-Y file, which are ranges of it."""
        self._segy = file
        for code, message in file.issues:
            issues.add(code, message)
        for key, first, count in file.gathers():
            place = file.first_trace + first * file.trace_bytes, count * file.trace_bytes
            yield Part(key, place=place, metadata={"firstTrace": first + 1, "traces": count, **file.details()})

    def _of_channels(self, signal: Signal) -> Iterator[Part]:
        self._rate = signal.rate or self._rate  # that of the file, for what its channels are stored as
        for name, samples in signal.channels.items():
            yield Part(_key(name) if len(signal.channels) > 1 else "signal", npy_bytes(samples))

    def _of_arrays(self, arrays: Mapping[str, npt.NDArray[Any]], rate: float | None, filename: str, issues: IssueLog) -> Iterator[Part]:
        self._rate = rate or self._rate
        labels = next((array.reshape(-1) for name, array in arrays.items() if name.lower() in _LABELS and array.ndim <= 2), None)
        signals = {name: np.squeeze(array) for name, array in arrays.items() if name.lower() not in _LABELS}
        wrong = next((name for name, array in signals.items() if array.ndim > 2), None)
        if wrong is not None:
            shape = "×".join(map(str, signals[wrong].shape))
            raise BadInput(
                "UNREADABLE_FILE", f"The array {wrong!r} of {filename!r} has the shape {shape}; signals are arrays of one or two axes."
            )
        vectors = {name: array for name, array in signals.items() if array.ndim >= 1 and array.size > 1 and array.dtype.kind in "iufb"}
        if not vectors:
            raise BadInput("NO_ITEMS", f"{filename!r} contains no signals: none of its arrays has more than one value.")
        return self._parts_of(vectors, labels, issues)

    def _parts_of(self, arrays: Mapping[str, npt.NDArray[Any]], labels: npt.NDArray[Any] | None, issues: IssueLog) -> Iterator[Part]:
        for name, array in arrays.items():
            if array.ndim == 1:
                yield Part(_key(name), npy_bytes(array))
                continue
            count = len(labels) if labels is not None and len(labels) in array.shape else None
            rows, said = _signals_of(array, count)
            shape = f"{array.shape[0]:,}×{array.shape[1]:,}"
            found = f"{len(rows):,} signals of {rows.shape[1]:,} samples"
            issues.add("ASSUMED_SIGNALS", f"The array {name!r} of {shape} was read as {found}: {said}.")
            width = len(str(len(rows)))
            for number, row in enumerate(rows):
                label = None if labels is None or len(labels) != len(rows) else _text(labels[number])
                yield Part(f"{_key(name)}/{number + 1:0{width}}", npy_bytes(row), label)

    def summary(self) -> dict[str, Any]:
        return {
            "signal": {
                "traces": self._traces,
                "samples": equal_or_none(self._lengths),
                "sample_rate": equal_or_none(self._rates),
                "unit": None,
                "details": {
                    **({"shortest": min(self._lengths), "longest": max(self._lengths)} if self._lengths else {}),
                    **(self._segy.details() if self._segy is not None else {}),
                },
            }
        }


def _signals_of(array: npt.NDArray[Any], count: int | None) -> tuple[npt.NDArray[Any], str]:
    """The signals as rows, and why."""
    rows, columns = array.shape
    if count is not None and rows != columns:
        return (array if rows == count else array.T), f"there are {count:,} labels"
    if rows > _ROW_RATIO * columns and columns <= limits.MAX_CHANNELS:
        return array.T, "its columns are the longer ones, as channels of one recording are"
    return array, "each row is one"


def _key(name: str) -> str:
    return name.replace("\0", "").strip()[: limits.MAX_LABEL_LENGTH] or "signal"


def _text(value: Any) -> str:
    """A label as text; whole numbers without a point, as MATLAB stores them as floats."""
    number = value.item()
    text = str(int(number)) if isinstance(number, float) and number.is_integer() else str(number)
    return text[: limits.MAX_LABEL_LENGTH]
