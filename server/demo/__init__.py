"""The main job on real input, through the public API alone: create, upload, train, watch, compare."""

from server.demo.scenario import main

__all__ = ["main"]
