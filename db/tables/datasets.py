"""Datasets, their immutable versions and profiles, uploads, and stored objects."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import (
    Table,
    bigint_column,
    created_by_column,
    enum_column,
    filter_index,
    jsonb_column,
    listing_indexes,
    now_column,
    unique_name_index,
    uuid_primary_key,
)
from db.core.policy import Owned, Through


class Modality(StrEnum):
    """The kind of data of a dataset, a pipeline or a step."""

    TABULAR = "tabular"
    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    SIGNAL = "signal"
    MULTIMODAL = "multimodal"


MODALITIES_WITH_ITEMS = (Modality.SIGNAL, Modality.IMAGE, Modality.AUDIO, Modality.TEXT, Modality.VIDEO, Modality.MULTIMODAL)
"""The kinds of data whose versions have items."""


class ProblemType(StrEnum):
    """The task of a model trained on the data."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    CLUSTERING = "clustering"
    OTHER = "other"


class DatasetSource(StrEnum):
    """The origin of data."""

    UPLOAD = "upload"
    API = "api"
    SCHEDULED = "scheduled"
    IMPORTED = "imported"
    GENERATED = "generated"
    DERIVED = "derived"


class DatasetVersionStatus(StrEnum):
    """The status of a version; only READY ones can be used."""

    PENDING = "pending"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"


class FileFormat(StrEnum):
    """The detected format of the raw file."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"
    EXCEL = "excel"
    NPY = "npy"
    SEGY = "segy"
    MAT = "mat"
    WAV = "wav"
    ZIP = "zip"
    NPZ = "npz"
    TAR = "tar"
    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    TIFF = "tiff"
    GIF = "gif"
    BMP = "bmp"
    FLAC = "flac"
    OGG = "ogg"
    MP3 = "mp3"
    TEXT = "text"
    MP4 = "mp4"
    MOV = "mov"
    WEBM = "webm"
    MKV = "mkv"
    AVI = "avi"
    UNKNOWN = "unknown"


class ColumnType(StrEnum):
    """The type of a column's values."""

    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    STRING = "string"
    CATEGORY = "category"
    DATE = "date"
    DATETIME = "datetime"
    TIME = "time"
    DURATION = "duration"
    DECIMAL = "decimal"
    JSON = "json"
    BINARY = "binary"


class UploadState(StrEnum):
    """The state of an upload. COMPLETED until its ingest has succeeded: a failed one keeps the object for a retry."""

    OPEN = "open"
    COMPLETED = "completed"
    INGESTED = "ingested"
    MISMATCHED = "mismatched"
    ABORTED = "aborted"
    EXPIRED = "expired"


HOLDING_UPLOAD_STATES = (UploadState.OPEN, UploadState.COMPLETED)
"""The states in which the object of an upload may exist and is needed; its announced size counts in the storage quota."""


class SchemaPolicy(StrEnum):
    """What happens to a version that breaks the accepted schema."""

    WARN = "warn"
    FAIL = "fail"


class Dataset(Table, policy=Owned()):
    """A mutable container of versions."""

    __tablename__ = "datasets"
    __table_args__ = (
        unique_name_index("datasets"),
        *listing_indexes("datasets"),
        *(filter_index("datasets", column, deletable=True) for column in ("modality", "problem_type", "source")),
        CheckConstraint("last_number >= 0", name="last_number_not_negative"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    name: Mapped[str]
    description: Mapped[str | None]
    modality: Mapped[Modality] = enum_column("modality", Modality)
    problem_type: Mapped[ProblemType | None] = enum_column("problem_type", ProblemType, nullable=True)
    target_column: Mapped[str | None]
    source: Mapped[DatasetSource] = enum_column("source", DatasetSource)
    schema_policy: Mapped[SchemaPolicy] = enum_column("schema_policy", SchemaPolicy, server_default="warn")
    meta: Mapped[dict[str, Any]] = jsonb_column("{}", name="metadata")
    last_number: Mapped[int] = mapped_column(server_default="0")
    created_by_id: Mapped[UUID | None] = created_by_column()
    created_at: Mapped[datetime] = now_column()
    updated_at: Mapped[datetime] = now_column()
    deleted_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]


class DatasetVersion(Table, policy=Through("dataset_id")):
    """One state of a dataset's data; immutable once READY. `columns`, `issues`, `preview` and `item_summary` are documents, so that one read of the row suffices."""

    __tablename__ = "dataset_versions"
    output_kind = "version"
    __table_args__ = (
        UniqueConstraint("dataset_id", "number"),
        Index("ix_dataset_versions_ready", "dataset_id", text("number DESC"), postgresql_where=text("status = 'ready'")),
        Index("ix_dataset_versions_sha256", "sha256", "size_bytes", postgresql_where=text("status = 'ready'")),
        CheckConstraint(
            "size_bytes >= 0 AND row_count >= 0 AND column_count >= 0 AND item_count >= 0 AND number > 0", name="counts_not_negative"
        ),
    )

    id: Mapped[UUID] = uuid_primary_key()
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="RESTRICT"))
    number: Mapped[int]
    label: Mapped[str | None]
    status: Mapped[DatasetVersionStatus] = enum_column("status", DatasetVersionStatus)
    source: Mapped[DatasetSource] = enum_column("source", DatasetSource)
    original_filename: Mapped[str | None]
    content_type: Mapped[str | None]
    format: Mapped[FileFormat] = enum_column("format", FileFormat, server_default="unknown")
    size_bytes: Mapped[int | None] = bigint_column()
    sha256: Mapped[str | None]
    reading: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    row_count: Mapped[int | None] = bigint_column()
    column_count: Mapped[int | None]
    columns: Mapped[list[Any]] = jsonb_column("[]")
    issues: Mapped[list[Any]] = jsonb_column("[]")
    issue_count: Mapped[int] = bigint_column(server_default="0")
    preview: Mapped[list[Any]] = jsonb_column("[]")
    item_count: Mapped[int | None] = bigint_column()
    item_summary: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    produced_by_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL", use_alter=True), index=True)
    created_at: Mapped[datetime] = now_column()
    updated_at: Mapped[datetime] = now_column()
    ready_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]


