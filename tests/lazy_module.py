"""Libraries that take long to import, for tests that few processes run: each process collects all tests."""

from __future__ import annotations

import importlib
from typing import Any


class LazyModule:
    """A module that is imported with the first public attribute that is asked for. Annotate it as `Any`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):  # pytest asks all that it finds in a module for some of these
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)
