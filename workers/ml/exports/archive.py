"""All files of an export as one: a zip archive that stores them as they are, with the same bytes each time."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from workers.ml.exports.source import ARCHIVE, WrittenFile, written

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time of a zip archive: that of writing must not change the bytes
MODE = 0o644 << 16


def pack(files: Sequence[WrittenFile], path: Path, filename: str, top: str) -> WrittenFile:
    """Write the archive; its files lie in the folder `top`."""
    with ZipFile(path, "w", ZIP_STORED, allowZip64=True) as archive:
        for file in sorted(files, key=lambda file: file["member"]):
            member = ZipInfo(f"{top}/{file['member']}", EPOCH)
            member.external_attr = MODE
            member.file_size = file["size"]
            with Path(file["path"]).open("rb") as content, archive.open(member, "w", force_zip64=file["size"] >= 2**31) as target:
                shutil.copyfileobj(content, target, 1 << 20)
    return written(path, filename, "application/zip", None, ARCHIVE)
