"""What a training leaves beside its numbers: the model file, its signature, importances, plots and a card."""

from workers.ml.artifacts.writer import write_artifacts

__all__ = ["write_artifacts"]
