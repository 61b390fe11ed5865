"""Import all modules of a package, so that their declarations are registered without a list of modules."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module


@cache
def import_submodules(package: str) -> tuple[str, ...]:
    """Import the direct submodules of a package and return their names; repeated calls cost nothing."""
    names = tuple(f"{package}.{module.name}" for module in pkgutil.iter_modules(import_module(package).__path__))
    for name in names:
        import_module(name)
    return names
