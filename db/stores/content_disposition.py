"""The header by which a browser saves a file under its name."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote


def content_disposition(filename: str) -> str:
    """Return a Content-Disposition (RFC 6266) that saves under `filename`: in ASCII for old clients, in full as RFC 5987 encodes it."""
    name = re.sub(r"[/\\]", "_", "".join(c for c in filename if unicodedata.category(c)[0] != "C")).strip()[:200] or "download"
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    ascii_name = re.sub(r'["%;\\]', "_", ascii_name).strip() or "download"
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"