class Upload(Table, policy=Owned()):
    """The announced file, sent by one presigned PUT or in parts. `object_key` is only for the upload; an ingest copies the object.

    `part_bytes` is the size of each part but the last, null for one PUT; `multipart_id` is the store's id of an upload in parts, null until
    that has begun. `noticed_at` is when the store told that the object is there, until it was looked at.
    """

    __tablename__ = "uploads"
    __table_args__ = (
        Index("ix_uploads_open", "expires_at", postgresql_where=text("state = 'open'")),
        Index("ix_uploads_noticed", "noticed_at", postgresql_where=text("state = 'open' AND noticed_at IS NOT NULL")),
        Index("ix_uploads_holding", "owner_id", postgresql_include=["size_bytes"], postgresql_where=text("state IN ('open', 'completed')")),
        CheckConstraint("size_bytes >= 0", name="size_not_negative"),
        CheckConstraint("part_bytes > 0", name="parts_have_a_size"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    created_by_id: Mapped[UUID | None] = created_by_column()
    version_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_versions.id", ondelete="CASCADE"), unique=True)
    state: Mapped[UploadState] = enum_column("state", UploadState, server_default="open")
    object_key: Mapped[str] = mapped_column(unique=True)
    filename: Mapped[str]
    content_type: Mapped[str]
    size_bytes: Mapped[int] = bigint_column()
    sha256: Mapped[str | None]
    part_bytes: Mapped[int | None] = bigint_column()
    multipart_id: Mapped[str | None]
    noticed_at: Mapped[datetime | None]
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL", use_alter=True), index=True)
    created_at: Mapped[datetime] = now_column()
    expires_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]


class StoredObject(Table, policy=Owned()):
    """An object in the store; identical bytes of one owner are stored once. A trigger counts the references."""

    __tablename__ = "stored_objects"
    __table_args__ = (
        UniqueConstraint("owner_id", "sha256", "size_bytes"),
        Index("ix_stored_objects_unreferenced", "created_at", postgresql_where=text("reference_count = 0")),
        CheckConstraint("size_bytes >= 0 AND reference_count >= 0", name="counts_not_negative"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    object_key: Mapped[str] = mapped_column(unique=True)
    size_bytes: Mapped[int] = bigint_column()
    sha256: Mapped[str]
    reference_count: Mapped[int] = bigint_column(server_default="0")
    created_at: Mapped[datetime] = now_column()


class DatasetProfile(Table, policy=Through("version_id")):
    """The profile of a version. The report is in the row if below 1 MiB, else in the store; readers do not see which."""

    __tablename__ = "dataset_profiles"
    output_kind = "profile"
    __table_args__ = (
        UniqueConstraint("version_id", "profiler_version"),
        CheckConstraint("num_nonnulls(report, report_object_id) = 1", name="report_lies_somewhere"),
        CheckConstraint("missing_cell_ratio BETWEEN 0 AND 1", name="ratio_is_a_ratio"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    version_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_versions.id", ondelete="CASCADE"), index=True)
    profiler_version: Mapped[str]
    generated_at: Mapped[datetime] = now_column()
    generation_time: Mapped[float]
    is_exact: Mapped[bool]
    row_count: Mapped[int] = bigint_column()
    duplicate_row_count: Mapped[int] = bigint_column()
    missing_cell_ratio: Mapped[float]
    report: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    report_object_id: Mapped[UUID | None] = mapped_column(ForeignKey("stored_objects.id", ondelete="RESTRICT"), index=True)
