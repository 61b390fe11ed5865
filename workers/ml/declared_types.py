"""Types that steps of installed packages add to model files; apart from both, since the steps use what reads those files."""

from __future__ import annotations

DECLARED_TYPES: list[str] = []
"""Full names, filled once as the steps are registered."""
