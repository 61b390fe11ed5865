"""Videos as a kind of items. They are read by PyAV, which the extra `video` installs."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import IO, Any, Final

from PIL import Image

from workers.ml.errors import BadInput
from workers.ml.items.image_kind import thumbnail
from workers.ml.items.paths import suffix_of
from workers.ml.items.reading import Corrupt, Described, Part
from workers.ml.items.video import NoVideo, format_of, read_video
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.raw import RawFile

_CONTENT_TYPES: Final = {
    "MP4": "video/mp4",
    "MOV": "video/quicktime",
    "WEBM": "video/webm",
    "MKV": "video/x-matroska",
    "AVI": "video/x-msvideo",
}
_FORMATS: Final[Mapping[str, str]] = {".mp4": "MP4", ".m4v": "MP4", ".mov": "MOV", ".webm": "WEBM", ".mkv": "MKV", ".avi": "AVI"}
SUFFIXES: Final = frozenset(_FORMATS)
MISSING_EXTRA: Final = (
    "Videos cannot be read: the extra `video` is not installed. Run `pip install 'trellis[video]'` where the workers run."
)


def can_read_videos() -> bool:
    return find_spec("av") is not None


class VideoKind:
    """MP4, MOV, WebM, Matroska and AVI."""

    name = "videos"
    suffixes = SUFFIXES

    def __init__(self) -> None:
        """Raises BadInput (UNSUPPORTED_FORMAT)."""
        if not can_read_videos():
            raise BadInput("UNSUPPORTED_FORMAT", MISSING_EXTRA)

    def describe(self, content: bytes, path: str) -> Described:
        return self.describe_file(io.BytesIO(content), path)

    def describe_file(self, file: IO[bytes], path: str) -> Described:
        try:
            video = read_video(file)
        except NoVideo as error:
            raise Corrupt(str(error)) from error
        issues = list(video.issues)
        suffix = suffix_of(path)
        if _FORMATS.get(suffix, video.format) != video.format:
            issues.append(("OTHER_FORMAT", f"Its name ends in {suffix}, and it is {video.format}."))
        info = {
            "kind": "video",
            "duration": video.duration,
            "width": video.width,
            "height": video.height,
            "frame_rate": video.frame_rate,
            "frames": video.frames,
            "codec": video.codec,
        }
        preview = thumbnail(Image.fromarray(video.contact_sheet()))
        return Described(info, video.features(), _CONTENT_TYPES[video.format], issues, preview)

    def parts(self, raw: RawFile, filename: str, issues: IssueLog) -> tuple[str, Iterator[Part]] | None:  # noqa: ARG002 - the protocol's signature
        """A single video is the one item."""
        format_name = format_of(raw.head(64))
        return None if format_name is None else (format_name, iter([Part(filename)]))

    def summary(self) -> dict[str, Any]:
        return {}
