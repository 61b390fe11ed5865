"""The kinds of data that have items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from workers.ml.items.audio_kind import AudioKind
from workers.ml.items.image_kind import ImageKind
from workers.ml.items.reading import Kind
from workers.ml.items.signal_kind import SignalKind
from workers.ml.items.text_kind import TABLES, TextKind
from workers.ml.items.video_kind import VideoKind

_KINDS: Final[Mapping[str, Callable[[Mapping[str, Any]], Kind]]] = {
    "AUDIO": lambda _: AudioKind(),
    "IMAGE": lambda _: ImageKind(),
    "SIGNAL": lambda reading: SignalKind(reading.get("sampleRate")),
    "TEXT": lambda reading: TextKind(reading.get("encoding"), has_lines=reading.get("textLines", False)),
    "VIDEO": lambda _: VideoKind(),
}


def has_items(modality: str | None, filename: str) -> bool:
    """Whether a file of this modality has items. Those of a MULTIMODAL one are of several kinds, and lie beside a table."""
    return modality == "MULTIMODAL" or kind_of(modality, filename) is not None


def kind_of(modality: str | None, filename: str, reading: Mapping[str, Any] | None = None) -> Kind | None:
    """How the items of a file of this modality are read, with the options of the upload; None for one without items, as a table of texts is."""
    if modality == "TEXT" and PurePosixPath(filename).suffix.lower() in TABLES:
        return None
    make = _KINDS.get(modality or "")
    return None if make is None else make(reading or {})
