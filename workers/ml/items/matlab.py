"""MATLAB files: version 5 to 7.2 by SciPy, 7.3, which is HDF5, by h5py. Only arrays of numbers are read, no cells, structures or objects."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.ml.items import limits
from workers.ml.items.errors import NoSignal

_NUMBERS = frozenset({"double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "logical"})
_MAX_VARIABLES = 1_000


def read_mat(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of numbers by the name of the variable. Raises `NoSignal`."""
    arrays = _read_5(content) if content.startswith(b"MATLAB 5.0") and content[512:520] != b"\x89HDF\r\n\x1a\n" else _read_73(content)
    if not arrays:
        raise NoSignal("has no variable that is an array of numbers")
    return arrays


def _read_5(content: bytes) -> dict[str, npt.NDArray[Any]]:
    # SciPy takes a quarter of a second to import.
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    damaged = (
        MatReadError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        OSError,
        EOFError,
        struct.error,
        zlib.error,
        NotImplementedError,
        OverflowError,
    )
    try:
        _check_unfolded(content)
        variables = whosmat(io.BytesIO(content))
        total = 0
        names: list[str] = []
        for name, shape, kind in variables[:_MAX_VARIABLES]:
            if kind in _NUMBERS:
                total += 8 * int(np.prod([int(length) for length in shape], dtype=object))
                names.append(name)
        if total > limits.MAX_ITEM_BYTES:
            raise NoSignal(f"unfolds to more than {limits.MAX_ITEM_BYTES:,} bytes")
        # One by one: SciPy leaves open what it returns of variables that it was not asked for.
        loaded = loadmat(io.BytesIO(content), variable_names=names, struct_as_record=True, verify_compressed_data_integrity=True)
    except damaged as error:
        raise NoSignal("is a damaged MATLAB file") from error
    return {name: array for name in names if isinstance(array := loaded.get(name), np.ndarray) and array.dtype.kind in "iufb"}


def _check_unfolded(content: bytes) -> None:
    """Bound what the compressed elements unfold to: SciPy decompresses as far as an element says."""
    order = ">" if content[126:128] == b"MI" else "<"
    position, left = 128, limits.MAX_ITEM_BYTES
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        if kind == 15:  # miCOMPRESSED
            decompressor = zlib.decompressobj()
            data = content[position + 8 : position + 8 + size]
            while data and left >= 0:
                left -= len(decompressor.decompress(data, 1 << 20))
                data = decompressor.unconsumed_tail
            if left < 0:
                raise NoSignal(f"unfolds to more than {limits.MAX_ITEM_BYTES:,} bytes")
        position += 8 + size


def _read_73(content: bytes) -> dict[str, npt.NDArray[Any]]:
    import h5py

    arrays: dict[str, npt.NDArray[Any]] = {}
    total = 0
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            for name in list(file)[:_MAX_VARIABLES]:
                # Soft and external links, and data in other files, would lead out of this file.
                if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                    continue
                dataset = file.get(name)
                if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual or dataset.dtype.kind not in "iufb":
                    continue
                total += int(dataset.size or 0) * dataset.dtype.itemsize
                if total > limits.MAX_ITEM_BYTES:
                    raise NoSignal(f"unfolds to more than {limits.MAX_ITEM_BYTES:,} bytes")
                arrays[name] = np.asarray(dataset[()]).T  # MATLAB stores by columns
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise NoSignal("is a damaged MATLAB 7.3 file") from error
    return arrays
