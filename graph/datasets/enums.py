"""The enums of datasets, published in the schema. `graph` imports them from here, so that none is used without a description."""

from __future__ import annotations

from enum import StrEnum

from db.tables import datasets
from db.tables.datasets import ColumnType, DatasetSource, DatasetVersionStatus, FileFormat, Modality, ProblemType, SchemaPolicy
from graph.core.enums import describe

__all__ = ["ColumnType", "DatasetSource", "DatasetVersionStatus", "FileFormat", "Modality", "ProblemType", "SchemaPolicy", "UploadState"]


class UploadState(StrEnum):
    """The state of an upload as its client sees it."""

    OPEN = "open"
    COMPLETED = "completed"
    ABORTED = "aborted"
    EXPIRED = "expired"


_STORED = datasets.UploadState
PUBLISHED_UPLOAD_STATES = {
    _STORED.OPEN: UploadState.OPEN,
    _STORED.COMPLETED: UploadState.COMPLETED,
    _STORED.INGESTED: UploadState.COMPLETED,
    _STORED.MISMATCHED: UploadState.ABORTED,
    _STORED.ABORTED: UploadState.ABORTED,
    _STORED.EXPIRED: UploadState.EXPIRED,
}
describe(
    UploadState,
    "Whether the file of an upload can still be sent.",
    OPEN="It can be sent until the upload expires, and completed.",
    COMPLETED="It was completed: an INGEST job reads the file, or has read it.",
    ABORTED="It was aborted, or its file was not the one announced and was removed.",
    EXPIRED="It was not completed in time; what had arrived is removed.",
)
describe(
    Modality,
    "A kind of data: the content of a dataset, or the input of a pipeline or a step.",
    TABULAR="Rows and columns.",
    TEXT="Text documents: plain text and Markdown, in an archive or one alone; or a table with a column of texts, which has no items.",
    IMAGE="Images: PNG, JPEG, WebP, TIFF, GIF and BMP, in an archive or one alone.",
    AUDIO="Sound recordings: WAV, FLAC, Ogg (Vorbis or Opus) and MP3, in an archive or one alone.",
    VIDEO="Videos: MP4, MOV, WebM, Matroska and AVI, in an archive or one alone. They need the extra `video` of the installation.",
    SIGNAL="Samples over time, such as vibration: CSV, NPY, NPZ, MAT, WAV and SEG-Y, in an archive or one alone.",
    MULTIMODAL="Several of these combined: an archive with a table, and with the files that a column of it names. A pipeline may have steps of every kind.",
)
describe(
    ProblemType,
    "The task of a model.",
    CLASSIFICATION="Predict the class of a row.",
    REGRESSION="Predict a number.",
    CLUSTERING="Find groups of rows without labels.",
    OTHER="Another task.",
)
describe(
    SchemaPolicy,
    "What happens to a version that breaks the accepted schema of its dataset.",
    WARN="It is READY, and its issues name the columns.",
    FAIL="It is FAILED with SCHEMA_BROKEN.",
)
describe(
    DatasetSource,
    "The origin of data.",
    UPLOAD="A user uploaded a file.",
    API="A program sent its rows with `ingestRows`.",
    SCHEDULED="A schedule had it fetched.",
    IMPORTED="It was fetched from an address.",
    GENERATED="A generator synthesized it.",
    DERIVED="A pipeline derived it from another version.",
)
describe(
    DatasetVersionStatus,
    "The status of a version, from its announcement until it can be used.",
    PENDING="Announced; a job is to generate its data, or fetch it.",
    UPLOADING="Waiting for a file at the presigned URL.",
    UPLOADED="The file has arrived and waits to be read.",
    PROCESSING="A job is reading the file.",
    READY="It can be used, and never changes.",
    FAILED="It could not be read; `issues` and the job's error say why.",
)
describe(
    FileFormat,
    "The format of the raw file, detected from its content, not its name.",
    CSV="Delimited text, with any common delimiter.",
    JSON="One JSON document.",
    JSONL="One JSON value per line.",
    PARQUET="Apache Parquet.",
    EXCEL="An Excel workbook.",
    NPY="A NumPy array, of signals.",
    SEGY="Seismic traces in SEG-Y: each gather is a signal.",
    MAT="A MATLAB file, of signals.",
    WAV="WAVE audio: channels of a signal, or a recording.",
    ZIP="A ZIP archive of signals, images, recordings, videos or texts, or of a table: its Parquet files by split, or it and the files that it names.",
    NPZ="Several NumPy arrays, of signals.",
    TAR="A tar archive of what a ZIP archive may hold, plain or compressed by gzip or Zstandard.",
    PNG="A PNG image.",
    JPEG="A JPEG image.",
    WEBP="A WebP image.",
    TIFF="A TIFF image.",
    GIF="A GIF image.",
    BMP="A BMP image.",
    FLAC="A recording in FLAC.",
    OGG="A recording in Ogg, as Vorbis or Opus.",
    MP3="A recording in MP3.",
    TEXT="Plain text or Markdown.",
    MP4="A video in an MP4 container.",
    MOV="A video in a QuickTime container.",
    WEBM="A video in a WebM container.",
    MKV="A video in a Matroska container.",
    AVI="A video in an AVI container.",
    UNKNOWN="Not inspected yet, or not recognised.",
)
describe(
    ColumnType,
    "The type of the cells of a column.",
    INTEGER="Whole numbers.",
    FLOAT="Numbers with fractions.",
    BOOLEAN="True or false.",
    STRING="Any texts.",
    CATEGORY="Texts with few distinct values.",
    DATE="Dates without a time.",
    DATETIME="Points in time.",
    TIME="Times of day, in cells as ISO 8601: `06:00:00`.",
    DURATION="Lengths of time, in cells as seconds.",
    DECIMAL="Exact numbers of up to 38 digits, in cells as text: whole numbers beyond 64 bits.",
    JSON="Nested values.",
    BINARY="Bytes of any other kind.",
)
