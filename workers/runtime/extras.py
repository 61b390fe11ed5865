"""Which extras of the package are installed where this worker runs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

_PACKAGES: Final = {"onnx": "skl2onnx", "video": "av", "xgboost": "xgboost"}
"""A package that only the extra installs, of each extra that a body needs."""


def installed_extras() -> list[str]:
    return [extra for extra, package in _PACKAGES.items() if find_spec(package) is not None]
