"""Videos as contents: their frames are decoded one after the other each time that they are read, so that no more than one is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Any, Final

import numpy as np

from workers.ml.contents.content import Content, ContentError, ContentNode
from workers.ml.contents.places import ItemPlace, Items
from workers.ml.errors import BadInput
from workers.ml.items import limits
from workers.ml.items.video import NoVideo, check_size, opened
from workers.ml.items.video_kind import MISSING_EXTRA, can_read_videos

_NOTHING: Final = np.zeros((0, 0, 3), dtype=np.float32)
_USUAL_RATE: Final = 25.0  # frames a second, where neither the container nor the frames tell

Choice = Callable[[int, float], bool]
"""Whether a frame is read, by its number from 0 and its seconds from the first. It is asked of each in order, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Film(Content):
    """The first minute of a video. `count` is the number of frames that are decoded, as the ingest counted them, or a guess by the mean rate if there are
    more; those that `choose` refuses are skipped.

    Each frame is an image, as `changes` leave it, in their order.
    """

    file: IO[bytes]
    count: int
    is_guessed: bool = False
    count_by_pixels: int = limits.MAX_FRAMES
    choose: Callable[[], Choice] | None = None
    changes: tuple[Callable[[Content], Content], ...] = ()

    def changed(self, node: ContentNode, function: Callable[[Content], Content]) -> Film:
        """With an operation on images that is applied to each frame once it is read."""

        def change(frame: Content) -> Content:
            try:
                return function(frame)
            except ContentError as error:
                error.node = node
                raise

        return replace(self, changes=(*self.changes, change))

    def counted(self) -> int:
        """The number of frames that are decoded, counted in the file if it was guessed: the rate of a recorded screen may change a hundredfold."""
        if not self.is_guessed:
            return self.count
        try:
            return max(1, min(_count_frames(self.file), self.count_by_pixels))
        except NoVideo:
            return self.count

    def frames(self) -> Iterator[Content]:
        """Yield the frames from the first on. Raises ContentError."""
        found = False
        for values in _decoded(self.file, None if self.choose is None else self.choose(), self.rate or _USUAL_RATE):
            frame = Content("image", values)
            for change in self.changes:
                frame = change(frame)
            found = True
            yield frame
        if not found:
            raise ContentError("has no frame that can be decoded. Make a new version without it.")


def open_film(items: Items, place: ItemPlace) -> Film:
    """Raises BadInput (UNSUPPORTED_FORMAT)."""
    if not can_read_videos():
        raise BadInput("UNSUPPORTED_FORMAT", MISSING_EXTRA)
    info = place.info
    frames, rate = int(info["frames"]), info["frame_rate"] or _USUAL_RATE
    seconds = info["duration"] or frames / rate
    share = min(1.0, limits.MAX_ANALYSED_VIDEO_SECONDS / seconds)
    by_pixels = limits.MAX_ANALYSED_PIXELS // (info["width"] * info["height"])
    count = max(1, min(round(frames * share), by_pixels))
    return Film(
        info["kind"],
        _NOTHING,
        info["frame_rate"],
        file=items.open(place),
        count=count,
        is_guessed=share < 1,
        count_by_pixels=by_pixels,
    )


def _count_frames(file: IO[bytes]) -> int:
    """Count those within the time limit without decoding them. Packets come in the order of decoding, a few frames from that of time."""
    count = 0
    first: float | None = None
    with opened(file) as (container, stream, _):
        for packet in container.demux(stream):
            if not packet.size or packet.pts is None:
                continue
            time = float(packet.pts * packet.time_base)
            first = time if first is None else first
            if time - first < limits.MAX_ANALYSED_VIDEO_SECONDS:
                count += 1
            elif packet.is_keyframe:
                break
    return count


def _decoded(file: IO[bytes], choose: Choice | None, rate: float) -> Iterator[np.ndarray]:
    """Yield the chosen frames as they are to be seen, within the limits of the ingest. A frame that cannot be decoded is left out, as there."""
    from av.error import FFmpegError  # an extra

    number = pixels = 0
    first: float | None = None
    try:
        with opened(file) as (container, stream, _):
            for packet in container.demux(stream):
                try:
                    frames: Any = packet.decode()
                except FFmpegError:
                    continue
                for frame in frames:
                    check_size(frame.width, frame.height)
                    time = number / rate if frame.time is None else float(frame.time)
                    first = time if first is None else first
                    time -= first
                    pixels += frame.width * frame.height
                    if number and (time >= limits.MAX_ANALYSED_VIDEO_SECONDS or pixels > limits.MAX_ANALYSED_PIXELS):
                        return
                    if choose is None or choose(number, time):
                        values = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)  # both count against the clock
                        yield np.divide(values, 255, dtype=np.float32)
                    number += 1
    except NoVideo as error:
        raise ContentError(f"{error}. Make a new version without it.") from error
