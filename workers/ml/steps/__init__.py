"""The pipeline steps. Importing this package stays cheap: heavy libraries are imported inside the functions that use them."""

from workers.ml.steps.registry import DEFINITIONS, STEPS

__all__ = ["DEFINITIONS", "STEPS"]
