"""Ingests an archive in the test process and gives its table and the files of its items, as the worker gives them to a pipeline's body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from tests.workers.ingest_runner import items_of, run_ingest
from tests.workers.pipeline_runner import PipelineRecorder, artifact_path, column_schema
from workers.ml.contents.places import ItemFiles
from workers.ml.prediction.body import DatasetSpec, predict_dataset

_PLACE = ("key", "info", "byte_offset", "stored_size", "storage", "size_bytes", "in_pack")


def ingested(folder: Path, content: bytes, name: str, modality: str, details: tuple[str, ...] = ()) -> tuple[pl.DataFrame, ItemFiles]:
    """Each line of the places has these `details` of an item as well."""
    folder.mkdir(exist_ok=True)
    result, frame = run_ingest(folder, content, name, modality=modality)
    places = folder / "places.jsonl"
    with places.open("w", encoding="utf-8") as file:
        for item in items_of(result):
            if item["info"] is not None:
                file.write(json.dumps([item[value] for value in (*_PLACE, *details)]) + "\n")
    assert "items" in result
    return frame, {"raw": str(folder / "raw"), "pack": result["items"]["pack"], "places": str(places)}


def predict_items(folder: Path, result: Mapping[str, Any], frame: pl.DataFrame, items: ItemFiles) -> Any:
    """Predict a version with items by the model of a training's result."""
    parquet, output = folder / "predicted.parquet", folder / "predicted"
    frame.write_parquet(parquet)
    output.mkdir()
    model, signature = (str(artifact_path(result, role)) for role in ("MODEL", "SIGNATURE"))
    spec: DatasetSpec = {
        "model": model,
        "signature": signature,
        "parquet": str(parquet),
        "columns": column_schema(frame),
        "folder": str(output),
        "items": items,
    }
    return predict_dataset(spec, PipelineRecorder())
