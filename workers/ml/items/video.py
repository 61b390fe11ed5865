"""Reads videos: what their container says, and features of frames that are sampled from their beginning.

The container is told by its first bytes and given to FFmpeg by name, so that it recognises no playlists, which would open other files. Everything is
bounded: pixels of a frame, pixels that are decoded, frames, and seconds.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from workers.ml.items import limits

_BRANDS_OF_IMAGES: Final = (b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1", b"avif", b"avis")
_BOXES: Final = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_DEMUXERS: Final = {"MP4": "mov", "MOV": "mov", "WEBM": "matroska", "MKV": "matroska", "AVI": "avi"}
_OPTIONS: Final = {"protocol_whitelist": "none"}  # nothing is opened because a file says so
_SAMPLE_SECONDS: Final = 0.25
_SAMPLE_SIDE: Final = 128  # pixels of a sampled frame
_CUT: Final = 0.5  # share of the pixels whose colour is another, of 64 colours
_MIN_LOST_SHARE: Final = 0.05  # of the frames or the seconds, by which a container may say too much

Pixels = npt.NDArray[np.uint8]


class NoVideo(Exception):
    """The bytes are no video that can be read; the message says why."""


@dataclass(slots=True)
class Video:
    """`frames` are those in the file; the features are of the sampled ones."""

    format: str
    codec: str
    width: int
    height: int
    frames: int
    frame_rate: float | None
    duration: float | None
    has_audio: bool
    samples: list[Pixels] = field(default_factory=list[Pixels])
    issues: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def features(self) -> dict[str, float | int | None]:
        """Brightness, contrast and motion from 0 to 1; `motion` is the mean change of brightness between samples, four a second."""
        values = [sample.astype(np.float64) / 255 for sample in self.samples]
        light = [value @ (0.299, 0.587, 0.114) for value in values]
        brightness = [float(value.mean()) for value in light]
        motion = [float(np.abs(after - before).mean()) for before, after in pairwise(light)]
        shares = [_colour_shares(sample) for sample in self.samples]
        return {
            "duration": self.duration,
            "width": self.width,
            "height": self.height,
            "frame_rate": self.frame_rate,
            "frames": self.frames,
            "brightness": float(np.mean(brightness)),
            "brightness_variance": float(np.var(brightness)),
            "contrast": float(np.mean([value.std() for value in light])),
            "colourfulness": float(np.mean([_colourfulness(value) for value in values])),
            "motion": float(np.mean(motion)) if motion else None,
            "motion_variance": float(np.var(motion)) if motion else None,
            "cuts": sum(float(np.abs(after - before).sum()) / 2 > _CUT for before, after in pairwise(shares)),
            "has_audio": int(self.has_audio),
        }

    def contact_sheet(self) -> Pixels:
        """Four frames from beginning to end, or the first of less."""
        if len(self.samples) < 4:
            return self.samples[0]
        last = len(self.samples) - 1
        first, second, third, fourth = (self.samples[index * last // 3][::2, ::2] for index in range(4))
        return np.vstack([np.hstack([first, second]), np.hstack([third, fourth])])


def format_of(head: bytes) -> str | None:
    """The format that the first 64 bytes are of."""
    if head[4:8] in _BOXES:
        brand = head[8:12]
        if head[4:8] == b"ftyp" and brand in _BRANDS_OF_IMAGES:
            return None
        return "MP4" if head[4:8] == b"ftyp" and brand != b"qt  " else "MOV"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "WEBM" if b"webm" in head[:64] else "MKV"
    return "AVI" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None


@contextmanager
def opened(file: IO[bytes]) -> Generator[tuple[Any, Any, str]]:
    """The container, the video stream, which is ready to be decoded, and the format. Raises `NoVideo`, also for what FFmpeg raises inside."""
    import av
    from av.error import FFmpegError

    file.seek(0)
    format_name = format_of(file.read(64))
    file.seek(0)
    if format_name is None:
        raise NoVideo(f"is no video in one of the formats {', '.join(_DEMUXERS)}")
    try:
        with av.open(file, format=_DEMUXERS[format_name], options=_OPTIONS, metadata_errors="replace") as container:
            yield container, _stream(container), format_name
    except (FFmpegError, ValueError, OverflowError, MemoryError) as error:
        raise NoVideo("is damaged or cut off") from error


def _stream(container: Any) -> Any:
    stream = next((stream for stream in container.streams.video if not stream.disposition & _attached_picture()), None)
    if stream is None:
        raise NoVideo("has no video" if container.streams.audio else "is damaged or cut off")
    context = stream.codec_context
    if context is None:
        raise NoVideo("is encoded in a way that cannot be decoded")
    check_size(context.width, context.height)
    context.thread_count = 1  # a body has one processor
    context.options = {"max_pixels": str(limits.MAX_FRAME_PIXELS)}
    return stream


def read_video(file: IO[bytes]) -> Video:
    """Raises `NoVideo`."""
    with opened(file) as (container, stream, format_name):
        return _read(container, stream, format_name)


def _read(container: Any, stream: Any, format_name: str) -> Video:
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate
    video = Video(
        format_name,
        str(context.codec.canonical_name).upper(),
        context.width,
        context.height,
        frames=0,
        frame_rate=None if not rate else float(rate),
        duration=None,
        has_audio=bool(container.streams.audio),
    )
    decoder = _Decoder(stream, video)
    end = 0.0
    for packet in container.demux([stream, *container.streams.audio]):
        if not packet.size:
            if packet.stream is stream:
                decoder.decode(packet)  # what it has kept back
            continue
        if packet.pts is not None and packet.time_base is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream is not stream:
            continue
        video.frames += 1
        if video.frames > limits.MAX_FRAMES:
            raise NoVideo(f"has more than {limits.MAX_FRAMES:,} frames")
        decoder.is_cut_off = packet.is_corrupt
        decoder.decode(packet)
    _check_whole(container, stream, decoder, video, end)
    decoder.finish()
    return video


def _check_whole(container: Any, stream: Any, decoder: _Decoder, video: Video, end: float) -> None:
    """Containers that are cut off have their header alone to say so."""
    if not video.frames:
        raise NoVideo("has no frame")
    if stream.frames and video.frames < (1 - _MIN_LOST_SHARE) * stream.frames:
        raise NoVideo(f"is cut off: its header says {stream.frames:,} frames, and the data ends after {video.frames:,}")
    said = None if container.duration is None else container.duration / 1_000_000
    if said is not None and end < (1 - _MIN_LOST_SHARE) * said - 2 / (video.frame_rate or 25):
        raise NoVideo(f"is cut off: its header says {said:.2f} seconds, and the data ends after {end:.2f}")
    if decoder.is_cut_off:
        raise NoVideo("is cut off in its last frame")
    video.duration = said if said is not None and said > 0 else end or None


def _attached_picture() -> Any:
    from av.stream import Disposition

    return Disposition.attached_pic


def check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise NoVideo("does not say the size of its frames, or has none")
    if width * height > limits.MAX_FRAME_PIXELS:
        raise NoVideo(f"has frames of {width:,}×{height:,} pixels; the maximum is {limits.MAX_FRAME_PIXELS:,}")


class _Decoder:
    """Decodes frames until the limits are met, and keeps a sample four times a second."""

    def __init__(self, stream: Any, video: Video) -> None:
        self.is_cut_off = False
        self._stream = stream
        self._video = video
        self._decoded = 0
        self._pixels = 0
        self._damaged = 0
        self._next_time = 0.0
        self._is_done = False

    def decode(self, packet: Any) -> None:
        if self._is_done:
            return
        from av.error import FFmpegError

        try:
            frames = packet.decode()
        except FFmpegError:
            self._damaged += 1
            return
        for frame in frames:
            self._take(frame)

    def _take(self, frame: Any) -> None:
        check_size(frame.width, frame.height)
        time = frame.time if frame.time is not None else self._decoded / (self._video.frame_rate or 25)
        self._decoded += 1
        self._pixels += frame.width * frame.height
        if time >= limits.MAX_ANALYSED_VIDEO_SECONDS or self._pixels > limits.MAX_ANALYSED_PIXELS:
            self._is_done = bool(self._video.samples)
        if time < self._next_time and self._video.samples:
            return
        self._next_time = time + _SAMPLE_SECONDS
        sample = _sample(frame)
        if self._video.samples and sample.shape != self._video.samples[0].shape:
            return  # the size changed on the way, as of a recorded screen
        self._video.samples.append(sample)
        if len(self._video.samples) == 1:
            turned = (frame.rotation // 90) % 2
            self._video.width, self._video.height = (frame.height, frame.width) if turned else (frame.width, frame.height)

    def finish(self) -> None:
        """Raises `NoVideo` if no frame could be decoded, or less than nine of ten."""
        tried = self._decoded + self._damaged
        if not self._video.samples or self._damaged > limits.MAX_CORRUPT_SHARE * tried:
            raise NoVideo(f"is damaged: {self._damaged:,} of {tried:,} frames cannot be decoded" if tried else "has no frame")
        if self._damaged:
            self._video.issues.append(("DAMAGED_FRAMES", f"{self._damaged:,} of {tried:,} frames cannot be decoded."))


def _sample(frame: Any) -> Pixels:
    """The frame as it is to be seen, of at most 128×128 pixels, with even sides."""
    scale = min(1.0, _SAMPLE_SIDE / max(frame.width, frame.height))
    width, height = (max(2, round(side * scale) // 2 * 2) for side in (frame.width, frame.height))
    pixels = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))  # both count against the clock


def _colourfulness(values: npt.NDArray[np.float64]) -> float:
    """D. Hasler and S. Süsstrunk, "Measuring colourfulness in natural images" (2003), of values from 0 to 1."""
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    first, second = red - green, (red + green) / 2 - blue
    return float(np.hypot(first.std(), second.std()) + 0.3 * np.hypot(first.mean(), second.mean()))


def _colour_shares(sample: Pixels) -> npt.NDArray[np.float64]:
    """The share of pixels that each of 4×4×4 colours has."""
    bins = (sample // 64).reshape(-1, 3) @ np.array([16, 4, 1])
    return np.bincount(bins, minlength=64) / len(bins)
