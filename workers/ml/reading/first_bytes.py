"""The first four bytes of many texts at once, without a look at the texts themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

FirstBytes = np.ndarray[Any, np.dtype[np.uint32]]

_BYTES_OF_VIEW = 16


def first_bytes(text: pl.Series) -> FirstBytes:
    """The first byte of a text is the lowest of its number; missing bytes are zero, and a missing text has any number.

    Polars keeps a text as a view of 16 bytes, as Arrow does: its length, and its first four bytes or, up to twelve, all of them
    (https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout). An expression on texts costs twenty times as much.
    """
    array = text.to_arrow(compat_level=pl.CompatLevel.newest())
    if not len(array):
        return np.empty(0, np.uint32)
    views = np.frombuffer(array.buffers()[1], "<u4", count=len(array) * 4, offset=array.offset * _BYTES_OF_VIEW)
    return views[1::4].copy()
