"""Recordings as a kind of items."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Final

from workers.ml.items.audio import NoSound, format_of, read_sound
from workers.ml.items.reading import Corrupt, Described, Part
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.raw import RawFile

CONTENT_TYPES: Final = {"WAV": "audio/wav", "FLAC": "audio/flac", "OGG": "audio/ogg", "MP3": "audio/mpeg"}
_FORMATS: Final = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3"}


class AudioKind:
    """WAV, FLAC, Ogg with Vorbis or Opus, and MP3."""

    name = "recordings"
    suffixes = frozenset(_FORMATS)

    def describe(self, content: bytes, path: str) -> Described:
        try:
            sound = read_sound(content)
        except NoSound as error:
            raise Corrupt(str(error)) from error
        suffix = PurePosixPath(path).suffix.lower()
        issues = list(sound.issues)
        if _FORMATS.get(suffix, sound.format) != sound.format:
            issues.append(("OTHER_FORMAT", f"Its name ends in {suffix}, and it is {sound.format}."))
        info = {
            "kind": "audio",
            "duration": sound.duration,
            "sample_rate": sound.rate,
            "channels": sound.channels,
            "codec": sound.codec,
        }
        return Described(info, sound.features, CONTENT_TYPES[sound.format], issues, sound.picture)

    def parts(self, raw: RawFile, filename: str, issues: IssueLog) -> tuple[str, Iterator[Part]] | None:  # noqa: ARG002 - the protocol's signature
        """A single recording is the one item."""
        format_name = format_of(raw.head(16))
        return None if format_name is None else (format_name, iter([Part(filename)]))

    def summary(self) -> dict[str, Any]:
        return {}
