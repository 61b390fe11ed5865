"""Croissant 1.0: a description of the files of a dataset, for machines. https://docs.mlcommons.org/croissant/docs/croissant-spec.html"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
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
_MEDIA_TYPES = {"application/vnd.apache.parquet": "application/x-parquet"}
"""Those by which the library mlcroissant reads a file, where they are not the registered ones. It compares them without parameters."""
_TABLES = ("text/csv", "application/json", "application/jsonlines", "application/x-parquet")
"""The media types whose rows Croissant can describe; it has none for TFRecord and safetensors."""


_CONTENT_TYPES = {"image": "sc:ImageObject", "audio": "sc:AudioObject", "video": "sc:VideoObject"}
_ARCHIVES = ("application/x-tar", "application/zip")


def describe(
    spec: ExportSpec, types: dict[str, str], files: Sequence[WrittenFile], folder: Path, extensions: Mapping[str, str]
) -> WrittenFile:
    """Write the description beside the files. `extensions` are those of the items in archives among them, each with its media type."""
    source = spec["source"]
    number, published = source["number"], source["published"]
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": source["name"],
        "description": source["description"]
        or f"{'A version' if number is None else f'Version {number}'} of the dataset {source['name']}.",
        **({} if number is None else {"version": f"{number}.0.0"}),
        **({} if published is None else {"datePublished": published}),
        "citeAs": source["name"] if number is None or published is None else f"{source['name']}, version {number}, {published[:4]}",
        **({"license": source["license"]} if source["license"] else {}),
        **({"url": source["url"]} if source["url"] else {}),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": file["filename"],
                "name": file["filename"],
                "contentUrl": file["member"],
                "contentSize": f"{file['size']} B",
                "encodingFormat": _media_type(file),
                "sha256": file["sha256"],
            }
            for file in files
        ],
    }
    tables = [file for file in files if file["rows"] is not None and _media_type(file) in _TABLES and _is_described(spec)]
    record_sets = [_record_set(file, types, is_only=len(tables) == 1) for file in tables]
    archives = [{"@id": file["filename"]} for file in files if file["content_type"] in _ARCHIVES]
    for extension, content_type in sorted(extensions.items()):
        document["distribution"].append(_file_set(extension, content_type, archives))
        record_sets.append(_item_set(extension, content_type))
    if record_sets:
        document["recordSet"] = record_sets
    path = folder / FILENAME
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return written(path, FILENAME, "application/ld+json", None, DESCRIPTION)


def _file_set(extension: str, content_type: str, archives: Sequence[dict[str, str]]) -> dict[str, Any]:
    name = f"{extension}-files"
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "containedIn": archives,
        "encodingFormat": content_type,
        "includes": f"**/*.{extension}",
    }


def _item_set(extension: str, content_type: str) -> dict[str, Any]:
    """A record for each item: its path in its archive, and its content."""
    source = {"@id": f"{extension}-files"}
    content = _CONTENT_TYPES.get(content_type.partition("/")[0], "sc:Text")
    fields = (("path", "sc:Text", "fullpath"), ("content", content, "content"))
    return _records(
        f"{extension}-items",
        ((name, data_type, {"fileSet": source, "extract": {"fileProperty": taken}}) for name, data_type, taken in fields),
    )


def _records(name: str, fields: Iterable[tuple[str, str, dict[str, Any]]]) -> dict[str, Any]:
    """A set of records whose `fields` are (name, type, source) each."""
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {"@type": "cr:Field", "@id": f"{name}/{field}", "name": field, "dataType": data_type, "source": source}
            for field, data_type, source in fields
        ],
    }


def _is_described(spec: ExportSpec) -> bool:
    """Whether Croissant can say how the rows are read: it takes CSV to have commas and a header."""
    options = spec["options"]
    return spec["format"] != "CSV" or (options["delimiter"] == "," and options["header"])


def _media_type(file: WrittenFile) -> str:
    media_type = file["content_type"].partition(";")[0]
    return _MEDIA_TYPES.get(media_type, media_type)


def _record_set(file: WrittenFile, types: dict[str, str], *, is_only: bool) -> dict[str, Any]:
    name = "rows" if is_only else re.sub(r"[^A-Za-z0-9_-]+", "-", file["filename"].partition(".")[0])
    file_object = {"@id": file["filename"]}
    return _records(
        name,
        (
            (column, _DATA_TYPES.get(column_type, "sc:Text"), {"fileObject": file_object, "extract": _extract(column, _media_type(file))})
            for column, column_type in types.items()
        ),
    )


def _extract(column: str, content_type: str) -> dict[str, str]:
    if content_type == "application/json":
        return {"jsonPath": f"$[*][{json.dumps(column, ensure_ascii=False)}]"}
    return {"column": column}
