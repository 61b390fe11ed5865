"""What training, validation and test data are called."""

from __future__ import annotations

from typing import Final

SPLITS: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of folders, in manifests and in columns, in lower case, with the name that an item's split has."""
