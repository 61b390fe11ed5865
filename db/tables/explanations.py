"""Explanations of what model versions predict."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, created_by_column, enum_column, filter_index, jsonb_column, now_column, uuid_primary_key
from db.core.policy import Owned


class ExplanationMethod(StrEnum):
    """How predictions are explained."""

    TREE_SHAP = "tree_shap"
    LINEAR = "linear"
    PERMUTATION = "permutation"
    PARTIAL_DEPENDENCE = "partial_dependence"
    OCCLUSION = "occlusion"
    INTEGRATED_GRADIENTS = "integrated_gradients"


class Explanation(Table, policy=Owned()):
    """What the predictions of a model version depend on. Its status is that of its job, which a retry replaces.

    `attributions` is [{feature, meanAbsolute, mean, standardDeviation, classLabel}], written when it completes, as is `data`, unless that is
    larger than a row may hold and lies in an artifact.
    """

    __tablename__ = "explanations"
    output_kind = "explanation"
    __table_args__ = tuple(filter_index("explanations", column) for column in ("model_version_id", "run_id", "item_id"))

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    created_by_id: Mapped[UUID | None] = created_by_column()
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="RESTRICT"), index=True)
    model_version_id: Mapped[UUID] = mapped_column(ForeignKey("model_versions.id", ondelete="RESTRICT"))
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    dataset_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("dataset_versions.id", ondelete="RESTRICT"), index=True)
    item_id: Mapped[UUID | None] = mapped_column(ForeignKey("dataset_items.id", ondelete="SET NULL"))
    method: Mapped[ExplanationMethod] = enum_column("method", ExplanationMethod)
    attributions: Mapped[list[Any]] = jsonb_column("[]")
    data: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    additivity_error: Mapped[float | None]
    created_at: Mapped[datetime] = now_column()
