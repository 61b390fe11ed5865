"""The queues that jobs wait in. A worker serves some of them, or all."""

from __future__ import annotations

QUEUES = ("default", "upload", "text", "tabular", "image", "audio", "video", "signal")
