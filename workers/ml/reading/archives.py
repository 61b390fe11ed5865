"""What a ZIP archive or an OLE file holds that is no workbook."""

from __future__ import annotations

import mmap
import zipfile
from pathlib import Path
from typing import Final

from workers.ml.reading.issues import short_repr

_AS_WORKBOOK: Final = "Save its table as .xlsx or CSV and upload that."
# (beginning of the name of a part, name for users)
_ZIP_PARTS: Final[list[tuple[str, str]]] = [
    ("word/", "a Word document (.docx)"),
    ("ppt/", "a PowerPoint presentation (.pptx)"),
    ("Index/", "an Apple Numbers, Pages or Keynote document"),
    ("META-INF/MANIFEST.MF", "a Java archive"),
]
# (name of a stream, name for users)
_OLE_STREAMS: Final[list[tuple[str, str]]] = [
    ("WordDocument", "a Word document (.doc)"),
    ("PowerPoint Document", "a PowerPoint presentation (.ppt)"),
    ("__properties_version1.0", "an Outlook message (.msg)"),
]
_ENCRYPTED: Final = "EncryptedPackage"


def foreign_zip(path: Path) -> tuple[str, str] | None:
    """Return what an archive without a workbook is, and the way out; None with a workbook, or if its directory cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.replace("\\", "/").lstrip("/") for name in archive.namelist()]
            kind = archive.read("mimetype")[:200].decode("ascii", "replace") if "mimetype" in names else ""
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, KeyError):
        return None
    if any(name.lower().startswith("xl/") for name in names):
        return None
    if kind.startswith("application/vnd.oasis.opendocument."):
        return f"an OpenDocument file ({kind.rpartition('.')[2].strip()})", _AS_WORKBOOK
    for part, found in _ZIP_PARTS:
        if any(name.startswith(part) for name in names):
            return found, _AS_WORKBOOK
    listed = ", ".join(short_repr(name, 40) for name in names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
    return f"a ZIP archive ({listed or 'without files'})", "Unpack it and upload the table inside."


def foreign_ole(path: Path) -> str | None:
    """Return what an OLE file is that is no workbook, if it is known."""
    return next((found for stream, found in _OLE_STREAMS if _has_stream(path, stream)), None)


def is_encrypted_ole(path: Path) -> bool:
    return _has_stream(path, _ENCRYPTED)


def _has_stream(path: Path, name: str) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(name.encode("utf-16-le")) >= 0
