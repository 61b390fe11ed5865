"""The guide for clients documents exactly the codes that errors can have."""

from __future__ import annotations

import re
from pathlib import Path

from graph.execution.errors import CODES

GUIDE = Path(__file__).parents[2] / "docs" / "clients.md"


def test_the_guide_explains_every_code() -> None:
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", GUIDE.read_text(), re.MULTILINE)) == CODES
