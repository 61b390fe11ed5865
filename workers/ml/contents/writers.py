"""Contents written to a file that is read like an upload: gathers as SEG-Y, other signals as an archive of arrays."""

from __future__ import annotations

import csv
import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from workers.ml.contents.content import Content, ContentError
from workers.ml.contents.places import ItemPlace
from workers.ml.items import limits, segy

_IEEE_FLOAT: Final = 5
_MAX_FIELD: Final = 0xFFFF  # 16 bits of the headers
_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the same contents give the same bytes
_MANIFEST: Final = "metadata.csv"


Features = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """`features` are those that the pipeline made of each item, by the item's key in the file."""

    path: Path
    filename: str
    content_type: str
    features: Mapping[str, Features]


class Writer(Protocol):
    """Writes one content after the other."""

    filename: str
    content_type: str

    def add(self, place: ItemPlace, content: Content, filed: Mapping[str, Any]) -> None:
        """Write the content of an item, filed as the columns of its row say. Raises ContentError."""
        ...

    def close(self) -> None: ...

    def keys(self) -> list[str]:
        """The keys that the contents will be read by, in their order, once the file is closed."""
        ...


class SegyWriter:
    """The gathers of a file with its headers; samples are IEEE floats in its order of bytes. All have one length and one rate."""

    filename = "gathers.sgy"
    content_type = "application/x-segy"

    def __init__(self, source: segy.Segy, target: Path) -> None:
        self._source = source
        self._target = target
        self._file = target.open("wb")
        self._format: tuple[int, int] | None = None

    def add(self, place: ItemPlace, content: Content, filed: Mapping[str, Any]) -> None:  # noqa: ARG002 - SEG-Y has no place for labels
        source = self._source
        values = content.values.T
        found = values.shape[1], source.interval if content.rate is None else round(1e6 / content.rate)
        if self._format is None:
            self._start(*found)
        elif found != self._format:
            raise ContentError("has another length or rate than the gathers before it, and a SEG-Y file has one of each.")
        member = place.member
        traces = source.data[member.offset : member.offset + member.stored_size].reshape(-1, source.trace_bytes)
        heads = np.array(traces[:, : segy.TRACE_HEADER_BYTES])
        heads[:, 114:118] = np.frombuffer(struct.pack(f"{source.order}HH", *found), np.uint8)
        samples = np.ascontiguousarray(values, f"{source.order}f4").view(np.uint8)
        self._file.write(np.hstack([heads, samples]).tobytes())

    def _start(self, samples: int, interval: int) -> None:
        """Write the headers. Raises ContentError."""
        if max(samples, interval) > _MAX_FIELD:
            raise ContentError(
                f"has {samples:,} samples every {interval:,} µs; the headers of SEG-Y hold {_MAX_FIELD:,} of either at most."
            )
        self._format = samples, interval
        order = self._source.order
        head = bytearray(self._source.data[: self._source.first_trace].tobytes())
        struct.pack_into(f"{order}H2xH2xh", head, 3_216, interval, samples, _IEEE_FLOAT)
        self._file.write(head)

    def close(self) -> None:
        self._file.close()

    def keys(self) -> list[str]:
        return [key for key, _, _ in segy.open_segy(self._target).gathers()]


class ArchiveWriter:
    """A ZIP of NPZ files, each with the samples and, if it is known, the sampling rate; a manifest says what the items are filed under."""

    filename = "signals.zip"
    content_type = "application/zip"

    def __init__(self, target: Path, filed: Sequence[str]) -> None:
        self._archive = zipfile.ZipFile(target, "w", zipfile.ZIP_STORED)
        self._filed = filed
        self._paths: dict[str, None] = {}
        self._manifest = io.StringIO(newline="")
        self._rows = csv.writer(self._manifest, lineterminator="\n")
        self._rows.writerow(["file_name", *filed])

    def add(self, place: ItemPlace, content: Content, filed: Mapping[str, Any]) -> None:
        samples, channels = content.values.shape
        if channels > min(samples, limits.MAX_CHANNELS):
            raise ContentError(
                f"has {channels:,} channels of {samples:,} samples; an array may have {limits.MAX_CHANNELS}, and no more channels than samples."
            )
        arrays: dict[str, npt.NDArray[Any]] = {"signal": np.ascontiguousarray(content.values.T)}
        if content.rate is not None:
            arrays["sampling_rate"] = np.array(content.rate)
        target = io.BytesIO()
        np.savez(target, allow_pickle=False, **arrays)
        path = self._free_path(place.key, content.start)
        self._archive.writestr(zipfile.ZipInfo(path, _DATE), target.getvalue())
        self._rows.writerow([path, *(filed[name] or "" for name in self._filed)])

    def _free_path(self, key: str, start: int) -> str:
        """The path of the item, and the first sample of a part; `a.csv` and `a.wav` may lie beside each other."""
        stem = str(PurePosixPath(key).with_suffix(""))
        name = f"{stem}-{start:09}" if start else stem
        path, number = f"{name}.npz", 1
        while path in self._paths:
            number += 1
            path = f"{name}-{number}.npz"
        self._paths[path] = None
        return path

    def close(self) -> None:
        self._archive.writestr(zipfile.ZipInfo(_MANIFEST, _DATE), self._manifest.getvalue())
        self._archive.close()

    def keys(self) -> list[str]:
        return list(self._paths)
