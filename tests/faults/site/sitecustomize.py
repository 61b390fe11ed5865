"""Python imports this first in every process that the harness starts, for this folder is on their PYTHONPATH; it changes workers alone."""

from __future__ import annotations

import sys

if "server.cli" in sys.orig_argv and "worker" in sys.orig_argv:
    from tests.faults import hooks

    hooks.install()
