"""Signals: samples of one or more channels, read from CSV, NPY, NPZ, MAT or WAV, and their features."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from workers.ml.items import limits
from workers.ml.items.envelope import envelope_features
from workers.ml.items.errors import NoSignal

Samples = npt.NDArray[np.float64]

SUFFIXES: Final = frozenset({".csv", ".tsv", ".txt", ".npy", ".npz", ".mat", ".wav", ".sgy", ".segy"})
CONTENT_TYPES: Final = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".npy": "application/x-npy",
    ".npz": "application/x-npz",
    ".mat": "application/x-matlab-data",
    ".wav": "audio/wav",
    ".sgy": "application/x-segy",
    ".segy": "application/x-segy",
}
FEATURES: Final = ("rms", "kurtosis", "skewness", "crest_factor", "peak", "dominant_frequency")
_RATE_NAMES: Final = frozenset({"fs", "rate", "sr", "sampling_rate", "sample_rate", "samplerate", "samplingrate", "sampling_frequency"})
_TIME_NAME: Final = re.compile(r"(time|t|timestamp|seconds|zeit)[ _]*[\[(]?(s|sec|seconds|ms|us|µs)?[\])]?", re.IGNORECASE)
_TIME_UNITS: Final = {"ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_NUMBERS: Final = "iufb"  # the kinds of NumPy's types
_UNIFORM: Final = 1e-3  # relative deviation of steps of time that still count as equal
_SEGMENT: Final = 4_096  # samples of one segment of the spectrum


@dataclass(slots=True)
class Signal:
    """`channels` are samples by the name of the channel, all of one length. `rate` is in Hz, if known."""

    channels: Mapping[str, Samples]
    rate: float | None = None
    issues: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @property
    def length(self) -> int:
        return len(next(iter(self.channels.values())))


def read_signal(content: bytes, name: str, rate: float | None) -> Signal:
    """Read one signal; `rate` counts where the file has none. Raises `NoSignal`."""
    if content.startswith(b"\x93NUMPY"):
        signal = Signal(as_channels(read_npy(content)))
    elif content.startswith(b"PK\x03\x04"):
        signal = _one_signal(*split_rate(read_npz(content)))
    elif content[:4] in (b"RIFF", b"RIFX") and content[8:12] == b"WAVE":
        signal = _read_wav(content)
    elif content.startswith((b"MATLAB 5.0", b"\x89HDF\r\n\x1a\n")) or content[512:520] == b"\x89HDF\r\n\x1a\n":
        from workers.ml.items.matlab import read_mat

        signal = _one_signal(*split_rate(read_mat(content)))
    elif name.lower().endswith((".npy", ".npz", ".mat", ".wav")):
        raise NoSignal(f"is no {name.rpartition('.')[2].upper()} file: it begins with other bytes")
    else:
        signal = read_delimited(content)
    if signal.length < 2:
        raise NoSignal("has fewer than two samples")
    if signal.rate is None:
        signal.rate = rate
    _check_samples(signal)
    return signal


def read_npy(content: bytes, kinds: str = _NUMBERS) -> npt.NDArray[Any]:
    """An array of numbers, or of values of these kinds. Raises `NoSignal`: nothing that needs pickle is read, and no more is allocated than the file has."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read_header(stream, max_header_size=10_000)
    except (ValueError, EOFError, TypeError, KeyError, SyntaxError, UnicodeDecodeError, AssertionError) as error:
        raise NoSignal("has a damaged header") from error
    if kind.hasobject:
        raise NoSignal("holds Python objects, which are not loaded since they could run code; save it as an array of numbers")
    if kind.kind not in kinds:
        raise NoSignal(f"holds values of the type {kind}, and not numbers")
    size = kind.itemsize
    for length in shape:
        size *= length
    if size > len(content) - stream.tell():
        raise NoSignal(
            f"is cut off: its header says {'×'.join(map(str, shape)) or 'one value'}, and {len(content) - stream.tell():,} bytes follow"
        )
    stream.seek(0)
    try:
        return np.load(stream, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise NoSignal("is damaged") from error


def read_npz(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of numbers and of texts, as labels are, by name; others are left out. Raises `NoSignal`."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for info in archive.infolist()[: limits.MAX_METADATA_FIELDS]:
                if not info.filename.endswith(".npy"):
                    continue
                total += info.file_size
                if total > limits.MAX_ITEM_BYTES:
                    raise NoSignal(f"unfolds to more than {limits.MAX_ITEM_BYTES:,} bytes")
                with archive.open(info) as member:
                    array = member.read(info.file_size)
                try:
                    arrays[info.filename.removesuffix(".npy")] = read_npy(array, _NUMBERS + "U")
                except NoSignal:
                    continue
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise NoSignal("is a damaged NPZ file") from error
    if not arrays:
        raise NoSignal("has no array of numbers")
    return arrays


def split_rate(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[dict[str, npt.NDArray[Any]], float | None]:
    """Separate a sampling rate, a scalar with one of the usual names, from the arrays."""
    rate: float | None = None
    rest: dict[str, npt.NDArray[Any]] = {}
    for name, array in arrays.items():
        if array.size == 1 and name.lower() in _RATE_NAMES and float(array.reshape(-1)[0]) > 0:
            rate = float(array.reshape(-1)[0])
        else:
            rest[name] = array
    return rest, rate


def as_channels(array: npt.NDArray[Any]) -> dict[str, Samples]:
    """The channels of an array: its shorter axis, if that is short enough. Raises `NoSignal`."""
    array = np.squeeze(array)
    if array.ndim == 1:
        return {"1": array.astype(np.float64)}
    if array.ndim != 2 or min(array.shape) > limits.MAX_CHANNELS:
        raise NoSignal(
            f"has the shape {'×'.join(map(str, array.shape)) or 'of one value'}, which is no signal of up to {limits.MAX_CHANNELS} channels"
        )
    rows = array if array.shape[0] <= array.shape[1] else array.T
    return {str(number): np.ascontiguousarray(row, dtype=np.float64) for number, row in enumerate(rows, 1)}


def _one_signal(arrays: Mapping[str, npt.NDArray[Any]], rate: float | None) -> Signal:
    """The vectors of the greatest length as channels, or the largest array."""
    arrays = {name: array for name, array in arrays.items() if array.dtype.kind in _NUMBERS}
    vectors = {name: np.squeeze(array) for name, array in arrays.items() if np.squeeze(array).ndim == 1}
    if not vectors:
        matrices = [array for array in arrays.values() if np.squeeze(array).ndim == 2]
        if not matrices:
            raise NoSignal("has no vector of numbers")
        return Signal(as_channels(max(matrices, key=lambda array: array.size)), rate)
    length = max(len(vector) for vector in vectors.values())
    channels = {name: vector.astype(np.float64) for name, vector in vectors.items() if len(vector) == length}
    return Signal(dict(list(channels.items())[: limits.MAX_CHANNELS]), rate)


def _read_wav(content: bytes) -> Signal:
    """PCM of 8 to 32 bits, as shares of the full scale, or floats. The chunks are read here: libraries guess at damaged ones."""
    from workers.ml.items.wave import NoWave, read_wave

    try:
        rate, samples = read_wave(content)
    except NoWave as error:
        raise NoSignal(str(error)) from error
    if samples.shape[1] > limits.MAX_CHANNELS:
        raise NoSignal(f"has {samples.shape[1]:,} channels; the maximum is {limits.MAX_CHANNELS}")
    return Signal({str(number): np.ascontiguousarray(channel) for number, channel in enumerate(samples.T, 1)}, float(rate))


def read_delimited(content: bytes) -> Signal:
    """The numeric columns of delimited text as channels; a column of equal steps of time gives the rate. Raises `NoSignal`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if "\0" in text[:4_096]:
        raise NoSignal("is binary data of no known kind")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "%"))]
    if not lines:
        raise NoSignal("is empty")
    probe = lines[min(1, len(lines) - 1)]
    delimiter = max(";\t,", key=probe.count)
    if not probe.count(delimiter):
        delimiter = None  # runs of spaces, or one column
    decimal_comma = delimiter != "," and "," in probe and "." not in probe
    cells = [cell.strip().strip('"') for cell in lines[0].split(delimiter)]
    has_header = not all(_is_number(cell, decimal_comma=decimal_comma) for cell in cells)
    names = cells if has_header else [str(number) for number in range(1, len(cells) + 1)]
    columns = _numbers(lines[1:] if has_header else lines, delimiter, len(names), decimal_comma=decimal_comma)
    channels: dict[str, Samples] = {}
    rate: float | None = None
    for name, column in zip(names, columns.T, strict=True):
        if np.isnan(column).all():
            continue  # text
        time = _TIME_NAME.fullmatch(name.strip()) if has_header else None
        if time is not None and rate is None and (found := _rate_of(column, time.group(2))) is not None:
            rate = found
            continue
        channels[name if name not in channels else f"{name} {len(channels)}"] = np.ascontiguousarray(column)
    if not channels:
        raise NoSignal("has no column of numbers")
    if len(channels) > limits.MAX_CHANNELS:
        raise NoSignal(f"has {len(channels):,} columns of numbers; the maximum is {limits.MAX_CHANNELS}")
    return Signal(channels, rate)


def _numbers(lines: list[str], delimiter: str | None, width: int, *, decimal_comma: bool) -> Samples:
    """The cells as floats, NaN for those that are none. Raises `NoSignal` for lines of another length."""
    if not lines:
        raise NoSignal("has a header and no samples")
    if decimal_comma:
        lines = [line.replace(",", ".") for line in lines]
    try:
        values = np.array([line.split(delimiter) for line in lines], dtype=np.float64)
    except ValueError:
        values = _numbers_one_by_one(lines, delimiter, width)
    if values.ndim != 2 or values.shape[1] != width:
        raise NoSignal(f"has lines that are not of {width} cells")
    return values


def _numbers_one_by_one(lines: list[str], delimiter: str | None, width: int) -> Samples:
    values = np.full((len(lines), width), np.nan)
    for row, line in enumerate(lines):
        cells = line.split(delimiter)
        if len(cells) != width:
            raise NoSignal(f"has {len(cells)} cells in line {row + 1} of its data, and {width} before")
        for column, cell in enumerate(cells):
            try:
                values[row, column] = float(cell.strip().strip('"') or "nan")
            except ValueError:
                continue
    return values


def _is_number(cell: str, *, decimal_comma: bool) -> bool:
    try:
        float(cell.replace(",", ".") if decimal_comma else cell)
    except ValueError:
        return False
    return True


def _rate_of(times: Samples, unit: str | None) -> float | None:
    """Samples per second, if the times rise in equal steps."""
    if len(times) < 3 or not np.isfinite(times).all():
        return None
    steps = np.diff(times)
    step = (times[-1] - times[0]) / (len(times) - 1)
    if step <= 0 or np.abs(steps - step).max() > max(_UNIFORM * step, 8 * np.spacing(np.abs(times).max())):
        return None
    return 1 / (step * _TIME_UNITS.get((unit or "s").lower(), 1.0))


def _check_samples(signal: Signal) -> None:
    for name, samples in signal.channels.items():
        unusable = int((~np.isfinite(samples)).sum())
        if unusable == len(samples):
            raise NoSignal(f"has no finite sample in channel {name!r}")
        if unusable:
            found = f"{unusable:,} of {len(samples):,} samples of channel {name!r} are no finite numbers"
            signal.issues.append(("NON_FINITE_SAMPLES", f"{found}; its features are those of the others."))


def features_of(signal: Signal) -> dict[str, float | None]:
    """The features of each channel: of the first by their names, of the others with `_2`, `_3` behind. None where one is undefined."""
    features: dict[str, float | None] = {}
    for number, samples in enumerate(list(signal.channels.values())[: limits.MAX_FEATURE_CHANNELS], 1):
        suffix = "" if number == 1 else f"_{number}"
        features |= {f"{name}{suffix}": value for name, value in channel_features(samples, signal.rate).items()}
    return features


def channel_features(samples: Samples, rate: float | None) -> dict[str, float | None]:
    """RMS; kurtosis (Pearson's, 3 for a normal distribution) and skewness of the population; crest factor; peak; the frequency of the greatest power;
    those of the envelope, see `workers.ml.items.envelope`.
    """
    values = samples[np.isfinite(samples)]
    # Scaled by the greatest value, so that no square overflows.
    peak = float(np.abs(values).max())
    scaled = values / peak if peak else values
    rms = float(np.sqrt(np.mean(scaled**2))) * (peak or 1.0)
    centred = scaled - scaled.mean()
    variance = float(np.mean(centred**2))
    # Rounding leaves a constant signal a variance of this order.
    is_constant = variance <= (np.finfo(float).eps * 8) ** 2
    result: dict[str, float | None] = {
        "rms": rms,
        "kurtosis": None if is_constant else float(np.mean(centred**4)) / variance**2,
        "skewness": None if is_constant else float(np.mean(centred**3)) / variance**1.5,
        "crest_factor": peak / rms if rms else None,
        "peak": peak,
        "dominant_frequency": None if rate is None or is_constant else dominant_frequency(centred, rate),
    }
    if rate is not None and not is_constant:
        result |= envelope_features(centred, rate)
    return {name: value if value is None or np.isfinite(value) else None for name, value in result.items()}


def dominant_frequency(samples: Samples, rate: float, segment: int | None = None) -> float | None:
    """The frequency with the greatest power, the constant part left out. With a `segment`, the samples are signals of this length in a row.

    P. D. Welch, "The use of fast Fourier transform for the estimation of power spectra" (1967): segments that overlap by half, each without its mean and
    under a Hann window.
    """
    length = segment or min(len(samples), _SEGMENT)
    if length < 4:
        return None
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    power = np.zeros(length // 2 + 1)
    for start in range(0, len(samples) - length + 1, segment or max(1, length // 2)):
        part = samples[start : start + length]
        power += np.abs(np.fft.rfft((part - part.mean()) * window)) ** 2
    return float((int(power[1:].argmax()) + 1) * rate / length)
