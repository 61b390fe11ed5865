"""Imported first by every Python process of the harness, whose PYTHONPATH has this folder; patches only workers."""

from __future__ import annotations

import sys

if "server.cli" in sys.orig_argv and "worker" in sys.orig_argv:
    from tests.faults import hooks

    hooks.install()
