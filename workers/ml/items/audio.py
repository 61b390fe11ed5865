"""Recordings: WAV, FLAC, Ogg and MP3, decoded block by block by libsndfile, and what is computed of their samples."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from workers.ml.items import limits
from workers.ml.items.wave import NoWave, find_samples

if TYPE_CHECKING:
    from soundfile import SoundFile

Samples = npt.NDArray[np.float64]

FORMATS: Final = {"WAV": "WAV", "WAVEX": "WAV", "RF64": "WAV", "FLAC": "FLAC", "OGG": "OGG", "MP3": "MP3"}
"""Those of libsndfile that are read, and what they are called here."""
_CODECS: Final = {"FLAC": "FLAC", "MP3": "MP3"}  # elsewhere it is the encoding that tells two files apart
_LENGTHS: Final = (b"Xing", b"Info", b"VBRI")
_HEADER: Final = 65_536
"""In the first bytes of an MP3 file, one of these marks a header that says how long it is; without one libsndfile estimates it from the first frames."""
_BLOCK: Final = 1 << 18  # samples of all channels that are decoded at once
_WINDOW_SECONDS: Final = 0.046  # of one spectrum: 2,048 samples at 44.1 kHz
_MAX_WINDOW: Final = 8_192
_FLOOR: Final = 1e-10  # power below which there is silence: -100 dB
_BANDS: Final = 20
_TOP: Final = 8_000.0  # Hz; one for all rates, so that bands can be compared
_IMAGE_BANDS, _IMAGE_WIDTH = 64, 128
_RANGE: Final = 80.0  # dB between the darkest and the lightest colour
_COLOURS: Final = np.array([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)], dtype=np.float64)


class NoSound(Exception):
    """The bytes are no recording that can be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Sound:
    """`duration` is in seconds. `picture` is the spectrogram as a WebP image; None for a recording too short for one."""

    format: str
    codec: str
    rate: int
    channels: int
    duration: float
    features: dict[str, float | int | None]
    issues: list[tuple[str, str]]
    picture: bytes | None


