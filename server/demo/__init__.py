"""The main use case on real data, through the public API: create, upload, train, watch, compare."""

from server.demo.scenario import main

__all__ = ["main"]
