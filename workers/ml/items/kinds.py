"""The kinds of data that have items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from workers.ml.items.image_kind import ImageKind
from workers.ml.items.reading import Kind
from workers.ml.items.signal_kind import SignalKind

_KINDS: Final[Mapping[str, Callable[[Mapping[str, Any]], Kind]]] = {
    "IMAGE": lambda _: ImageKind(),
    "SIGNAL": lambda reading: SignalKind(reading.get("sampleRate")),
}


def kind_of(modality: str | None, reading: Mapping[str, Any] | None = None) -> Kind | None:
    """How items of this modality are read, with the options of the upload; None for one without items."""
    make = _KINDS.get(modality or "")
    return None if make is None else make(reading or {})
