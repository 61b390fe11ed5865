"""Archives, signals, images and recordings for tests, made in memory."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Samples = npt.NDArray[np.float64]


def zip_of(files: Mapping[str, bytes], *, compressed: bool = True, stored: Collection[str] = ()) -> bytes:
    """Those in `stored` are not compressed."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_STORED if name in stored else archive.compression)
    return target.getvalue()


def zip_with_excess(archive_bytes: bytes, name: str, content: bytes, excess: int) -> bytes:
    """The archive with one more file, whose compressed bytes go on after their end."""
    target = io.BytesIO(archive_bytes)
    with zipfile.ZipFile(target, "a", zipfile.ZIP_STORED) as archive:
        compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        archive.writestr(zipfile.ZipInfo(name), compressor.compress(content) + compressor.flush() + bytes(excess))
        info = archive.getinfo(name)
        info.compress_type, info.file_size, info.CRC = zipfile.ZIP_DEFLATED, len(content), zlib.crc32(content)
    return target.getvalue()


def tar_of(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def vibration(frequency: float, seed: int, *, impacts: bool = False, length: int = 1_000, rate: int = 1_000) -> Samples:
    """A rotation with noise; `impacts` adds short bursts, as a damaged bearing makes."""
    generator = np.random.default_rng(seed)
    times = np.arange(length) / rate
    samples = np.sin(2 * np.pi * frequency * times) + 0.1 * generator.normal(size=length)
    if impacts:
        samples[generator.integers(length // 20) :: length // 10] += 6
    return samples


def csv_of(samples: Samples, rate: int = 1_000) -> bytes:
    return ("time,acceleration\n" + "".join(f"{index / rate},{value}\n" for index, value in enumerate(samples))).encode()


def npy_of(array: npt.NDArray[np.generic]) -> bytes:
    target = io.BytesIO()
    np.save(target, array)
    return target.getvalue()


def wav_of(samples: Samples, rate: int = 1_000) -> bytes:
    """PCM of 16 bits, one channel; samples of -1 to 1."""
    data = (samples * 32_767).astype("<i2").tobytes()
    head = b"fmt " + np.array([16], "<u4").tobytes() + np.array([1, 1], "<u2").tobytes() + np.array([rate, 2 * rate], "<u4").tobytes()
    body = b"WAVE" + head + np.array([2, 16], "<u2").tobytes() + b"data" + np.array([len(data)], "<u4").tobytes() + data
    return b"RIFF" + np.array([len(body)], "<u4").tobytes() + body


def image_of(pixels: npt.NDArray[np.uint8], format_name: str = "PNG", **options: object) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format_name, **options)
    return target.getvalue()


def tone(frequency: float, seed: int, *, seconds: float = 0.5, rate: int = 8_000, noise: float = 0.01) -> Samples:
    """A sine with a little noise, of amplitude 0.5."""
    times = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * frequency * times) + noise * np.random.default_rng(seed).normal(size=len(times))


def recording_of(samples: npt.NDArray[Any], format_name: str = "FLAC", rate: int = 8_000, subtype: str | None = None) -> bytes:
    import soundfile

    target = io.BytesIO()
    soundfile.write(target, samples, rate, format=format_name, subtype=subtype)
    return target.getvalue()
