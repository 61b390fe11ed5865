"""What the retention of rows has removed, and where it was archived."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, bigint_column, now_column
from db.core.policy import Internal


class DroppedPartition(Table, policy=Internal("Which months of a table were let go, for the retention and for operators.")):
    """A month of a partitioned table that was dropped, or archived to be dropped. A partition of its name is in its place, with what stays.

    `rows` and `size_bytes` are those of the partition as it was, of all `drops`, `kept_rows` the rows that stay. The archive is that of the
    last drop; `archived_rows` says how many rows it has.
    """

    __tablename__ = "dropped_partitions"
    __table_args__ = (
        CheckConstraint("drops >= 0 AND rows >= 0 AND kept_rows >= 0 AND size_bytes >= 0", name="counts_not_negative"),
        CheckConstraint("num_nonnulls(archive_key, archive_bytes, archive_sha256, archived_rows) IN (0, 4)", name="archive_is_whole"),
        CheckConstraint("(drops > 0) = (dropped_at IS NOT NULL)", name="dropped_at_says_dropped"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    table_name: Mapped[str]
    drops: Mapped[int] = mapped_column(server_default="0")
    rows: Mapped[int] = bigint_column(server_default="0")
    kept_rows: Mapped[int] = bigint_column(server_default="0")
    size_bytes: Mapped[int] = bigint_column(server_default="0")
    archive_key: Mapped[str | None]
    archive_bytes: Mapped[int | None] = mapped_column(BigInteger)
    archive_sha256: Mapped[str | None]
    archived_rows: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = now_column()
    dropped_at: Mapped[datetime | None]


class RetentionTotal(Table, policy=Internal("What the retention has removed, for operators.")):
    """How many rows and partitions of a table the retention has removed, ever."""

    __tablename__ = "retention_totals"
    __table_args__ = (CheckConstraint("rows >= 0 AND partitions >= 0", name="counts_not_negative"),)

    table_name: Mapped[str] = mapped_column(primary_key=True)
    rows: Mapped[int] = bigint_column(server_default="0")
    partitions: Mapped[int] = bigint_column(server_default="0")
