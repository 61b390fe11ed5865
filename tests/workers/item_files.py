"""Ingests an archive in the test process and gives its table and the files of its items, as the worker gives them to a pipeline's body."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from tests.workers.ingest_runner import items_of, run_ingest
from workers.ml.contents.places import ItemFiles


def ingested(folder: Path, content: bytes, name: str, modality: str) -> tuple[pl.DataFrame, ItemFiles]:
    folder.mkdir(exist_ok=True)
    result, frame = run_ingest(folder, content, name, modality=modality)
    places = folder / "places.jsonl"
    with places.open("w", encoding="utf-8") as file:
        for item in items_of(result):
            if item["info"] is not None:
                values = ("key", "info", "byte_offset", "stored_size", "storage", "size_bytes", "in_pack")
                file.write(json.dumps([item[value] for value in values]) + "\n")
    assert "items" in result
    return frame, {"raw": str(folder / "raw"), "pack": result["items"]["pack"], "places": str(places)}
