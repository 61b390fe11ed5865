"""WAVE files ("Multimedia Programming Interface and Data Specifications 1.0", IBM and Microsoft, 1991), with WAVE_FORMAT_EXTENSIBLE and RF64."""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_NAMES: Final = {2: "ADPCM", 6: "A-law", 7: "µ-law", 0x11: "IMA ADPCM", 0x55: "MP3"}


class NoWave(Exception):
    """The message says what is wrong."""


def read_wave(content: bytes) -> tuple[int, npt.NDArray[np.float64]]:
    """Return the rate in Hz and the samples, frames × channels; integers as shares of the full scale. Raises `NoWave`."""
    return _samples(*find_samples(content))


def find_samples(content: bytes) -> tuple[bytes, bytes, str]:
    """Return the chunk `fmt `, the bytes of the samples and their byte order. Raises `NoWave`."""
    order = ">" if content.startswith(b"RIFX") else "<"
    position, form = 12, None
    while position + 8 <= len(content):
        name, size = content[position : position + 4], struct.unpack_from(f"{order}I", content, position + 4)[0]
        position += 8
        if name == b"fmt ":
            form = content[position : position + size]
        elif name == b"data":
            if form is None:
                raise NoWave("has samples before their format")
            # Recorders that were stopped hard leave a size of 0 or of all ones.
            available = len(content) - position
            if size > available and size not in (0xFFFFFFFF, 0x7FFFFFFF):
                raise NoWave(f"is cut off: it says that it has {size:,} bytes of samples, and has {available:,}")
            return form, content[position : position + min(size, available)], order
        position += size + size % 2
    raise NoWave("has no samples: the chunk `data` is missing")


def _samples(form: bytes, data: bytes, order: str) -> tuple[int, npt.NDArray[np.float64]]:
    if len(form) < 16:
        raise NoWave("has a format of too few bytes")
    kind, channels, rate, _, block, bits = struct.unpack_from(f"{order}HHIIHH", form)
    if kind == _EXTENSIBLE and len(form) >= 26:
        (kind,) = struct.unpack_from(f"{order}H", form, 24)
    if not channels or not rate or block != channels * ((bits + 7) // 8):
        raise NoWave(f"has a format that contradicts itself: {channels} channels of {bits} bits at {rate} Hz in blocks of {block} bytes")
    frames = len(data) // block
    values = _decode(data[: frames * block], kind, bits, order)
    return rate, values.reshape(frames, channels)


def _decode(data: bytes, kind: int, bits: int, order: str) -> npt.NDArray[np.float64]:
    if kind == _FLOAT and bits in (32, 64):
        return np.frombuffer(data, f"{order}f{bits // 8}").astype(np.float64)
    if kind != _PCM or bits not in (8, 16, 24, 32):
        raise NoWave(
            f"is encoded as {_NAMES.get(kind, f'format {kind}')} of {bits} bits; what can be read is PCM of 8 to 32 bits and floats"
        )
    if bits == 8:
        return (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128
    if bits == 24:
        parts: npt.NDArray[Any] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        high, low = (0, 2) if order == ">" else (2, 0)
        values = (parts[:, high].astype(np.int8).astype(np.int32) << 16) | (parts[:, 1].astype(np.int32) << 8) | parts[:, low]
        return values / float(1 << 23)
    return np.frombuffer(data, f"{order}i{bits // 8}") / float(1 << (bits - 1))
