"""Videos are uploaded alone, in their containers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

FORMATS = (
    "csv", "json", "jsonl", "parquet", "excel", "npy", "segy", "mat", "wav", "zip",
    "npz", "tar", "png", "jpeg", "webp", "tiff", "gif", "bmp", "flac", "ogg", "mp3", "text",
)  # fmt: skip
NEW_FORMATS = ("mp4", "mov", "webm", "mkv", "avi")


def upgrade() -> None:
    change_enum(op, "dataset_versions", "format", (*FORMATS, *NEW_FORMATS, "unknown"))


def downgrade() -> None:
    versions = sa.table("dataset_versions", sa.column("format"))
    op.execute(versions.update().where(versions.c.format.in_(NEW_FORMATS)).values(format="unknown"))
    change_enum(op, "dataset_versions", "format", (*FORMATS, "unknown"))
