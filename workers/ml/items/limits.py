"""Limits on archives and items, in addition to those of tables in `workers.ml.limits`."""

from __future__ import annotations

from typing import Final

from workers.ml.limits import MIB

MAX_MEMBERS: Final = 200_000
"""Members of an archive, folders and ignored files included."""

MAX_ITEM_BYTES: Final = 256 * MIB
"""One item, unpacked."""

MAX_UNPACKED_BYTES: Final = 64 * 1024 * MIB
MAX_UNPACKED_RATIO: Final = 200
MIN_RATIO_BYTES: Final = 256 * MIB
"""An archive may unpack to `MAX_UNPACKED_BYTES`, and to this multiple of its size or `MIN_RATIO_BYTES`, whichever is larger."""

MAX_PATH_LENGTH: Final = 1_000
"""Bytes of a path in UTF-8; an index of the database holds no longer ones."""

MAX_LABEL_LENGTH: Final = 250

MAX_DIRECTORY_BYTES: Final = 128 * MIB
"""The central directory of a ZIP archive, which is read as a whole."""

MAX_CORRUPT_SHARE: Final = 0.10
"""A file is rejected if more than this share of its items cannot be read."""

MAX_MANIFEST_BYTES: Final = 64 * MIB
MAX_MANIFEST_CANDIDATES: Final = 20
MIN_NAMED_SHARE: Final = 0.95
"""A table in an archive is its manifest if one of its columns names at least this share of the other files."""

MAX_ANNOTATIONS: Final = 100
MAX_CAPTIONS: Final = 10
"""Objects and captions that the metadata of an image have; all of them are counted."""

MAX_SIDECAR_BYTES: Final = 1 * MIB
"""A file that says something of one item."""

MAX_YAML_BYTES: Final = 256 * 1024

MAX_LABELS: Final = 1_000
"""Labels that are counted one by one, the most frequent first."""

MAX_CHANNELS: Final = 64
"""Channels of a signal; an array with more on both axes is no signal."""

MAX_FEATURE_CHANNELS: Final = 16
"""Channels whose features are columns of the table."""

MAX_ANALYSED_SECONDS: Final = 300
MAX_ANALYSED_SAMPLES: Final = 1 << 25
"""What is decoded of a recording from its start, the samples of all channels together: a small file can hold days of silence."""

MAX_VIDEO_BYTES: Final = 4096 * MIB
"""A video, which is not read into memory beyond `MAX_ITEM_BYTES`."""

MAX_FRAME_PIXELS: Final = 40_000_000
MAX_FRAMES: Final = 1_000_000
"""Of a video."""

MAX_ANALYSED_VIDEO_SECONDS: Final = 60
MAX_ANALYSED_PIXELS: Final = 2_000_000_000
"""What is decoded of a video from its start, the pixels of all frames together."""

MAX_TEXT_BYTES: Final = 16 * MIB
MAX_TEXT_CELL: Final = 20_000
"""A text document, and the characters of it that are a cell of the table."""

MAX_METADATA_LENGTH: Final = 1_000
MAX_METADATA_FIELDS: Final = 100
"""Characters of one value, and values, that an item takes over from a manifest."""
