"""Predictions with model versions: on rows that a request brings, and on dataset versions."""

from db.services.predictions.results import add_dataset
from db.services.predictions.submitting import DatasetRequest, RowsRequest, predict, predict_dataset

__all__ = ["DatasetRequest", "RowsRequest", "add_dataset", "predict", "predict_dataset"]
