"""What is recorded of the API's use: its requests, and their sums by hour."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, bigint_column, filter_index, jsonb_column, now_column, uuid_primary_key
from db.core.policy import Personal


class ApiRequest(Table, policy=Personal("user_id")):
    """An operation that the API has answered, without its document and variables. Partitioned by month of the id.

    `user_id` is null for one without a token, and then only admins see it. `api_key_id` and `session_id` are no foreign keys: rows are
    written in batches, and what was deleted meanwhile must not hold up the others. `duration` is in seconds.
    """

    __tablename__ = "api_requests"
    __table_args__ = (
        filter_index("api_requests", "user_id"),
        filter_index("api_requests", "api_key_id"),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[UUID] = uuid_primary_key()
    created_at: Mapped[datetime] = now_column()
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    api_key_id: Mapped[UUID | None]
    session_id: Mapped[UUID | None]
    operation_name: Mapped[str | None]
    operation_kind: Mapped[str]
    cost: Mapped[int]
    duration: Mapped[float]
    error_code: Mapped[str | None]
    request_bytes: Mapped[int] = bigint_column()
    response_bytes: Mapped[int] = bigint_column()
    ip_address: Mapped[str | None]
    user_agent: Mapped[str | None]


class ApiMetric(Table, policy=Personal("user_id")):
    """The sums of the requests of a user with an API key, or without one, that had one name and ended within an hour.

    Written with the requests, in their transaction, and kept when they are deleted. `sketch` has the counts of durations by the index of
    `db.core.sketches`.
    """

    __tablename__ = "api_metrics"
    __table_args__ = (
        Index(
            "uq_api_metrics_user_id_hour",
            "user_id",
            "hour",
            "api_key_id",
            "operation_name",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        Index("ix_api_metrics_hour", "hour"),
        CheckConstraint("requests > 0 AND errors BETWEEN 0 AND requests", name="errors_are_requests"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    hour: Mapped[datetime]
    api_key_id: Mapped[UUID | None]
    operation_name: Mapped[str | None]
    requests: Mapped[int] = bigint_column()
    errors: Mapped[int] = bigint_column()
    cost: Mapped[int] = bigint_column()
    duration: Mapped[float]
    sketch: Mapped[dict[str, Any]] = jsonb_column("{}")