def format_of(head: bytes) -> str | None:
    """The format that the first 16 bytes promise. libsndfile is given nothing else: it knows two dozen more."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return "WAV"
    for magic, name in ((b"fLaC", "FLAC"), (b"OggS", "OGG"), (b"ID3", "MP3")):
        if head.startswith(magic):
            return name
    # 11 bits of ones begin a frame; the layer 00 is AAC's.
    is_frame = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 != 0
    return "MP3" if is_frame else None


def read_sound(content: bytes) -> Sound:
    """Decode the first seconds, up to the limits, and compute the features of these. Raises `NoSound`."""
    from soundfile import LibsndfileError, SoundFile

    if format_of(content[:16]) is None:
        raise NoSound("is no recording in one of the formats WAV, FLAC, OGG and MP3")
    issues: list[tuple[str, str]] = []
    _check_end(content, issues)
    try:
        with SoundFile(io.BytesIO(content)) as file:
            if file.format not in FORMATS:
                raise NoSound("is no recording in one of the formats WAV, FLAC, OGG and MP3")
            return _analyse(file, issues, is_estimate=file.format == "MP3" and not any(mark in content[:_HEADER] for mark in _LENGTHS))
    except LibsndfileError as error:
        raise NoSound("is damaged or cut off, or has a header that contradicts itself") from error


def _check_end(content: bytes, issues: list[tuple[str, str]]) -> None:
    """libsndfile takes a WAVE file that is cut off for a shorter one, and so an Ogg file."""
    if content[:4] in (b"RIFF", b"RIFX"):
        try:
            find_samples(content)
        except NoWave as error:
            raise NoSound(str(error)) from error
    elif content.startswith(b"OggS"):
        last = content.rfind(b"OggS")  # RFC 3533: the third bit of its type marks the last page
        if not content[last + 5 : last + 6] or not content[last + 5] & 0x04:
            issues.append(("NO_END", "It has no last page, as if it was not sent whole or was recorded from a stream."))


def _analyse(file: SoundFile, issues: list[tuple[str, str]], *, is_estimate: bool) -> Sound:
    """`is_estimate` says that the number of samples in the file is one."""
    rate, channels, frames = file.samplerate, file.channels, file.frames
    if channels > limits.MAX_CHANNELS:
        raise NoSound(f"has {channels:,} channels; the maximum is {limits.MAX_CHANNELS}")
    if frames < 2 or rate < 1:
        raise NoSound("has fewer than two samples")
    analysed = min(frames, limits.MAX_ANALYSED_SECONDS * rate, limits.MAX_ANALYSED_SAMPLES // channels)
    analysis = Analysis(rate, channels, analysed)
    non_finite = 0
    for block in _blocks(file, analysed, analysis.window_length):
        unusable = ~np.isfinite(block)
        if unusable.any():
            non_finite += int(unusable.sum())
            block[unusable] = 0
        analysis.add(block)
    if is_estimate and 2 <= analysis.frames < analysed:
        frames = analysed = analysis.frames
    if analysis.frames < analysed or (analysed < frames and not _has_end(file)):
        raise NoSound(f"is cut off: its header says {frames:,} samples, and only the first of them can be decoded")
    if non_finite == analysed * channels:
        raise NoSound("has no finite sample")
    if non_finite:
        issues.append(("NON_FINITE_SAMPLES", f"{non_finite:,} samples are no finite numbers; they count as 0."))
    if analysed < frames:
        issues.append(("PARTLY_ANALYSED", f"Its features are those of its first {analysed / rate:,.6g} of {frames / rate:,.6g} seconds."))
    format_name = FORMATS[file.format]
    features: dict[str, float | int | None] = {
        "duration": frames / rate,
        "sample_rate": rate,
        "channels": channels,
        **analysis.features(),
    }
    codec = _CODECS.get(format_name) or str(file.subtype)
    return Sound(format_name, codec, rate, channels, frames / rate, features, issues, analysis.picture())


def _blocks(file: SoundFile, frames: int, window: int) -> Iterator[Samples]:
    """Frames × channels."""
    size = max(_BLOCK // file.channels, 2 * window)
    while frames > 0:
        block: Any = file.read(min(size, frames), dtype="float64", always_2d=True)
        if not len(block):
            return
        yield block
        frames -= len(block)


def _has_end(file: SoundFile) -> bool:
    """Whether the last samples that the header promises can be decoded."""
    file.seek(max(0, file.frames - file.samplerate))
    return len(file.read(file.samplerate, always_2d=True)) > 0


class Analysis:
    """The features of all channels together, from blocks of samples; memory does not grow with their number.

    The spectra are Welch's (1967): of segments that overlap by half, each without its mean and under a Hann window, scaled so that a sine of amplitude 1
    has the power 0.5. They are averaged over channels as power, so that channels of opposite phase do not cancel each other.
    """

    def __init__(self, rate: int, channels: int, frames: int) -> None:
        self.frames = 0
        exponent = round(np.log2(max(16.0, rate * _WINDOW_SECONDS)))
        self.window_length = min(1 << exponent, _MAX_WINDOW, frames)
        self._hop = max(1, self.window_length // 2)
        self._window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window_length) / self.window_length)
        self._rate = rate
        self._channels = channels
        self._segments = max(0, (frames - self.window_length) // self._hop + 1) if self.window_length >= 4 else 0
        self._seen = 0  # segments
        self._squares = 0.0
        self._peak = 0.0
        self._crossings = 0
        self._last: npt.NDArray[np.bool_] | None = None
        self._rest: Samples = np.empty((0, channels))
        bins = self.window_length // 2 + 1
        self._power = np.zeros(bins)
        self._decibels = np.zeros(_BANDS)
        self._bands = mel_filters(rate, self.window_length, _BANDS, _TOP)
        self._image_bands = mel_filters(rate, self.window_length, _IMAGE_BANDS, rate / 2)
        self._width = min(_IMAGE_WIDTH, self._segments)
        self._image = np.zeros((self._width, _IMAGE_BANDS))

    def add(self, block: Samples) -> None:
        self.frames += len(block)
        with np.errstate(over="ignore", invalid="ignore"):
            self._squares += float(np.square(block).sum())
            self._peak = max(self._peak, float(np.abs(block).max()))
            negative = np.signbit(block)
            if self._last is not None:
                self._crossings += int((negative[0] != self._last).sum())
            self._crossings += int((negative[1:] != negative[:-1]).sum())
            self._last = negative[-1]
            self._rest = np.concatenate([self._rest, block])
            if self._segments and len(self._rest) >= self.window_length:
                self._transform()

    def _transform(self) -> None:
        segments = np.lib.stride_tricks.sliding_window_view(self._rest, self.window_length, axis=0)[:: self._hop]
        spectra = np.fft.rfft((segments - segments.mean(axis=-1, keepdims=True)) * self._window)
        power = (spectra.real**2 + spectra.imag**2).mean(axis=1) / self._window.sum() ** 2
        power[:, 1 : (self.window_length + 1) // 2] *= 2  # the negative frequencies
        self._power += power.sum(axis=0)
        self._decibels += _decibels(power @ self._bands).sum(axis=0)
        columns = (self._seen + np.arange(len(power))) * self._width // self._segments
        np.add.at(self._image, columns, power @ self._image_bands)
        self._seen += len(power)
        self._rest = self._rest[len(power) * self._hop :]

    def features(self) -> dict[str, float | None]:
        """RMS, peak and crest factor; zero crossings a sample; centre and maximum of the power over frequency; mean decibels of mel bands up to 8 kHz."""
        count = self.frames * self._channels
        rms = float(np.sqrt(self._squares / count))
        power = self._power[1:]
        total = float(power.sum())
        frequencies = np.arange(1, len(self._power)) * (self._rate / self.window_length)
        values: dict[str, float | None] = {
            "rms": rms,
            "peak": self._peak,
            "crest_factor": self._peak / rms if rms else None,
            "zero_crossing_rate": self._crossings / (count - self._channels),
            "spectral_centroid": float((frequencies * power).sum() / total) if total else None,
            "dominant_frequency": float(frequencies[power.argmax()]) if total else None,
        }
        if self._seen:
            values |= {f"mel_{number}": float(value) / self._seen for number, value in enumerate(self._decibels, 1)}
        return {name: value if value is None or np.isfinite(value) else None for name, value in values.items()}

    def picture(self) -> bytes | None:
        """Time from left to right, frequency from below by the mel scale up to half the rate; 80 dB below the maximum is black."""
        if not self._seen:
            return None
        from PIL import Image

        levels = _decibels(np.nan_to_num(self._image.T[::-1]))
        shades = np.clip(1 + (levels - levels.max()) / _RANGE, 0, 1) * (len(_COLOURS) - 1)
        if levels.max() <= _decibels(0.0):
            shades[:] = 0
        knots = np.arange(len(_COLOURS))
        pixels = np.stack([np.interp(shades, knots, _COLOURS[:, colour]) for colour in range(3)], axis=2)
        target = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).resize((_IMAGE_WIDTH, _IMAGE_BANDS)).save(target, "WEBP", quality=80)
        return target.getvalue()


def _decibels(power: Any) -> Any:
    return 10 * np.log10(np.maximum(power, _FLOOR))


def mel_filters(rate: float, length: int, bands: int, top: float) -> Samples:
    """Triangles of height 1 over the bins of a spectrum of `length` samples, bins × bands, in equal steps of 2595·log10(1 + f/700) from 0 to `top` Hz.

    D. O'Shaughnessy, "Speech Communication" (1987), for the scale.
    """
    mels = np.linspace(0, 2_595 * np.log10(1 + top / 700), bands + 2)
    edges = 700 * (10 ** (mels / 2_595) - 1)
    frequencies = np.arange(length // 2 + 1)[:, None] * (rate / length)
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))
