"""Videos for tests, made in memory."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

CODECS = {"mp4": "libx264", "mov": "mpeg4", "webm": "libvpx", "matroska": "libx264", "avi": "mpeg4"}
Frame = npt.NDArray[np.uint8]


def video_of(
    frames: Iterable[Frame],
    container: str = "mp4",
    *,
    rate: int = 8,
    codec: str | None = None,
    pixel_format: str = "yuv420p",
    audio: bool = False,
) -> bytes:
    """`frames` have even sides and three channels."""
    import av

    target = io.BytesIO()
    with av.open(target, "w", format=container) as out:
        stream: Any = None
        sound: Any = out.add_stream("aac", rate=8_000) if audio else None
        for pixels in frames:
            if stream is None:
                stream = out.add_stream(codec or CODECS[container], rate=rate)
                stream.width, stream.height, stream.pix_fmt = pixels.shape[1], pixels.shape[0], pixel_format
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
        if sound is not None:
            for start in range(0, 8_192, 1_024):
                block = av.AudioFrame.from_ndarray(np.zeros((1, 1_024), np.float32), format="fltp", layout="mono")
                block.sample_rate, block.pts = 8_000, start
                out.mux(sound.encode(block))
            out.mux(sound.encode())
    return target.getvalue()


def exact_video_of(frames: Iterable[Frame], **options: Any) -> bytes:
    """Of which the frames are decoded as they are given."""
    return video_of(frames, "matroska", codec="ffv1", pixel_format="bgr0", **options)


def shade(value: int, width: int = 64, height: int = 48) -> Frame:
    return np.full((height, width, 3), value, np.uint8)


def moving_bar(count: int = 16, step: int = 4, *, width: int = 64, height: int = 48) -> list[Frame]:
    """A white bar that goes to the right."""
    frames = [shade(20, width, height) for _ in range(count)]
    for number, frame in enumerate(frames):
        frame[:, (number * step) % width : (number * step) % width + 8] = 235
    return frames
