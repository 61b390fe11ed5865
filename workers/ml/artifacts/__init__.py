"""Artifacts of a training: model file, signature, feature importance, plots and model card."""

from workers.ml.artifacts.writer import write_artifacts

__all__ = ["write_artifacts"]
