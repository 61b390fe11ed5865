"""The words of the datasets, published. The graph takes them from here, so that none is used before it is described."""

from __future__ import annotations

from db.tables.datasets import ColumnType, DatasetSource, DatasetVersionStatus, FileFormat, Modality, ProblemType
from graph.core.enums import describe

__all__ = ["ColumnType", "DatasetSource", "DatasetVersionStatus", "FileFormat", "Modality", "ProblemType"]

describe(
    Modality,
    "What kind of data it is: of a dataset what it holds, of a pipeline or a step what it works on.",
    TABULAR="Rows and columns.",
    TEXT="Documents.",
    IMAGE="Pictures.",
    AUDIO="Sound, such as recordings.",
    VIDEO="Moving pictures.",
    SIGNAL="Samples over time, such as vibration or seismic traces.",
    MULTIMODAL="Several of these together.",
)
describe(
    ProblemType,
    "What a model is to do with the data.",
    CLASSIFICATION="Tell which of several classes a row belongs to.",
    REGRESSION="Tell a number.",
    CLUSTERING="Find groups without being told any.",
    OTHER="Something else.",
)
describe(
    DatasetSource,
    "How data came to be here.",
    UPLOAD="Somebody uploaded a file.",
    API="A program sent it.",
    SCHEDULED="It is fetched at set times.",
    IMPORTED="It was brought over from another system.",
    GENERATED="It was made up by a generator.",
    DERIVED="A pipeline made it of another version.",
)
describe(
    DatasetVersionStatus,
    "Where a version stands on its way to being usable.",
    PENDING="Announced; nothing has been sent yet.",
    UPLOADING="A file is awaited at its presigned URL.",
    UPLOADED="The file has come and waits to be read.",
    PROCESSING="A job reads it.",
    READY="It can be used, and will not change.",
    FAILED="It could not be read; `issues` and the job's error say why.",
)
describe(
    FileFormat,
    "What the raw file was found to be, whatever its name says.",
    CSV="Delimited text, of any common delimiter.",
    JSON="One JSON document.",
    JSONL="One JSON value a line.",
    PARQUET="Apache Parquet.",
    EXCEL="An Excel workbook.",
    NPY="An array of NumPy.",
    SEGY="Seismic traces in SEG-Y.",
    MAT="A MATLAB file.",
    WAV="Sound in WAVE.",
    ZIP="An archive of files.",
    UNKNOWN="Not looked into yet, or not recognised.",
)
describe(
    ColumnType,
    "What the cells of a column are.",
    INTEGER="Whole numbers.",
    FLOAT="Numbers with fractions.",
    BOOLEAN="True or false.",
    STRING="Texts of any kind.",
    CATEGORY="Texts of which few differ.",
    DATE="Days without a time.",
    DATETIME="Moments.",
    JSON="Nested values.",
    BINARY="Bytes that are none of these.",
)
