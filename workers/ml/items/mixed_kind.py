"""Files of several kinds in one archive, each read as what its content is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Final

from workers.ml.items import limits
from workers.ml.items.audio import format_of as audio_format
from workers.ml.items.audio_kind import AudioKind
from workers.ml.items.image_kind import ImageKind, is_image
from workers.ml.items.paths import suffix_of
from workers.ml.items.reading import Corrupt, Described, Kind, Part
from workers.ml.items.signal_kind import SignalKind
from workers.ml.items.text_kind import TextKind
from workers.ml.items.video import format_of as video_format
from workers.ml.items.video_kind import MISSING_EXTRA, SUFFIXES, VideoKind, can_read_videos
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.raw import RawFile

_HEAD: Final = 64
# A WAVE file is a recording, although a signal may be one too.
_BY_CONTENT: Final[tuple[tuple[str, Callable[[bytes], bool]], ...]] = (
    ("image", is_image),
    ("audio", lambda head: audio_format(head) is not None),
    ("video", lambda head: video_format(head) is not None),
    ("signal", lambda head: head.startswith((b"\x93NUMPY", b"MATLAB 5.0", b"\x89HDF\r\n\x1a\n"))),
)


class MixedKind:
    """Of a file whose content does not say its kind, the extension does."""

    name = "files"

    def __init__(self, rate: float | None) -> None:
        self._kinds: Mapping[str, Kind] = {"image": ImageKind(), "audio": AudioKind(), "text": TextKind(), "signal": SignalKind(rate)}
        if can_read_videos():
            self._kinds = {**self._kinds, "video": VideoKind()}
        self.suffixes = frozenset[str]().union(*(kind.suffixes for kind in self._kinds.values()))
        self._has_signals = False

    def describe(self, content: bytes, path: str) -> Described:
        head, suffix = content[:_HEAD], suffix_of(path)
        name = next((name for name, matches in _BY_CONTENT if matches(head)), None)
        name = name or ("video" if suffix in SUFFIXES else None)
        name = name or next((name for name, kind in self._kinds.items() if suffix in kind.suffixes), None)
        if name is None:
            raise Corrupt(f"is no image, recording, text, signal or video: neither its content nor its extension {suffix!r} is of one")
        if name not in self._kinds:
            raise Corrupt(f"is a video. {MISSING_EXTRA.removesuffix('.')}")
        described = self._kinds[name].describe(content, path)
        self._has_signals = self._has_signals or name == "signal"
        return described

    def describe_file(self, file: IO[bytes], path: str) -> Described:
        head = file.read(_HEAD)
        file.seek(0)
        if video_format(head) is None or not can_read_videos():
            raise Corrupt(f"has more than {limits.MAX_ITEM_BYTES:,} bytes, which is the maximum of all but videos")
        return VideoKind().describe_file(file, path)

    def parts(self, raw: RawFile, filename: str, issues: IssueLog) -> tuple[str, Iterator[Part]] | None:  # noqa: ARG002 - the protocol's signature
        """A file alone has no table that names it."""
        return None

    def summary(self) -> dict[str, Any]:
        return self._kinds["signal"].summary() if self._has_signals else {}
