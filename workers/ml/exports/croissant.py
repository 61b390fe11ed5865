"""Croissant 1.0: a description of the files of a dataset, for machines. https://docs.mlcommons.org/croissant/docs/croissant-spec.html"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workers.ml.exports.source import DESCRIPTION, ExportSpec, WrittenFile, written

FILENAME = "croissant.json"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_DATA_TYPES = {
    "INTEGER": "sc:Integer",
    "FLOAT": "sc:Float",
    "BOOLEAN": "sc:Boolean",
    "DATE": "sc:Date",
    "DATETIME": "sc:DateTime",
    "TIME": "sc:Time",
}
_TABLES = ("text/csv", "application/json", "application/jsonlines", "application/vnd.apache.parquet")
"""The media types whose rows Croissant can describe; it has none for TFRecord and safetensors."""


def describe(spec: ExportSpec, types: dict[str, str], files: Sequence[WrittenFile], folder: Path) -> WrittenFile:
    """Write the description beside the files."""
    source = spec["source"]
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": source["name"],
        "description": source["description"] or f"Version {source['number']} of the dataset {source['name']}.",
        "version": f"{source['number']}.0.0",
        "datePublished": source["published"],
        "citeAs": f"{source['name']}, version {source['number']}, {source['published'][:4]}",
        **({"license": source["license"]} if source["license"] else {}),
        **({"url": source["url"]} if source["url"] else {}),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": file["filename"],
                "name": file["filename"],
                "contentUrl": file["member"],
                "contentSize": f"{file['size']} B",
                "encodingFormat": file["content_type"],
                "sha256": file["sha256"],
            }
            for file in files
        ],
    }
    tables = [file for file in files if file["rows"] is not None and _table_type(file) in _TABLES]
    if tables:
        document["recordSet"] = [_record_set(file, types, is_only=len(tables) == 1) for file in tables]
    path = folder / FILENAME
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return written(path, FILENAME, "application/ld+json", None, DESCRIPTION)


def _table_type(file: WrittenFile) -> str:
    return file["content_type"].partition(";")[0]


def _record_set(file: WrittenFile, types: dict[str, str], *, is_only: bool) -> dict[str, Any]:
    name = "rows" if is_only else re.sub(r"[^A-Za-z0-9_-]+", "-", file["filename"].partition(".")[0])
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": column,
                "dataType": _DATA_TYPES.get(column_type, "sc:Text"),
                "source": {"fileObject": {"@id": file["filename"]}, "extract": _extract(column, _table_type(file))},
            }
            for column, column_type in types.items()
        ],
    }


def _extract(column: str, content_type: str) -> dict[str, str]:
    if content_type == "application/json":
        return {"jsonPath": f"$[*][{json.dumps(column, ensure_ascii=False)}]"}
    return {"column": column}
